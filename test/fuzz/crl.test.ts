import fc from "fast-check";
import * as pkijs from "pkijs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Bytes, concat, toHex } from "../../src/pki/bytes.ts";
import {
  CrlChecker,
  type CrlEntry,
  CrlError,
  crlChunks,
  encodeCrlEntry,
  parseCrl,
  parseForeignCrl,
  planCrl,
  signCrl,
} from "../../src/pki/crl.ts";
import { decode } from "../../src/pki/der.ts";
import { PkiError } from "../../src/pki/errors.ts";
import { importStreamSigner } from "../../src/pki/keys.ts";
import { type OpensslCa, opensslCa } from "../support/openssl.ts";
import { attempt, mutated, reencoded, runs } from "./mutate.ts";

let ca: OpensslCa;
beforeAll(() => {
  ca = opensslCa();
  ca.files.run("pkcs8", "-topk8", "-nocrypt", "-in", "ca.key", "-outform", "DER", "-out", "ca.pk8");
});
afterAll(() => ca.files.remove());

async function built(entries: Bytes, distributionPoint: string | null): Promise<Bytes> {
  const signer = importStreamSigner(ca.files.read("ca.pk8"));
  const plan = planCrl({
    issuer: ca.issuerName,
    algorithmIdentifier: signer.algorithmIdentifier,
    thisUpdate: new Date("2026-11-23T10:00:00Z"),
    nextUpdate: new Date("2026-11-30T10:00:00Z"),
    number: 1_795_000_000_123,
    authorityKeyId: new Uint8Array(20).fill(3),
    distributionPoint,
    entriesLength: entries.length,
  });
  const signature = await signCrl(plan, signer, [entries]);
  const chunks: Uint8Array[] = [];
  for await (const chunk of crlChunks(plan, signature, [entries])) chunks.push(chunk);
  return concat(...chunks);
}

async function realLists(): Promise<Bytes[]> {
  const at = new Date("2026-06-06T06:06:06Z");
  const entries = concat(
    encodeCrlEntry("7f0123456789abcdef0123456789abcd", at, 1),
    encodeCrlEntry("ff0123456789abcdef0123456789abcd", at, 0),
    encodeCrlEntry("05", new Date("2051-01-01T00:00:00Z"), 6),
  );
  ca.files.write("index.txt", `R\t301231235959Z\t260101000000Z,CAkeyTime,20250101000000Z\t0A0B\tunknown\t/CN=leaf\n`);
  ca.files.write("number.txt", "0A\n");
  ca.files.write(
    "list.cnf",
    "[ca]\ndefault_ca=c\n[c]\ndatabase=index.txt\ncrlnumber=number.txt\ndefault_md=sha256\ndefault_crl_days=7\ncrl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid\n",
  );
  ca.files.run("ca", "-config", "list.cnf", "-gencrl", "-cert", "ca.pem", "-keyfile", "ca.key", "-out", "their.pem");
  ca.files.run("crl", "-in", "their.pem", "-outform", "DER", "-out", "their.crl");
  return [
    await built(new Uint8Array(0), null),
    await built(entries, null),
    await built(entries, "http://pki.test/crl/1"),
    ca.files.read("their.crl"),
  ];
}

/** The value, or null for the parser's own typed error; anything else that is thrown is a failure. */
function accepted<T>(run: () => T): T | null {
  try {
    return run();
  } catch (error) {
    if (error instanceof CrlError) return null;
    throw error;
  }
}

function inPieces(der: Bytes, size: number): { entries: CrlEntry[]; number: bigint | null } {
  const entries: CrlEntry[] = [];
  const checker = new CrlChecker({ onEntry: (entry) => void entries.push(entry) });
  for (let at = 0; at < der.length; at += size) checker.push(der.subarray(at, at + size));
  return { entries, number: checker.finish().number };
}

function entriesOfPkijs(der: Bytes): string[] {
  const entries = pkijs.CertificateRevocationList.fromBER(der).revokedCertificates ?? [];
  return entries.map((entry) => {
    const octets = new Uint8Array(entry.userCertificate.valueBlock.valueHexView);
    const serial = toHex(octets[0] === 0 && octets.length > 1 ? octets.slice(1) : octets);
    return `${serial} ${entry.revocationDate.value.toISOString()}`;
  });
}

/** Serials that `openssl crl` reads, or undefined when it refuses. */
function serialsOfOpenssl(der: Bytes): string[] | undefined {
  ca.files.write("fuzz.crl", der);
  const ran = ca.files.try("crl", "-inform", "DER", "-in", "fuzz.crl", "-noout", "-text");
  if (ran.code !== 0) return undefined;
  return (ran.text.match(/Serial Number: [0-9A-F]+/g) ?? []).map((line) => line.slice(15).toLowerCase());
}

test("lists: a typed error, or strict DER of which pkijs and openssl read the same, in whatever pieces", async () => {
  let taken = 0;
  let opensslLeft = 150;
  fc.assert(
    fc.property(mutated(await realLists()), fc.integer({ min: 1, max: 700 }), (der, size) => {
      const crl = accepted(() => parseCrl(der));
      const pieces = accepted(() => inPieces(der, size));
      expect(pieces).toEqual(crl === null ? null : { entries: crl.entries, number: crl.number });
      if (crl === null) return;
      taken++;
      expect(reencoded(decode(der))).toEqual(der);
      const theirs = attempt(() => entriesOfPkijs(der));
      if (theirs !== undefined) {
        expect(crl.entries.map((entry) => `${entry.serial} ${entry.revokedAt.toISOString()}`)).toEqual(theirs);
      }
      if (opensslLeft-- <= 0) return;
      const serials = serialsOfOpenssl(der);
      if (serials !== undefined) expect(crl.entries.map((entry) => entry.serial)).toEqual(serials);
    }),
    runs(20_000),
  );
  expect(taken).toBeGreaterThan(100);
});

test("foreign lists: a typed error, or at least what our own reader reads", async () => {
  let taken = 0;
  fc.assert(
    fc.property(mutated(await realLists()), (der) => {
      const foreign = attemptPki(() => parseForeignCrl(der));
      if (foreign !== null) taken++;
      const strict = accepted(() => parseCrl(der));
      if (strict === null) return;
      expect({ entries: foreign?.entries, number: foreign?.number }).toEqual({
        entries: strict.entries,
        number: strict.number,
      });
    }),
    runs(5_000),
  );
  expect(taken).toBeGreaterThan(100);
});

function attemptPki<T>(run: () => T): T | null {
  try {
    return run();
  } catch (error) {
    expect(error).toBeInstanceOf(PkiError);
    return null;
  }
}

test("entries: what is written is read back", async () => {
  const serial = fc
    .uint8Array({ minLength: 1, maxLength: 20 })
    .filter((octets) => octets.length === 1 || octets[0] !== 0)
    .map(toHex);
  const second = fc.integer({ min: Date.UTC(1950, 0) / 1000, max: Date.UTC(9999, 11, 31) / 1000 });
  const entry = fc.record({
    serial,
    revokedAt: second.map((value) => new Date(value * 1000)),
    reason: fc.constantFrom(0, 1, 2, 3, 4, 5, 6, 9, 10),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(entry, { maxLength: 30 }), async (entries) => {
      const octets = concat(...entries.map((one) => encodeCrlEntry(one.serial, one.revokedAt, one.reason)));
      expect(parseCrl(await built(octets, null)).entries).toEqual(entries);
    }),
    runs(500),
  );
});
