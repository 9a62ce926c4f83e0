import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { type Ledger, ledgerOf } from "../../src/authority/ledger.ts";
import { reconcileLedgers } from "../../src/authority/local/reconcile.ts";
import { newestVersion } from "../../src/inventory/certificates/versions.ts";
import { generateKeyPair } from "../../src/pki/keys.ts";
import { contextAhead } from "../support/context.ts";
import { makeCsr } from "../support/csr.ts";
import { type Fleet, makeFleet } from "../support/fleet.ts";
import { ledgerIdOf } from "../support/ledgers.ts";
import { ledgerStub } from "../support/rewind.ts";

/** The nightly comparison: what ledgers and inventory say of the same certificates is made one. */

let fleet: Fleet;
let ledgerId: string;
let ledger: Ledger;
let n = 0;

beforeAll(async () => {
  fleet = await makeFleet();
  ledgerId = await ledgerIdOf(fleet.issuerId);
  ledger = ledgerOf(contextAhead(), ledgerId);
});

async function issued(more: Record<string, unknown> = {}): Promise<{ id: string; serial: string }> {
  const common_name = `compare-${++n}.example.com`;
  const body = { name: `compare ${n}`, common_name, ...fleet.record, ...more };
  const { id } = await fleet.admin.create("/api/v1/certificates", body);
  const csr_pem = await makeCsr({ commonName: common_name });
  const answer = await fleet.admin.post(`/api/v1/certificates/${id}/csr`, { csr_pem });
  expect(answer.status, JSON.stringify(answer.body)).toBe(201);
  return { id: String(id), serial: (await newestVersion(contextAhead(), String(id)))?.serial_number ?? "" };
}

const read = async (id: string) => (await fleet.admin.get(`/api/v1/certificates/${id}`)).body;

/** Nothing waits in the outbox: only the comparison can find a difference. */
async function acknowledged(id = ledgerId): Promise<void> {
  await runInDurableObject(ledgerStub(id), (_, { storage }) => {
    storage.sql.exec("update entries set acknowledged = 1");
  });
}

async function compareAll(): Promise<number> {
  let steps = 0;
  for (let cursor: string | null = null; ; steps++) {
    cursor = await reconcileLedgers(contextAhead(), cursor);
    if (cursor === null) return steps;
  }
}

async function alarm(): Promise<void> {
  await runInDurableObject(ledgerStub(ledgerId), async (issuer) => {
    issuer.clock = { now: () => new Date(Date.now() + 60_000) };
    await issuer.alarm();
  });
}

describe("the comparison of ledgers and inventory", () => {
  it("takes over what only a ledger knows to be revoked, or released", async () => {
    const [revoked, released] = [await issued(), await issued()];
    await ledger.revoke([revoked.serial], "superseded");
    const hold = { reason: "certificateHold" };
    expect((await fleet.admin.post(`/api/v1/certificates/${released.id}/revoke`, hold)).status).toBe(200);
    await ledger.release([released.serial]);
    await acknowledged();
    await compareAll();
    expect(await read(revoked.id)).toMatchObject({ status: "Revoked", revocation_reason: "superseded" });
    expect(await read(released.id)).toMatchObject({ status: "Active", revocation_reason: null });
  });

  it("inv 4: revokes in the ledger what only the inventory knows to be revoked", async () => {
    const { id, serial } = await issued();
    await env.DB.prepare(
      "update certificate_versions set revoked_at = '2026-01-01T00:00:00.000Z', revocation_reason = 'keyCompromise' where certificate_id = ?",
    )
      .bind(id)
      .run();
    await compareAll();
    expect(await ledger.status(serial)).toMatchObject({ reason: "keyCompromise" });
  });

  it("has a version that is missing handed over again", async () => {
    const { id, serial } = await issued();
    await env.DB.prepare("delete from certificate_versions where certificate_id = ?").bind(id).run();
    await acknowledged();
    await compareAll();
    await alarm();
    expect(await newestVersion(contextAhead(), id)).toMatchObject({ serial_number: serial });
  });

  it("goes through every entry of every CA, slice by slice, and changes nothing where all is right", async () => {
    const other = await fleet.admin.create("/api/v1/issuers", {
      name: "Second",
      type: "GenericCA",
      config: { ca_common_name: "Second" },
    });
    const secondId = await ledgerIdOf(String(other.id));
    const second = ledgerOf(contextAhead(), secondId);
    const { spki } = await generateKeyPair("ECDSA-P256");
    const requests = Array.from({ length: 205 }, (_, i) => ({
      request_id: `filler-${i}`,
      certificate_id: "mc-filler",
      subject: { common_name: "filler.test" },
      sans: [{ type: "dns" as const, value: "filler.test" }],
      spki,
      ekus: ["serverAuth"],
      must_staple: false,
      ttl_seconds: 86_400,
      settle: {},
    }));
    expect((await second.issue(requests)).every(({ ok }) => ok)).toBe(true);
    const last = await issued({ issuer_id: other.id });
    await second.revoke([last.serial], "superseded");
    await runInDurableObject(ledgerStub(secondId), (_, { storage }) => {
      storage.sql.exec("update entries set acknowledged = case when request_id like 'filler-%' then 0 else 1 end");
    });
    expect(await compareAll()).toBe(3);
    expect(await read(last.id)).toMatchObject({ status: "Revoked", revocation_reason: "superseded" });
    const before = await env.DB.prepare("select count(*) as n from audit_events").first<{ n: number }>();
    await compareAll();
    expect(await env.DB.prepare("select count(*) as n from audit_events").first<{ n: number }>()).toEqual(before);
  });
});
