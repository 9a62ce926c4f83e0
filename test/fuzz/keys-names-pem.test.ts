import { createPublicKey } from "node:crypto";
import { isIP } from "node:net";
import { domainToASCII } from "node:url";
import fc from "fast-check";
import { expect, it } from "vitest";
import { type Bytes, equal, fromBase64, fromHex, toBase64, toHex } from "../../src/pki/bytes.ts";
import { decode, oid, oidOf, timeOf } from "../../src/pki/der.ts";
import { PkiError } from "../../src/pki/errors.ts";
import { decodeGeneralNames, encodeGeneralNames, parseSan } from "../../src/pki/general-names.ts";
import { assertStrongKey, parsePrivateKey, parseSignatureAlgorithm, parseSpki } from "../../src/pki/keys.ts";
import {
  decodeNameConstraints,
  encodeNameConstraints,
  formatNameConstraints,
  isSubset,
  parseNameConstraints,
  violationOf,
} from "../../src/pki/name-constraints.ts";
import { EMPTY_NAME, encodeName, formatName, parseName, subjectOf } from "../../src/pki/names.ts";
import { decodePem, encodePem } from "../../src/pki/pem.ts";
import { encodeSignatureAlgorithm } from "../../src/pki/signing.ts";
import { keyPair } from "../pki/support.ts";
import { attempt, mutated, reencoded, runs } from "./mutate.ts";
import { mutatedTree } from "./tree.ts";

/** The result, or null for the typed error; any other error fails the test. */
function typed<T>(run: () => T): T | null {
  try {
    return run();
  } catch (error) {
    expect(error).toBeInstanceOf(PkiError);
    return null;
  }
}

const PAIRS = await Promise.all(
  (["ECDSA-P256", "ECDSA-P521", "RSA-2048", "Ed25519"] as const).map((name) => keyPair(name)),
);

it("SubjectPublicKeyInfo: what we accept, Node reads alike", () => {
  fc.assert(
    fc.property(mutatedTree(PAIRS.map(({ spki }) => spki)), (input) => {
      const ours = typed(() => parseSpki(input));
      if (ours === null) return;
      expect(equal(reencoded(decode(input)), input)).toBe(true);
      const strong = typed(() => assertStrongKey(ours) === undefined) === true;
      const theirs = attempt(() => createPublicKey({ key: Buffer.from(input), format: "der", type: "spki" }));
      if (theirs === undefined) {
        // Node refuses points that are not on their curve: so must we, before a key is certified.
        if (ours.algorithm === "ECDSA") expect(strong).toBe(false);
        return;
      }
      const kind = { rsa: "RSA", ec: "ECDSA", ed25519: "Ed25519" }[String(theirs.asymmetricKeyType)];
      expect(kind).toBe(ours.algorithm);
      if (ours.algorithm === "RSA") expect(theirs.asymmetricKeyDetails?.modulusLength).toBe(ours.size);
      if (strong) expect(toHex(new Uint8Array(theirs.export({ type: "spki", format: "der" })))).toBe(toHex(input));
    }),
    runs(),
  );
});

it("PrivateKeyInfo and AlgorithmIdentifier: typed errors only, and algorithms mean what they are written as", () => {
  const algorithms = [
    encodeSignatureAlgorithm({ kind: "pss", hash: "SHA-384", saltLength: 48 }),
    encodeSignatureAlgorithm({ kind: "rsa", hash: "SHA-256" }),
    encodeSignatureAlgorithm({ kind: "ecdsa", hash: "SHA-512" }),
  ];
  fc.assert(
    fc.property(mutatedTree(algorithms), mutatedTree(PAIRS.map(({ pkcs8 }) => pkcs8)), (algorithm, pkcs8) => {
      const scheme = typed(() => parseSignatureAlgorithm(algorithm));
      if (scheme !== null) expect(parseSignatureAlgorithm(encodeSignatureAlgorithm(scheme))).toEqual(scheme);
      typed(() => parsePrivateKey(pkcs8));
    }),
    runs(1_000),
  );
});

it("DER values: object identifiers and times survive, octet for octet", () => {
  const values = [oid("1.2.840.113549.1.1.11"), oid(`2.25.${2n ** 127n}`), fromHex("170d3236303131323031303130315a")];
  fc.assert(
    fc.property(mutated(values), (input) => {
      const element = typed(() => decode(input));
      if (element === null) return;
      const dotted = element.tag === 6 ? typed(() => oidOf(element)) : null;
      const arcs = dotted?.split(".").every((arc) => arc.length < 39) ?? false;
      if (dotted !== null && arcs) expect(toHex(oid(dotted))).toBe(toHex(input));
      if (element.tag === 0x17 || element.tag === 0x18) typed(() => timeOf(element));
    }),
    runs(),
  );
});

const label = fc.oneof(
  fc.constantFrom("a", "example", "xn--bcher-kva", "*", "-a", "a_b", "1", "bücher", "日本", "x".repeat(64), ""),
  fc.string({ maxLength: 6, unit: "grapheme" }),
);
const host = fc.array(label, { minLength: 1, maxLength: 5 }).map((labels) => labels.join("."));
const sanText = fc.oneof(
  host,
  fc.ipV4(),
  fc.ipV6(),
  fc.tuple(fc.string({ maxLength: 8 }), host).map(([local, domain]) => `${local}@${domain}`),
  fc
    .tuple(fc.constantFrom("https", "spiffe", "HTTP", "1x"), host, fc.string({ maxLength: 8 }))
    .map(([s, h, p]) => `${s}://${h}/${p}`),
  fc.webUrl(),
  fc.emailAddress(),
  fc.string({ unit: "binary", maxLength: 20 }),
);

it("subject alternative names: typed error or a canonical name that other parsers take for the same", () => {
  fc.assert(
    fc.property(sanText, (text) => {
      const name = typed(() => parseSan(text));
      if (name === null) return;
      expect(parseSan(name.value)).toEqual(name);
      expect(decodeGeneralNames(decode(encodeGeneralNames([name]))).names).toEqual([name]);
      const bare = name.value.replace(/^\*\./, "");
      if (name.type === "dns") {
        expect(domainToASCII(bare)).toBe(bare);
        expect(new URL(`http://${bare}/`).hostname).toBe(bare);
      }
      if (name.type === "ip") expect(isIP(name.value)).toBeGreaterThan(0);
      if (name.type === "uri") expect(URL.canParse(name.value)).toBe(true);
    }),
    runs(),
  );
});

it("distinguished names: what is encoded reads back, mutated ones give typed errors", () => {
  const text = fc.option(fc.string({ unit: "grapheme", maxLength: 70 }), { nil: undefined });
  const subject = fc.record({ common_name: text, organization: text, locality: text, serial_number: text });
  fc.assert(
    fc.property(subject, (wanted) => {
      const der = typed(() => encodeName(wanted));
      if (der === null) return;
      const given = Object.entries(wanted).filter(([, value]) => value !== undefined && value !== "");
      expect(subjectOf(parseName(der))).toEqual(Object.fromEntries(given));
    }),
    runs(1_000),
  );
  const real = encodeName({ country: "CH", organization: "Ünï", common_name: "a.example" });
  fc.assert(
    fc.property(mutatedTree([real]), (input) => {
      const name = typed(() => parseName(input));
      if (name !== null) expect(typeof formatName(name)).toBe("string");
    }),
    runs(),
  );
});

const LIMITS = fc.array(
  fc.constantFrom(
    "DNS:a.example",
    "DNS:b.a.example",
    "DNS:",
    "IP:10.0.0.0/8",
    "IP:10.1.0.0/16",
    "IP:2001:db8::/32",
    "email:a.example",
    "email:.a.example",
    "email:x@a.example",
    "URI:a.example",
    "URI:.a.example",
  ),
  { maxLength: 3 },
);
const NAMES = fc.constantFrom(
  "a.example",
  "b.a.example",
  "*.a.example",
  "c.b.a.example",
  "other.example",
  "10.1.2.3",
  "10.2.0.1",
  "11.0.0.1",
  "2001:db8::1",
  "x@a.example",
  "y@b.a.example",
  "https://a.example/",
  "https://b.a.example/",
  "https://10.1.1.1/",
);

it("name constraints: a subset allows no name that its parent forbids, and DER keeps them", () => {
  const side = fc.record({ permitted: LIMITS, excluded: LIMITS });
  fc.assert(
    fc.property(side, side, NAMES, (childText, parentText, name) => {
      const child = parseNameConstraints([childText]);
      const parent = parseNameConstraints([parentText]);
      if (child !== null) expect(decodeNameConstraints(decode(encodeNameConstraints(child)))).toEqual(child);
      if (child !== null) expect(parseNameConstraints(formatNameConstraints(child))).toEqual(child);
      const own = { names: [parseSan(name)], subject: parseName(EMPTY_NAME) };
      const allowedByChild = violationOf(own, child) === null;
      if (isSubset(child, parent) && allowedByChild) expect(violationOf(own, parent)).toBeNull();
    }),
    runs(),
  );
  const real = parseNameConstraints([
    { permitted: ["DNS:a.example", "IP:10.0.0.0/8"], excluded: ["email:x@a.example"] },
  ]);
  const der = real === null ? [] : [encodeNameConstraints(real)];
  fc.assert(
    fc.property(mutatedTree(der), (input) => {
      const found = typed(() => decodeNameConstraints(decode(input)));
      if (found !== null) expect(decodeNameConstraints(decode(encodeNameConstraints(found)))).toEqual(found);
    }),
    runs(),
  );
});

it("PEM and base64: typed error, or octets that encode to a text of the same octets", () => {
  const block = encodePem(
    "CERTIFICATE",
    Uint8Array.from({ length: 90 }, (_, i) => i),
  );
  const octets = (text: string): Bytes => Uint8Array.from(text, (c) => c.charCodeAt(0));
  const pieces = fc.array(
    fc.constantFrom("-----BEGIN X-----", "-----END X-----", "\n", "\r\n", "AAAA", "AA==", " ", "-", "é"),
    { maxLength: 12 },
  );
  const text = fc.oneof(
    mutated([octets(block + block)]).map((bytes) => String.fromCharCode(...bytes)),
    pieces.map((list) => list.join("")),
  );
  fc.assert(
    fc.property(text, (pem) => {
      for (const { label: kind, der } of typed(() => decodePem(pem)) ?? []) {
        const [again] = decodePem(encodePem(kind, der));
        expect(again?.label).toBe(kind);
        expect(toHex(again?.der ?? new Uint8Array(0))).toBe(toHex(der));
      }
    }),
    runs(),
  );
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom("A", "z", "9", "+", "/", "=", "-", " "), maxLength: 12 }),
      (base64) => {
        const bytes = typed(() => fromBase64(base64));
        if (bytes === null) return;
        expect(toBase64(bytes).replaceAll("=", "")).toBe(base64.replaceAll("=", ""));
        expect(toHex(new Uint8Array(Buffer.from(base64, "base64")))).toBe(toHex(bytes));
      },
    ),
    runs(),
  );
});
