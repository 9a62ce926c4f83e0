import { describe, expect, it } from "vitest";
import { ascii, fromBase64, fromHex, toBase64, toHex } from "../../src/pki/bytes.ts";
import { parseCertificate, randomSerial, verifyIssued } from "../../src/pki/certificate.ts";
import { parseSan } from "../../src/pki/general-names.ts";
import {
  generateKeyPair,
  importSigner,
  importStreamSigner,
  isKeyPair,
  KEY_ALGORITHMS,
  parseSpki,
  publicKeyOf,
  verify,
} from "../../src/pki/keys.ts";
import { lintCertificate } from "../../src/pki/lint/index.ts";
import { encodeName } from "../../src/pki/names.ts";
import { rootCertificate } from "../support/ca-certificates.ts";

/** What test/pki proves in Node holds in workerd, where WebCrypto, URL and the octet helpers are other code. */

const CASES = KEY_ALGORITHMS.flatMap((algorithm) =>
  (algorithm.startsWith("RSA") ? [false, true] : [false]).map((pss) => ({ algorithm, pss })),
);

describe("keys in workerd", () => {
  it.each(CASES)("$algorithm, PSS $pss: made, signing whole and streamed, read back", async ({ algorithm, pss }) => {
    const { spki, pkcs8 } = await generateKeyPair(algorithm);
    const publicKey = parseSpki(spki);
    expect(publicKey.name).toBe(algorithm);
    expect(toHex(await publicKeyOf(pkcs8))).toBe(toHex(spki));
    expect(await isKeyPair(publicKey, pkcs8)).toBe(true);
    const signer = await importSigner(pkcs8, { pss });
    const data = ascii("to be signed");
    const signature = await signer.sign(data);
    expect(await verify(publicKey, signer.algorithmIdentifier, signature, data)).toBe(true);
    expect(await verify(publicKey, signer.algorithmIdentifier, signature, ascii("to be Signed"))).toBe(false);
    const stream = importStreamSigner(pkcs8, { pss });
    stream.update(data.subarray(0, 4));
    stream.update(data.subarray(4));
    expect(await verify(publicKey, stream.algorithmIdentifier, stream.finish(), data)).toBe(true);
    const root = parseCertificate(
      await rootCertificate(
        {
          serial: randomSerial((n) => crypto.getRandomValues(new Uint8Array(n))),
          notBefore: new Date("2026-01-01T00:00:00Z"),
          notAfter: new Date("2036-01-01T00:00:00Z"),
          subject: encodeName({ common_name: "Root" }),
          publicKey,
        },
        signer,
      ),
    );
    expect(await verifyIssued(root, root)).toBe(true);
    expect(lintCertificate(root.der, { kind: "root", issuer: null })).toEqual([]);
  });

  it("refuses a private key that is none with its typed error", async () => {
    const broken = fromHex("302e020100300506032b657004220420").slice();
    await expect(importSigner(broken)).rejects.toThrow(expect.objectContaining({ code: "der_invalid" }));
    const empty = fromHex("300e020100300506032b657004020400");
    await expect(importSigner(empty)).rejects.toThrow(expect.objectContaining({ code: "der_invalid" }));
  });
});

describe("names and octets in workerd", () => {
  it.each([
    ["bücher.example", "xn--bcher-kva.example"],
    ["*.BÜCHER.example", "*.xn--bcher-kva.example"],
    ["xn--bcher-kva.example", "xn--bcher-kva.example"],
    ["日本語。jp", "xn--wgv71a119e.jp"],
    ["::ffff:1.2.3.4", "::ffff:102:304"],
    ["spiffe://Trust.Example/ns/A", "spiffe://trust.example/ns/A"],
  ])("%s is %s", (text, value) => {
    expect(parseSan(text).value).toBe(value);
  });

  it.each([
    "xn--a.example",
    "xn--zzzzzzzz99999.example",
    "xn--.example",
    "a\u00ad\u0000.example",
    "１.２.３.４",
    "http://a:99999/",
  ])("%j is refused", (text) => {
    expect(() => parseSan(text)).toThrow(expect.objectContaining({ code: "invalid_name" }));
  });

  it("hex and base64 by the native methods are ours", () => {
    const all = Uint8Array.from({ length: 256 }, (_, i) => i);
    expect(toHex(fromHex(toHex(all)))).toBe(toHex(all));
    expect(toHex(all).slice(0, 8)).toBe("00010203");
    expect(toHex(fromBase64(toBase64(all)))).toBe(toHex(all));
    expect(toBase64(new Uint8Array([0xfb, 0xff]))).toBe("+/8=");
  });
});
