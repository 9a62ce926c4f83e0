import { describe, expect, test } from "vitest";
import { type Bytes, equal, toBase64, toHex } from "../../src/pki/bytes.ts";
import { buildCertId, buildOcspRequest, decodeOcspPath, OcspError } from "../../src/pki/ocsp.ts";

/** A request whose hashes and serial are these octets, so that its base64 has what a case needs. */
function request(nameHash: number[], keyHash: number[] = [], nonce: number | null = null): Bytes {
  const hash = (start: number[]): Bytes => Uint8Array.from({ length: 20 }, (_, i) => start[i] ?? 0x11 + i);
  const certId = buildCertId("sha1", hash(nameHash), hash(keyHash), "0badc0de0badc0de0badc0de0badc0de");
  return buildOcspRequest([certId], nonce === null ? null : new Uint8Array(nonce).fill(0x5a));
}

const ALL_ONES = [0xff, 0xff, 0xff, 0xff];
const plain = request([]);
/** Base64 with one `//` or longer, at an unknown alignment: the offset of the hash decides. */
const slashed = request(ALL_ONES);
const twice = request(ALL_ONES, ALL_ONES);
const plus = request([0x01, 0xfb, 0xef, 0xbe, 0x01, 0x02, 0xfb, 0xef, 0xbe]);
const unpadded = (text: string): string => text.replace(/=+$/, "");

function statusOf(path: string): string {
  try {
    decodeOcspPath(path);
  } catch (error) {
    if (error instanceof OcspError) return error.status;
    throw error;
  }
  return "accepted";
}

describe("the path form of a request", () => {
  test("the cases have what they are for", () => {
    expect(toBase64(slashed)).toMatch(/\/\//);
    expect(toBase64(twice).match(/\/\/+/g)).toHaveLength(2);
    expect(toBase64(plus)).toContain("+");
    const paddings = [0, 1, 2, 3, 4, 5].map((nonce) => toBase64(request([], [], nonce + 1)).replace(/[^=]/g, ""));
    expect(new Set(paddings)).toEqual(new Set(["", "=", "=="]));
  });

  const forms: [string, (text: string) => string][] = [
    ["as it is", (text) => text],
    ["without padding", unpadded],
    ["percent-encoded in upper case", (text) => encodeURIComponent(text)],
    ["percent-encoded in lower case", (text) => encodeURIComponent(text).replace(/%../g, (code) => code.toLowerCase())],
    ["every character percent-encoded", (text) => text.replace(/./g, (c) => `%${c.charCodeAt(0).toString(16)}`)],
    ["plus turned into a space", (text) => text.replaceAll("+", " ")],
    ["plus turned into %20", (text) => text.replaceAll("+", "%20")],
    ["after more slashes", (text) => `///${text}`],
    ["after encoded slashes", (text) => `/%2F%2f${text}`],
    ["URL-safe", (text) => unpadded(text).replaceAll("+", "-").replaceAll("/", "_")],
    ["double slashes merged", (text) => text.replace(/\/\/+/g, "/")],
    ["double slashes merged, padding lost", (text) => unpadded(text).replace(/\/\/+/g, "/")],
    ["lines of 64, percent-encoded", (text) => text.replace(/.{64}/g, "$&%0A")],
    ["lines of 4 with carriage returns, in lower case", (text) => text.replace(/.{4}/g, "$&%0d%0a")],
    ["a line break before it and within its padding", (text) => `%0A${text.replace(/=$/, "%0A=%0A")}`],
    ["before a slash", (text) => `${text}/`],
    ["without padding, before slashes", (text) => `${unpadded(text)}/%2F`],
    ["decoded and merged", (text) => text.replaceAll("+", " ").replace(/\/\/+/g, "/")],
  ];

  test.each(forms)("%s", (_name, form) => {
    for (const der of [plain, slashed, plus, ...[1, 2, 3, 4, 16, 32].map((n) => request(ALL_ONES, [], n))]) {
      expect(toHex(decodeOcspPath(form(toBase64(der))))).toBe(toHex(der));
    }
  });

  test("two places merged: the way that reads as a request is found", () => {
    const merged = toBase64(twice).replace(/\/\/+/g, "/");
    const found = decodeOcspPath(merged, () => true);
    expect(found).toHaveLength(twice.length);
    expect(
      decodeOcspPath(merged, (candidate) => equal(candidate.certIds[0]?.issuerNameHash ?? plain, nameHashOf(twice))),
    ).toEqual(twice);
  });

  function nameHashOf(der: Bytes): Bytes {
    const at = der.indexOf(0x14) + 1;
    return der.slice(at, at + 20);
  }

  test("two slashes in one hash allow more than one reading; accept chooses, and without it one is still taken", () => {
    const close = request([0xff, 0xff, 0xff, 0xff, 0x01, 0x3f, 0xf0, 0x3f, 0xfc, 0x0f]);
    const text = toBase64(close);
    expect(text.match(/\/+/g)?.length).toBeGreaterThan(1);
    const merged = text.replace(/\/\/+/g, "/");
    const asked = nameHashOf(close);
    expect(decodeOcspPath(merged, ({ certIds }) => equal(certIds[0]?.issuerNameHash ?? plain, asked))).toEqual(close);
    expect(decodeOcspPath(merged, () => false)).toHaveLength(close.length);
  });

  test("anything else is malformed", () => {
    const text = toBase64(plain);
    const bad = [
      ...[
        "",
        "/",
        "//",
        "M",
        "MA",
        "MAAA",
        "%",
        "%4",
        "%4Z",
        "M%",
        "0badc0de",
        "hello",
        "=",
        "====",
        "\u00e9",
        "%FF%FE",
      ],
      ...[
        `${text}=`,
        `${text}AAAA`,
        text.slice(0, -5),
        `${text}?x=1`,
        `${text}/A`,
        `${text}%20`,
        `${text}%09`,
        `A${text}`,
      ],
      ...[
        text.replace("M", "N"),
        `${text.slice(0, 8)}=${text.slice(8)}`,
        encodeURIComponent(encodeURIComponent(`${text}+`)),
      ],
      ...[
        "MIAA".repeat(100),
        "MIL/////".repeat(3),
        "M".repeat(200_000),
        `MIIn${"/".repeat(13_000)}`,
        "/".repeat(30_000),
      ],
    ];
    for (const path of bad) expect(statusOf(path), path.slice(0, 60)).toBe("malformedRequest");
  });

  test("an unused bit that is set is malformed, so that a request has one form", () => {
    const der = [1, 2, 3].map((n) => request([], [], n)).find((candidate) => candidate.length % 3 === 1) ?? plain;
    const text = unpadded(toBase64(der));
    expect(text.length % 4).toBe(2);
    const last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const next = last[last.indexOf(text.at(-1) ?? "A") + 1] ?? "/";
    expect(statusOf(text)).toBe("accepted");
    expect(statusOf(text.slice(0, -1) + next)).toBe("malformedRequest");
  });

  test("the work for putting slashes back is bounded", () => {
    const hash = [..."\xff\xff\xff\x00\xff\xff\xff\x00\xff\xff\xff\x00\xff\xff\xff"].map((c) => c.charCodeAt(0));
    const many = toBase64(request(hash, hash)).replace(/\/\/+/g, "/");
    let asked = 0;
    try {
      decodeOcspPath(many, () => {
        asked++;
        return false;
      });
    } catch (error) {
      expect(error).toBeInstanceOf(OcspError);
    }
    expect(asked).toBeLessThanOrEqual(256);
  });
});
