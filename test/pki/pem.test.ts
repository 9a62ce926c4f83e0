import { describe, expect, it } from "vitest";
import { equal } from "../../src/pki/bytes.ts";
import { certificatesFromPem, decodePem, encodePem, privateKeyFromPem } from "../../src/pki/pem.ts";
import { random } from "./support.ts";

const der = random(100);
const block = encodePem("CERTIFICATE", der);

describe("PEM (RFC 7468)", () => {
  it("writes lines of 64 and reads them back, also with CRLF, text around and spaces at line ends", () => {
    expect(block.split("\n").map((line) => line.length)).toEqual([27, 64, 64, 8, 25, 0]);
    for (const text of [
      block,
      block.replaceAll("\n", "\r\n"),
      `subject=x\n${block}trailer`,
      block.replaceAll("\n", " \n"),
    ]) {
      const [only, ...more] = decodePem(text);
      expect(more).toEqual([]);
      expect(only?.label).toBe("CERTIFICATE");
      expect(equal(only?.der ?? new Uint8Array(0), der)).toBe(true);
    }
    for (const n of [0, 1, 47, 48, 49, 96]) {
      const some = random(n);
      expect(equal(decodePem(encodePem("X", some))[0]?.der ?? der, some)).toBe(true);
    }
  });

  it("reads several blocks in order", () => {
    const blocks = decodePem(`${block}${encodePem("PRIVATE KEY", random(3))}\n# note\n${block}`);
    expect(blocks.map(({ label }) => label)).toEqual(["CERTIFICATE", "PRIVATE KEY", "CERTIFICATE"]);
    expect(certificatesFromPem(`${block}${block}`)).toHaveLength(2);
  });

  it.each([
    ["no block", "hello", "no PEM block"],
    ["nothing", "", "no PEM block"],
    ["no end", block.slice(0, 120), "has no end"],
    ["a begin inside", block.slice(0, 93) + block, "has no end"],
    ["another end", block.replace("END CERTIFICATE", "END X509 CRL"), "ends as X509 CRL"],
    ["headers", block.replace("-----\n", "-----\nProc-Type: 4,ENCRYPTED\n\n"), "headers"],
    ["another alphabet", block.replace(/\n./, "\n_"), "base64"],
    ["padding inside", block.replace(/\n..../, "\nAA=="), "base64"],
  ])("refuses %s", (_, text, message) => {
    expect(() => decodePem(text)).toThrow(expect.objectContaining({ code: "invalid_encoding" }));
    expect(() => decodePem(text)).toThrow(message);
  });

  it("bounds its input", () => {
    expect(() => decodePem("-".repeat(10_000_000))).toThrow("longer than");
    expect(() => decodePem("-----BEGIN X-----\n".repeat(50_000))).toThrow("has no end");
    expect(() => decodePem(encodePem("X", new Uint8Array(1)).repeat(1001))).toThrow("more than 1000");
  });

  it("keeps certificates and keys apart", () => {
    expect(() => certificatesFromPem(encodePem("PRIVATE KEY", der))).toThrow("found PRIVATE KEY");
    expect(() => privateKeyFromPem(block)).toThrow("found CERTIFICATE");
  });
});
