import { describe, expect, it } from "vitest";
import { type Bytes, concat } from "../../src/pki/bytes.ts";
import { boundsOfSubordinate, ocspResponderNames, parseCertificate } from "../../src/pki/certificate.ts";
import {
  type CrlParameters,
  checkedCrl,
  crlChunks,
  type ExpectedCrl,
  encodeCrlEntry,
  parseCrl,
  planCrl,
  readCrlOf,
  signCrl,
} from "../../src/pki/crl.ts";
import { importStreamSigner } from "../../src/pki/keys.ts";
import { lintTbs } from "../../src/pki/lint/throw-away.ts";
import { parseNameConstraints } from "../../src/pki/name-constraints.ts";
import { encodeName, formatName, parseName } from "../../src/pki/names.ts";
import { issue, type TestCa, testLeaf, testRoot } from "./support.ts";

/** What a ledger needs besides its state. */

const ENTRIES = ["01", "02", "03"].map((serial) => encodeCrlEntry(serial, new Date("2026-11-20T00:00:00Z"), 4));

async function builtCrl({ certificate, keys }: TestCa, signedBy = keys) {
  const parameters: CrlParameters = {
    issuer: certificate.subject.der,
    algorithmIdentifier: importStreamSigner(signedBy.pkcs8).algorithmIdentifier,
    thisUpdate: new Date("2026-11-23T10:00:00Z"),
    nextUpdate: new Date("2026-11-30T10:00:00Z"),
    number: 7,
    authorityKeyId: certificate.subjectKeyIdentifier ?? new Uint8Array(0),
    distributionPoint: null,
    entriesLength: concat(...ENTRIES).length,
  };
  const plan = planCrl(parameters);
  const signature = await signCrl(plan, importStreamSigner(signedBy.pkcs8), ENTRIES);
  return { chunks: () => crlChunks(plan, signature, ENTRIES), expected: { ...parameters, entryCount: ENTRIES.length } };
}

/** The pieces that come out, and the error at the end. */
async function drain(pieces: AsyncIterable<Uint8Array>): Promise<{ out: Uint8Array[]; error: string | null }> {
  const out: Uint8Array[] = [];
  try {
    for await (const piece of pieces) out.push(piece);
    return { out, error: null };
  } catch (error) {
    return { out, error: error instanceof Error ? error.message : "" };
  }
}

const joined = (pieces: readonly Uint8Array[]) => concat(...(pieces as Bytes[]));

describe("inv 1: a CRL on its way out", () => {
  it("passes unchanged when all that it says is expected", async () => {
    const ca = await testRoot();
    const { chunks, expected } = await builtCrl(ca);
    const { out, error } = await drain(checkedCrl(chunks(), ca.keys.publicKey, expected));
    expect(error).toBeNull();
    expect(parseCrl(joined(out)).entries.map((entry) => entry.serial)).toEqual(["01", "02", "03"]);
    expect(joined(out)).toEqual(joined((await drain(chunks())).out));
  });

  it.each<[string, Partial<ExpectedCrl>]>([
    ["issuer", { issuer: encodeName({ common_name: "Another" }) }],
    ["number", { number: 8n }],
    ["distribution point", { distributionPoint: "http://pki.test/crl/1" }],
    ["count of entries", { entryCount: 2 }],
    ["nextUpdate", { nextUpdate: new Date("2026-12-30T10:00:00Z") }],
  ])("lacks its last piece when its %s is wrong", async (what, change) => {
    const ca = await testRoot();
    const { chunks, expected } = await builtCrl(ca);
    const { out, error } = await drain(checkedCrl(chunks(), ca.keys.publicKey, { ...expected, ...change }));
    expect(error).toBe(`the list that was built has a wrong ${what}`);
    expect(joined(out).length).toBeLessThan(joined((await drain(chunks())).out).length);
  });

  it("lacks its last piece when another key has signed it", async () => {
    const [ca, other] = [await testRoot(), await testRoot("ECDSA-P256", { label: "other" })];
    const { chunks, expected } = await builtCrl(ca, other.keys);
    const { out, error } = await drain(checkedCrl(chunks(), ca.keys.publicKey, expected));
    expect(error).toMatch(/signature/);
    expect(joined(out).length).toBeLessThan(joined((await drain(chunks())).out).length);
  });
});

describe("the last CRL of a CA that is brought in", () => {
  it("is taken when the CA signed it", async () => {
    const ca = await testRoot();
    const { chunks } = await builtCrl(ca);
    const crl = await readCrlOf(ca.certificate, joined((await drain(chunks())).out));
    expect([crl.number, crl.entries.length]).toEqual([7n, 3]);
  });

  it("is refused when it is another CA's, or signed by another key", async () => {
    const [ca, other] = [await testRoot(), await testRoot("ECDSA-P256", { label: "other" })];
    const forged = joined((await drain((await builtCrl(ca, other.keys)).chunks())).out);
    await expect(readCrlOf(ca.certificate, forged)).rejects.toThrow("its signature is not by this CA's key");
    const stranger = await testRoot("ECDSA-P256", { subject: encodeName({ common_name: "Another" }) });
    await expect(readCrlOf(stranger.certificate, forged)).rejects.toThrow("is of another CA");
  });
});

describe("inv 8: the bounds of a subordinate", () => {
  const within = { permitted: ["DNS:a.example"], excluded: [] };

  it.each<[number | null, number | null, number | null | string]>([
    [null, null, null],
    [null, 3, 3],
    [2, null, 1],
    [2, 1, 1],
    [2, 2, "path_len_constraint: must be below the parent's, which is 2"],
    [0, null, "path_len_constraint: this CA may have no CA below it"],
  ])("path length of the parent %s, asked for %s: %s", async (parent, asked, outcome) => {
    const { certificate } = await testRoot("ECDSA-P256", { pathLen: parent });
    const bounds = () => boundsOfSubordinate([certificate], asked, null);
    if (typeof outcome === "string") expect(bounds).toThrow(outcome);
    else expect(bounds()).toEqual({ pathLen: outcome, nameConstraints: null });
  });

  it("name constraints are inherited, may be narrower, and reach no further than those above", async () => {
    const nameConstraints = parseNameConstraints([within]);
    const { certificate } = await testRoot("ECDSA-P256", { nameConstraints });
    expect(boundsOfSubordinate([certificate], null, null).nameConstraints).toEqual(nameConstraints);
    const narrower = boundsOfSubordinate([certificate], null, { permitted: ["DNS:b.a.example"], excluded: [] });
    expect(narrower.nameConstraints?.permitted).toHaveLength(1);
    const wider = { permitted: ["DNS:example"], excluded: [] };
    expect(() => boundsOfSubordinate([certificate], null, wider)).toThrow("name_constraints: reach beyond");
  });
});

describe("an OCSP responder's names", () => {
  const shown = (names: readonly Bytes[]) => names.map((der) => formatName(parseName(der)));

  it("begin with the CA's own organization and end with the name alone", async () => {
    const { certificate } = await testRoot();
    const names = shown(ocspResponderNames([certificate], "iss-1"));
    expect(names).toHaveLength(2);
    expect(names[0]).toContain("Test");
    for (const name of names) expect(name).toContain("OCSP Responder of Test Root");
  });

  it("are cut to what a common name may hold", async () => {
    const subject = encodeName({ common_name: "x".repeat(64) });
    const { certificate } = await testRoot("ECDSA-P256", { subject });
    for (const der of ocspResponderNames([certificate], "iss-1"))
      expect(parseName(der).commonName?.length).toBeLessThanOrEqual(64);
  });
});

describe("the lint before the signature", () => {
  it("finds nothing against a leaf within its CA, and says what is wrong with another", async () => {
    const ca = await testRoot();
    const chain = [ca.certificate];
    const { tbs } = parseCertificate(await issue(ca, await testLeaf()));
    expect(await lintTbs(tbs, "leaf", chain)).toBeNull();
    const late = { notAfter: new Date("2047-01-01T00:00:00Z") };
    const outliving = parseCertificate(await issue(ca, await testLeaf("ECDSA-P256", late)));
    expect(await lintTbs(outliving.tbs, "leaf", chain)).toMatch(/:/);
    expect(await lintTbs(new Uint8Array(3), "leaf", chain)).toMatch(/well_formed/);
  });
});
