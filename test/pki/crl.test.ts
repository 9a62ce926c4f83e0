import { X509Certificate } from "node:crypto";
import * as pkijs from "pkijs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ascii, type Bytes, concat, fromHex, toHex } from "../../src/pki/bytes.ts";
import {
  CrlChecker,
  type CrlEntry,
  CrlError,
  type CrlParameters,
  crlChunks,
  crlEntryLength,
  crlLength,
  encodeCrlEntry,
  parseCrl,
  planCrl,
  signCrl,
  writeCrlEntry,
} from "../../src/pki/crl.ts";
import { bitString, context, integer, octetString, oid, sequence, time, tlv } from "../../src/pki/der.ts";
import { generateKeyPair, importStreamSigner, type KeyAlgorithm, parseSpki } from "../../src/pki/keys.ts";
import { importStreamVerifier } from "../../src/pki/stream-verifier.ts";
import { hashOf, keyBitsOf, type OpensslCa, opensslCa } from "../support/openssl.ts";

let ca: OpensslCa;
let caKey: Bytes;
let caSpki: Bytes;
beforeAll(() => {
  ca = opensslCa();
  ca.files.run("pkcs8", "-topk8", "-nocrypt", "-in", "ca.key", "-outform", "DER", "-out", "ca.pk8");
  caKey = ca.files.read("ca.pk8");
  const spki = new X509Certificate(ca.caDer).publicKey.export({ format: "der", type: "spki" });
  caSpki = new Uint8Array(spki);
});
afterAll(() => ca.files.remove());

const THIS_UPDATE = new Date("2026-11-23T10:00:00Z");
const NEXT_UPDATE = new Date("2026-11-30T10:00:00Z");
const SHARD = "http://pki.test/.well-known/pki/crl/iss-one/17";

const ENTRIES: readonly CrlEntry[] = [
  { serial: "7f0123456789abcdef0123456789abcd", revokedAt: new Date("2026-01-02T03:04:05Z"), reason: 1 },
  { serial: "ff0123456789abcdef0123456789abcdef012345", revokedAt: new Date("2024-02-29T23:59:59Z"), reason: 0 },
  { serial: "01", revokedAt: new Date("2049-12-31T23:59:59Z"), reason: 6 },
  { serial: "80", revokedAt: new Date("2050-01-01T00:00:00Z"), reason: 10 },
  ...[2, 3, 4, 5, 9].map((reason) => ({ serial: `5${reason}`, revokedAt: new Date("2026-06-06T06:06:06Z"), reason })),
];

function encoded(entries: readonly CrlEntry[]): Bytes {
  return concat(...entries.map(({ serial, revokedAt, reason }) => encodeCrlEntry(serial, revokedAt, reason)));
}

function parameters(entriesLength: number, more: Partial<CrlParameters> = {}): CrlParameters {
  return {
    issuer: ca.issuerName,
    algorithmIdentifier: importStreamSigner(caKey).algorithmIdentifier,
    thisUpdate: THIS_UPDATE,
    nextUpdate: NEXT_UPDATE,
    number: 1_795_000_000_123,
    authorityKeyId: hashOf("sha1", keyBitsOf(ca.caDer)),
    distributionPoint: null,
    entriesLength,
    ...more,
  };
}

async function* inPieces(octets: Bytes, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < octets.length; at += size) yield octets.subarray(at, at + size);
}

/** A finished CRL, its entries passing in pieces. */
async function built(entries: Bytes, more: Partial<CrlParameters> = {}, key = caKey, size = 37): Promise<Bytes> {
  const signer = importStreamSigner(key);
  const plan = planCrl(parameters(entries.length, { algorithmIdentifier: signer.algorithmIdentifier, ...more }));
  const signature = await signCrl(plan, signer, inPieces(entries, size));
  const chunks: Uint8Array[] = [];
  for await (const chunk of crlChunks(plan, signature, inPieces(entries, size))) chunks.push(chunk);
  const der = concat(...chunks);
  expect(der.length).toBe(crlLength(plan, signature.length));
  return der;
}

function text(der: Bytes): string {
  ca.files.write("list.crl", der);
  return ca.files.run("crl", "-inform", "DER", "-in", "list.crl", "-noout", "-text").text;
}

describe("building", () => {
  test("openssl verifies the list and reads the same entries, number, key identifier", async () => {
    const der = await built(encoded(ENTRIES));
    const read = text(der);
    const verified = ca.files.run("crl", "-inform", "DER", "-in", "list.crl", "-CAfile", "ca.pem", "-noout");
    expect(verified.stderr).toContain("verify OK");
    expect(read.match(/Serial Number: ([0-9A-F]+)/g)?.map((line) => line.slice(15).toLowerCase())).toEqual(
      ENTRIES.map((entry) => entry.serial),
    );
    expect(read).toContain("Version 2");
    expect(read).toContain("Revocation Date: Feb 29 23:59:59 2024 GMT");
    expect(read).toContain("Revocation Date: Jan  1 00:00:00 2050 GMT");
    expect(read).toMatch(/X509v3 CRL Number: \s+1795000000123/);
    expect(read.match(/X509v3 CRL Reason Code/g)).toHaveLength(ENTRIES.length - 1);
    expect(read).toContain("Key Compromise");
    expect(read).toContain("Certificate Hold");
    expect(read).not.toContain("Unspecified");
    expect(read).not.toContain("Issuing Distribution Point");
  });

  test("openssl verify refuses the revoked leaf with it, and takes it with an empty list", async () => {
    const pem = (der: Bytes): void => {
      ca.files.write("list.crl", der);
      ca.files.run("crl", "-inform", "DER", "-in", "list.crl", "-out", "list.pem");
    };
    const verify = ["verify", "-crl_check", "-x509_strict", "-CAfile", "ca.pem", "-CRLfile", "list.pem", "leaf.pem"];
    const current = { thisUpdate: new Date(Date.now() - 60_000), nextUpdate: new Date(Date.now() + 3_600_000) };
    pem(await built(encoded(ENTRIES), current));
    expect(ca.files.try(...verify).stderr).toContain("certificate revoked");
    pem(await built(new Uint8Array(0), current));
    expect(ca.files.run(...verify).text).toContain("leaf.pem: OK");
  });

  test("no entries, no revokedCertificates", async () => {
    const der = await built(new Uint8Array(0));
    expect(text(der)).toContain("No Revoked Certificates.");
    expect(parseCrl(der).entries).toEqual([]);
  });

  test("a shard names its distribution point, critical, octet for octet the URI given", async () => {
    const der = await built(encoded(ENTRIES), { distributionPoint: SHARD });
    expect(text(der)).toMatch(
      /Issuing Distribution Point: critical\s+Full Name:\s+URI:http:\/\/pki\.test\/\.well-known/,
    );
    expect(text(der)).not.toContain("Only User");
    // distributionPoint [0], fullName [0], uniformResourceIdentifier [6]
    expect(toHex(der)).toContain(toHex(context(0, true, context(0, true, context(6, false, ascii(SHARD))))));
    expect(parseCrl(der).distributionPoint).toBe(SHARD);
    const users = await built(new Uint8Array(0), { distributionPoint: SHARD, onlyContainsUserCerts: true });
    expect(text(users)).toContain("Only User Certificates");
    expect(parseCrl(users).onlyContainsUserCerts).toBe(true);
  });

  test.each<KeyAlgorithm>(["ECDSA-P256", "ECDSA-P384", "ECDSA-P521", "RSA-2048", "Ed25519"])(
    "the length is known before the first octet leaves: %s",
    async (algorithm) => {
      const { pkcs8, spki } = await generateKeyPair(algorithm);
      const entries = encoded(ENTRIES);
      const lengths = new Set<number>();
      for (let i = 0; i < (algorithm === "ECDSA-P256" ? 40 : 2); i++) {
        const der = await built(entries, {}, pkcs8, 1000);
        lengths.add(der.length);
        const checker = new CrlChecker({ verifier: (id) => importStreamVerifier(parseSpki(spki), id) });
        checker.push(der);
        expect(checker.finish().entryCount).toBe(ENTRIES.length);
      }
      if (algorithm === "ECDSA-P256") expect(lengths.size).toBeGreaterThan(1);
    },
  );

  test("RSASSA-PSS", async () => {
    const { pkcs8, spki } = await generateKeyPair("RSA-2048");
    const signer = importStreamSigner(pkcs8, { pss: true });
    const plan = planCrl(parameters(0, { algorithmIdentifier: signer.algorithmIdentifier }));
    const signature = await signCrl(plan, signer, []);
    const checker = new CrlChecker({ verifier: (id) => importStreamVerifier(parseSpki(spki), id) });
    for await (const chunk of crlChunks(plan, signature, [])) checker.push(chunk);
    expect(checker.finish().entryCount).toBe(0);
  });

  test("numbers: zero, above 2^53, up to 2^159", async () => {
    for (const number of [0, 127, 128, Number.MAX_SAFE_INTEGER, 2n ** 64n, 2n ** 159n - 1n]) {
      expect(parseCrl(await built(new Uint8Array(0), { number })).number).toBe(BigInt(number));
    }
    for (const number of [-1, 2n ** 159n]) expect(() => planCrl(parameters(0, { number }))).toThrow(RangeError);
  });

  test("entries of another length than planned are noticed, in both passes", async () => {
    const entries = encoded(ENTRIES);
    for (const wrong of [entries.length - 1, entries.length + 1]) {
      const plan = planCrl(parameters(wrong));
      await expect(signCrl(plan, importStreamSigner(caKey), [entries])).rejects.toThrow(RangeError);
      const run = async (): Promise<void> => {
        for await (const _ of crlChunks(plan, new Uint8Array(70), [entries]));
      };
      await expect(run()).rejects.toThrow(RangeError);
    }
  });

  test("a list above 16 MB, whose lengths take four octets", async () => {
    const serial = new Uint8Array(17).fill(0x5a);
    const each = crlEntryLength(serial, Date.UTC(2026, 0), 1);
    const count = 400_000;
    function* entries(): Generator<Uint8Array> {
      for (let from = 0; from < count; from += 1000) {
        const out = new Uint8Array(1000 * each);
        for (let i = 0; i < 1000; i++) {
          new DataView(serial.buffer).setUint32(13, from + i);
          writeCrlEntry(out, i * each, serial, Date.UTC(2026, 0, 1, 0, 0, i), 1);
        }
        yield out;
      }
    }
    const signer = importStreamSigner(caKey);
    const plan = planCrl(parameters(count * each));
    const signature = await signCrl(plan, signer, entries());
    const checker = new CrlChecker({ verifier: (id) => importStreamVerifier(parseSpki(caSpki), id) });
    const chunks: Uint8Array[] = [];
    for await (const chunk of crlChunks(plan, signature, entries())) {
      checker.push(chunk);
      chunks.push(chunk);
    }
    expect(checker.finish()).toMatchObject({ entryCount: count, length: crlLength(plan, signature.length) });
    ca.files.write("large.crl", concat(...chunks));
    const ran = ca.files.run("crl", "-inform", "DER", "-in", "large.crl", "-CAfile", "ca.pem", "-noout", "-crlnumber");
    expect(ran.stderr).toContain("verify OK");
  });

  test("entries have the length that is said before", () => {
    for (const { serial, revokedAt, reason } of ENTRIES) {
      const octets = fromHex(serial);
      const length = crlEntryLength(octets, revokedAt.getTime(), reason);
      const out = new Uint8Array(length + 2).fill(0xee);
      expect(writeCrlEntry(out, 1, octets, revokedAt.getTime(), reason)).toBe(length + 1);
      expect(out.slice(1, -1)).toEqual(encodeCrlEntry(serial, revokedAt, reason));
      expect([out[0], out.at(-1)]).toEqual([0xee, 0xee]);
    }
    expect(crlEntryLength(new Uint8Array(16).fill(0x7f), Date.UTC(2026, 0), 0)).toBe(35);
    expect(crlEntryLength(new Uint8Array(16).fill(0x80), Date.UTC(2026, 0), 1)).toBe(50);
  });

  test("what cannot be an entry is refused", () => {
    const at = new Date();
    for (const reason of [-1, 7, 8, 11, 1.5, Number.NaN])
      expect(() => encodeCrlEntry("01", at, reason)).toThrow(RangeError);
    for (const serial of ["", "0001", "00".repeat(2), "11".repeat(21)]) {
      expect(() => encodeCrlEntry(serial, at, 0)).toThrow(RangeError);
    }
    expect(() => encodeCrlEntry("01", new Date(Number.NaN), 0)).toThrow(RangeError);
  });
});

describe("reading", () => {
  test("ours come back as they were", async () => {
    const der = await built(encoded(ENTRIES), { distributionPoint: SHARD });
    const crl = parseCrl(der);
    expect(crl.entries).toEqual(ENTRIES);
    expect(crl).toMatchObject({ number: 1_795_000_000_123n, thisUpdate: THIS_UPDATE, nextUpdate: NEXT_UPDATE });
    expect(crl.issuer).toEqual(ca.issuerName);
    expect(crl.authorityKeyId).toEqual(hashOf("sha1", keyBitsOf(ca.caDer)));
    expect([crl.length, crl.entryCount]).toEqual([der.length, ENTRIES.length]);
  });

  test("in pieces of any size the same, with a signature that holds", async () => {
    const many = Array.from({ length: 500 }, (_, i) => ENTRIES[i % ENTRIES.length] as CrlEntry);
    const der = await built(encoded(many));
    for (const size of [1, 2, 3, 7, 49, 50, 1000, 65_536, 1_000_000]) {
      const seen: CrlEntry[] = [];
      const checker = new CrlChecker({
        verifier: (id) => importStreamVerifier(parseSpki(caSpki), id),
        onEntry: (entry) => void seen.push(entry),
      });
      for (let at = 0; at < der.length; at += size) checker.push(der.subarray(at, at + size));
      expect(checker.finish().entryCount).toBe(500);
      expect(seen).toEqual(many);
    }
  });

  test("the lists of openssl ca", () => {
    ca.files.write(
      "index.txt",
      `R\t301231235959Z\t260101000000Z,superseded\t${ca.leafSerial.toUpperCase()}\tunknown\t/CN=leaf\n`,
    );
    ca.files.write("number.txt", "0A\n");
    ca.files.write(
      "list.cnf",
      "[ca]\ndefault_ca=c\n[c]\ndatabase=index.txt\ncrlnumber=number.txt\ndefault_md=sha256\ndefault_crl_days=7\ncrl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid\n",
    );
    ca.files.run(
      ...["ca", "-config", "list.cnf", "-gencrl", "-cert", "ca.pem", "-keyfile", "ca.key", "-out", "their.pem"],
    );
    ca.files.run("crl", "-in", "their.pem", "-outform", "DER", "-out", "their.crl");
    const crl = parseCrl(ca.files.read("their.crl"));
    expect(crl.entries).toEqual([{ serial: ca.leafSerial, revokedAt: new Date("2026-01-01T00:00:00Z"), reason: 4 }]);
    expect(crl.number).toBe(10n);
    expect(crl.authorityKeyId).toEqual(hashOf("sha1", keyBitsOf(ca.caDer)));
  });

  test("pkijs reads ours alike", async () => {
    const der = await built(encoded(ENTRIES), { distributionPoint: SHARD });
    const read = pkijs.CertificateRevocationList.fromBER(der);
    const theirs = read.revokedCertificates?.map((entry) => {
      const octets = new Uint8Array(entry.userCertificate.valueBlock.valueHexView);
      const reason = entry.crlEntryExtensions?.extensions[0]?.parsedValue.valueBlock.valueDec ?? 0;
      return {
        serial: toHex(octets[0] === 0 ? octets.slice(1) : octets),
        revokedAt: entry.revocationDate.value,
        reason,
      };
    });
    expect(theirs).toEqual(ENTRIES);
  });

  test("a changed octet anywhere is noticed", async () => {
    const der = await built(encoded(ENTRIES.slice(0, 2)));
    for (let i = 0; i < der.length; i++) {
      const changed = der.slice();
      changed[i] = (changed[i] as number) ^ 0x01;
      const checker = new CrlChecker({ verifier: (id) => importStreamVerifier(parseSpki(caSpki), id) });
      const run = (): void => {
        checker.push(changed);
        checker.finish();
      };
      expect(run, `octet ${i}`).toThrow();
    }
  });

  test("another key, of the same kind or not, is noticed", async () => {
    const der = await built(encoded(ENTRIES));
    for (const algorithm of ["ECDSA-P256", "ECDSA-P384", "RSA-2048", "Ed25519"] as const) {
      const { spki } = await generateKeyPair(algorithm);
      const checker = new CrlChecker({ verifier: (id) => importStreamVerifier(parseSpki(spki), id) });
      checker.push(der);
      expect(() => checker.finish()).toThrow(CrlError);
    }
  });

  test("truncated, continued, indefinite and too long lists are refused with CrlError", async () => {
    const der = await built(encoded(ENTRIES));
    for (let cut = 0; cut < der.length; cut += 5) expect(() => parseCrl(der.slice(0, cut))).toThrow(CrlError);
    const bad = [
      concat(der, new Uint8Array(1)),
      Uint8Array.from([0x30, 0x80, ...der.slice(4), 0, 0]),
      new Uint8Array(10_000_000),
      new Uint8Array(10_000_000).fill(0x30),
      new Uint8Array(16_777_217),
    ];
    for (const octets of bad) expect(() => parseCrl(octets)).toThrow(CrlError);
  });

  /** A list without signature that counts, whose entries are these octets. */
  function shaped(entries: Bytes[], extensions: Bytes[] = [], version = integer(1)): Bytes {
    const algorithm = sequence(oid("1.2.840.10045.4.3.2"));
    const list = entries.length === 0 ? [] : [sequence(...entries)];
    const tail = extensions.length === 0 ? [] : [context(0, true, sequence(...extensions))];
    const tbs = sequence(version, algorithm, ca.issuerName, time(THIS_UPDATE), time(NEXT_UPDATE), ...list, ...tail);
    return sequence(tbs, algorithm, bitString(new Uint8Array(8)));
  }
  const entry = (...parts: Bytes[]): Bytes => sequence(integer(5), time(THIS_UPDATE), ...parts);
  const TRUE = new Uint8Array([1, 1, 0xff]);

  test("forms that others write are read", () => {
    const invalidity = sequence(oid("2.5.29.24"), octetString(tlv(0x18, ascii("20260101000000Z"))));
    const reason = sequence(oid("2.5.29.21"), octetString(tlv(0x0a, new Uint8Array([3]))));
    const crl = parseCrl(shaped([entry(), entry(sequence(invalidity, reason))]));
    expect(crl.entries.map((one) => one.reason)).toEqual([0, 3]);
    expect(crl.number).toBeNull();
  });

  test("forms that are wrong are not", () => {
    const deltaIndicator = sequence(oid("2.5.29.27"), TRUE, octetString(integer(1)));
    const point = context(0, true, context(0, true, context(6, false, ascii(SHARD))));
    const scope = (value: Bytes, critical: Bytes[] = [TRUE]): Bytes =>
      sequence(oid("2.5.29.28"), ...critical, octetString(value));
    const number = sequence(oid("2.5.29.20"), octetString(integer(1)));
    const raw = (serial: Bytes, when: Bytes): Bytes => sequence(serial, when);
    const utc = (digits: string): Bytes => tlv(0x17, ascii(digits));
    const bad = [
      shaped([entry()], [], integer(0)),
      shaped([entry()], [deltaIndicator]),
      shaped([entry()], [number, number]),
      shaped([entry()], [scope(sequence(point), [])]),
      shaped([entry()], [scope(sequence(point, context(4, false, new Uint8Array([0xff]))))]),
      shaped([entry()], [scope(sequence(context(1, false, new Uint8Array([0]))))]),
      shaped([entry(sequence())]),
      shaped([entry(sequence(sequence(oid("2.5.29.29"), TRUE, octetString(sequence()))))]),
      shaped([entry(sequence(sequence(oid("2.5.29.21"), octetString(tlv(0x0a, new Uint8Array([7]))))))]),
      shaped([raw(tlv(2, new Uint8Array([0x80])), time(THIS_UPDATE))]),
      shaped([raw(tlv(2, new Uint8Array([0, 1])), time(THIS_UPDATE))]),
      shaped([raw(tlv(2), time(THIS_UPDATE))]),
      shaped([raw(integer(new Uint8Array(21).fill(1)), time(THIS_UPDATE))]),
      ...["2602290000000Z", "260229000000Z", "261301000000Z", "260100000000Z", "260101240000Z", "260101006000Z"].map(
        (d) => shaped([raw(integer(5), utc(d))]),
      ),
      ...["260101000060Z", "26010100000 Z", "2601010000Z", "260101000000+"].map((d) =>
        shaped([raw(integer(5), utc(d))]),
      ),
      shaped([sequence(integer(5))]),
      shaped([new Uint8Array([0x30, 0])]),
      shaped([sequence(integer(5), time(THIS_UPDATE), octetString(new Uint8Array(5_000)))]),
      shaped([new Uint8Array([0x31, 0])]),
    ];
    for (const [i, der] of bad.entries()) expect(() => parseCrl(der), `case ${i}`).toThrow(CrlError);
    expect(() => parseCrl(shaped([raw(integer(5), utc("240229000000Z"))]))).not.toThrow();
    expect(() => parseCrl(shaped([raw(integer(5), tlv(0x18, ascii("21000229000000Z")))]))).toThrow(CrlError);
    expect(() => parseCrl(shaped([raw(integer(5), tlv(0x18, ascii("24000229000000Z")))]))).not.toThrow();
  });
});
