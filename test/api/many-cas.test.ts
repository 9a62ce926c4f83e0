import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { revokeCertificate } from "../../src/authority/revocation.ts";
import { toHex } from "../../src/pki/bytes.ts";
import type { Bindings } from "../../src/platform/context.ts";
import { contextAhead } from "../support/context.ts";
import { type Fleet, issueFor, makeFleet } from "../support/fleet.ts";

/** An issuer may have a thousand CAs; what concerns one of them does not ask the others. */

const bindings = env as unknown as Bindings;
const CAS = 1_000;
let fleet: Fleet;

beforeAll(async () => {
  fleet = await makeFleet();
  const path = `/api/v1/issuers/${fleet.issuerId}/intermediates`;
  const { id } = await fleet.admin.create<{ id: string }>(path, { name: "A", subject: { common_name: "A" } });
  // 999 more rows like the one that the API made; none of these ledgers is ever to be asked.
  const { results } = await bindings.DB.prepare("select * from certificate_authorities where id = ?").bind(id).all();
  const columns = Object.keys(results[0] ?? {});
  const values = columns.map((name) => {
    if (["id", "ca_id", "name", "ledger_id"].includes(name)) return `${name} || '-' || n.value`;
    if (name === "serial_key") return "lower(hex(randomblob(32)))";
    if (name === "key_hash_sha256") return "substr(key_hash_sha256, 1, 58) || printf('%06d', n.value)";
    return name;
  });
  await bindings.DB.prepare(
    `insert into certificate_authorities (${columns.join(", ")})
     select ${values.join(", ")} from certificate_authorities,
       (with recursive n(value) as (select 1 union all select value + 1 from n where value < ${CAS - 1}) select value from n) n
     where id = ?`,
  )
    .bind(id)
    .run();
});

describe("an issuer with a thousand CAs", () => {
  it("revokes a certificate by asking the ledger that issued it, and no other", async () => {
    const { id, serial } = await issueFor(fleet, "many-1");
    const asked = new Set<string>();
    const ctx = contextAhead();
    const ISSUER = {
      getByName(name: string) {
        asked.add(name);
        return bindings.ISSUER.getByName(name);
      },
    };
    const counted = { ...ctx, bindings: { ...ctx.bindings, ISSUER: ISSUER as unknown as Bindings["ISSUER"] } };
    await revokeCertificate(counted, id, "superseded");
    const version = await bindings.DB.prepare(
      "select ledger_id, v.revoked_at from certificate_versions v join certificate_authorities using (ca_id) where v.serial_number = ?",
    )
      .bind(serial)
      .first<{ ledger_id: string; revoked_at: string }>();
    expect(version?.revoked_at).toBeTruthy();
    expect([...asked]).toEqual([version?.ledger_id]);
  });

  it("answers for a serial in hex, its own and a made-up one", async () => {
    const { serial } = await issueFor(fleet, "many-2");
    for (const asked of [serial, toHex(crypto.getRandomValues(new Uint8Array(17)))]) {
      const answer = await fleet.admin.send("GET", `/.well-known/pki/ocsp/${fleet.issuerId}/${asked}`);
      expect(answer.status).toBe(200);
      expect(answer.headers.get("Content-Type")).toBe("application/ocsp-response");
    }
  });
});
