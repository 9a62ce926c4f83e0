import { evictDurableObject } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import type { Ledger } from "../../src/authority/ledger.ts";
import { hasTag, parseCertificate, SerialFilter } from "../../src/pki/certificate.ts";
import { generateKeyPair, importSigner, parseSpki } from "../../src/pki/keys.ts";
import { encodeName } from "../../src/pki/names.ts";
import { rootCertificate } from "../support/ca-certificates.ts";
import { expectOk, inside, issueOne, leafRequest, newLedger, newRoot } from "./support.ts";

async function known(ledger: Ledger) {
  const { key, filter, up_to } = await ledger.serials(null);
  if (filter === null) throw new Error("no filter");
  return { key, up_to, filter: new SerialFilter(key, filter) };
}

describe("telling a CA's own serials", () => {
  it("by the tag: of the root, the responder, a subordinate and leaves, and of no other CA's", async () => {
    const { ledger, ca } = await newRoot();
    const { key, filter } = await known(ledger);
    const leaf = await issueOne(ledger, "job-1");
    const root = parseCertificate(ca.chain[0] ?? new Uint8Array(0));
    const responder = parseCertificate(expectOk(await ledger.responder()).certificate);
    const { spki } = await leafRequest("unused");
    const sub = expectOk(
      await ledger.issueCa({
        request_id: "sub-1",
        certificate_id: "ica-1",
        subject: { common_name: "Below" },
        spki,
        ttl_seconds: 86_400,
        path_len: 0,
        name_constraints: null,
        ocsp_urls: [],
      }),
    );
    const other = await known((await newRoot()).ledger);
    for (const serial of [leaf.serial, root.serial, responder.serial, sub.serial]) {
      expect(hasTag(serial, key)).toBe(true);
      expect(filter.has(serial)).toBe(false);
      expect(hasTag(serial, other.key)).toBe(false);
    }
  });

  it("by the same key after the object was evicted", async () => {
    const { ledger, stub } = await newRoot();
    const { key } = await known(ledger);
    const before = await issueOne(ledger, "job-1");
    await evictDurableObject(stub);
    const after = await issueOne(ledger, "job-2");
    for (const { serial } of [before, after]) expect(hasTag(serial, key)).toBe(true);
  });

  it("for good where the CA was made here; a CA that was brought in may have serials of another kind", async () => {
    const { ledger, ca } = await newRoot();
    expect(ca.serial_key).toEqual((await known(ledger)).key);
    const brought = newLedger();
    const { pkcs8, spki } = await generateKeyPair("ECDSA-P256");
    const der = await rootCertificate(
      {
        serial: Uint8Array.of(10),
        notBefore: new Date(Date.now() - 86_400_000),
        notAfter: new Date(Date.now() + 86_400_000),
        subject: encodeName({ common_name: "Brought in" }),
        publicKey: parseSpki(spki),
        pathLen: null,
      },
      await importSigner(pkcs8),
    );
    const place = { ledger_id: brought.id, ca_id: "iss-brought", crl_shards: 1, pss: false };
    const imported = expectOk(await brought.ledger.importCa({ ...place, chain: [der], pkcs8, entries: [], crl: null }));
    expect(imported.serial_key).toBeNull();
    expect((await known(brought.ledger)).filter.has("0a")).toBe(false);
  });

  it("by the filter where they carry no tag; nothing is sent again while nothing was added", async () => {
    const { ledger, stub } = await newRoot();
    const add = (from: number, to: number) =>
      inside(stub, (_, state) => {
        for (let i = from; i < to; i++) {
          state.storage.sql.exec(
            `insert into entries (serial, request_id, digest, kind, certificate_id, state, shard, not_before, not_after, created_at,
             spki_sha256, settle, acknowledged) values (?, ?, '', 'imported', '', 1, 0, 0, 0, 0, '', '{}', 1)`,
            i.toString(16).padStart(8, "0"),
            `imported|${i}`,
          );
        }
      });
    await add(0, 5_000);
    const first = await known(ledger);
    expect(await ledger.serials(first.up_to)).toMatchObject({ up_to: first.up_to, filter: null });
    await add(5_000, 9_000);
    const [second, third] = await Promise.all([known(ledger), known(ledger)]);
    for (const { filter } of [second, third]) {
      for (let i = 0; i < 9_000; i++) expect(filter.has(i.toString(16).padStart(8, "0"))).toBe(true);
    }
    expect(second.up_to).toBeGreaterThan(first.up_to ?? 0);
    expect(second.filter.capacity).toBeGreaterThanOrEqual(9_000);
    const strangers = Array.from({ length: 3_000 }, (_, i) => (1_000_000 + i).toString(16).padStart(8, "0"));
    expect(strangers.filter((serial) => second.filter.has(serial)).length).toBeLessThan(30);
  });
});
