import { runInDurableObject } from "cloudflare:test";
import { env, exports } from "cloudflare:workers";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { ledgerOf } from "../../src/authority/ledger.ts";
import type { Inventory } from "../../src/authority/ledger-inventory.ts";
import { crlKey } from "../../src/authority/ledger-places.ts";
import { forgetAuthority } from "../../src/authority/local/public/directory.ts";
import { attuneLedgers } from "../../src/authority/local/recovery.ts";
import { newestVersion } from "../../src/inventory/certificates/versions.ts";
import { parseCrl } from "../../src/pki/crl.ts";
import { parseOcspResponse } from "../../src/pki/ocsp.ts";
import { beat } from "../../src/platform/whole.ts";
import { auditCount } from "../support/api.ts";
import { contextAhead } from "../support/context.ts";
import { makeCsr } from "../support/csr.ts";
import { type Fleet, makeFleet } from "../support/fleet.ts";
import { ledgerIdOf } from "../support/ledgers.ts";
import { ledgerStub, rewindDatabase, rewindLedger, saveDatabase, saveLedger } from "../support/rewind.ts";

/** Whoever was restored to an earlier state finds out before it answers, and gets back what it lacks. */

let fleet: Fleet;
let ledgerId: string;
let n = 0;

beforeAll(async () => {
  fleet = await makeFleet();
  ledgerId = await ledgerIdOf(fleet.issuerId);
});

async function record(more: Record<string, unknown> = {}): Promise<{ id: string; common_name: string }> {
  const common_name = `restored-${++n}.example.com`;
  const made = await fleet.admin.create("/api/v1/certificates", {
    name: `restored ${n}`,
    common_name,
    target_ids: [fleet.targetId],
    ...fleet.record,
    ...more,
  });
  return { id: String(made.id), common_name };
}

/** A record with its first certificate. */
async function issued(): Promise<{ id: string; serial: string; job_id: string }> {
  return renewed(await record());
}

async function renewed(certificate: { id: string; common_name: string }) {
  const { body } = await fleet.admin.post<{ job_id: string }>(`/api/v1/certificates/${certificate.id}/renew`);
  const csr_pem = await makeCsr({ commonName: certificate.common_name });
  const answer = await fleet.agent.post(`/api/v1/agents/${fleet.agentId}/csr`, { csr_pem, job_id: body.job_id });
  expect(answer.status, JSON.stringify(answer.body)).toBe(202);
  const version = await newestVersion(contextAhead(), certificate.id);
  return { id: certificate.id, serial: version?.serial_number ?? "", job_id: body.job_id };
}

const read = async (id: string) => (await fleet.admin.get(`/api/v1/certificates/${id}`)).body;
const revoke = (id: string, reason: string) => fleet.admin.post(`/api/v1/certificates/${id}/revoke`, { reason });

/** Good, revoked, unknown, or the error status of the answer. */
async function ocsp(serial: string): Promise<string> {
  const url = `http://localhost/.well-known/pki/ocsp/${fleet.issuerId}/${serial}`;
  const response = await exports.default.fetch(new Request(url));
  const { basic, status } = parseOcspResponse(new Uint8Array(await response.arrayBuffer()));
  return basic?.responses[0]?.status.type ?? status;
}

/** An answer may be repeated for a moment. */
async function becomes(serial: string, status: string): Promise<void> {
  await vi.waitFor(async () => expect(await ocsp(serial)).toBe(status), { timeout: 30_000, interval: 200 });
}

/** The ledger's alarm, its clock so many seconds ahead: as often as it takes for everything to be done. */
async function alarm(seconds = 10, id = ledgerId): Promise<void> {
  await runInDurableObject(ledgerStub(id), async (issuer) => {
    issuer.clock = { now: () => new Date(Date.now() + seconds * 1000) };
    await issuer.alarm();
  });
}

async function listed(): Promise<string[]> {
  const object = await env.BYTES.get(crlKey(ledgerId, 0));
  const list = parseCrl(new Uint8Array((await object?.arrayBuffer()) ?? new ArrayBuffer(0)));
  return list.entries.map((entry) => entry.serial);
}

describe("a crash between ledger and inventory", () => {
  it("inv 4, 6: the outbox brings a revocation and a release to the inventory", async () => {
    const certificate = await issued();
    const ledger = ledgerOf(contextAhead(), ledgerId);
    await ledger.revoke([certificate.serial], "certificateHold");
    await alarm();
    expect(await read(certificate.id)).toMatchObject({ status: "Revoked", revocation_reason: "certificateHold" });
    await ledger.release([certificate.serial]);
    await alarm(20);
    expect(await read(certificate.id)).toMatchObject({ status: "Active", revocation_reason: null });
    expect(await ledger.attune()).toEqual({ ok: true, waiting: 0 });
  });
});

describe("a ledger that was restored to an earlier state", () => {
  it("inv 2, 4: says tryLater, takes back what was issued, revoked and released since, and publishes it", async () => {
    const [before, held] = [await issued(), await issued()];
    await revoke(held.id, "certificateHold");
    const saved = await saveLedger(ledgerId);
    await revoke(before.id, "superseded");
    const [later, gone] = [await issued(), await issued()];
    await revoke(gone.id, "keyCompromise");
    expect((await fleet.admin.post(`/api/v1/certificates/${held.id}/release-hold`)).status).toBe(200);

    await rewindLedger(ledgerId, saved);
    for (const { serial } of [before, later, gone]) expect(["tryLater", "revoked"]).toContain(await ocsp(serial));
    await becomes(before.serial, "revoked");
    expect(await ocsp(later.serial)).toBe("good");
    expect(await ocsp(gone.serial)).toBe("revoked");
    expect(await ocsp(held.serial)).toBe("good");
    await alarm();
    expect(await listed()).toEqual(expect.arrayContaining([before.serial, gone.serial]));
    expect(await listed()).not.toContain(held.serial);
    expect(await auditCount("ledger.restored", ledgerId)).toBe(1);
    expect((await fleet.admin.get("/ready")).status).toBe(200);

    // What it took back can be revoked, and the next certificates have numbers above all before.
    expect((await revoke(later.id, "superseded")).status).toBe(200);
    await becomes(later.serial, "revoked");
    expect(await read((await issued()).id)).toMatchObject({ status: "Active" });
  });

  it("answers nothing good while the inventory cannot be asked, and then goes on", async () => {
    const certificate = await issued();
    const saved = await saveLedger(ledgerId);
    await revoke(certificate.id, "superseded");
    await rewindLedger(ledgerId, saved);
    await runInDurableObject(ledgerStub(ledgerId), (issuer) => {
      const { inventory } = issuer.core;
      let asked = 0;
      const heard: Inventory["heard"] = async (id) => {
        if (++asked < 3) throw new Error("the database is away");
        return inventory.heard(id);
      };
      issuer.core.inventory = new Proxy(inventory, {
        get: (real, method) => (method === "heard" ? heard : Reflect.get(real, method)),
      });
    });
    expect(await ocsp(certificate.serial)).toBe("tryLater");
    const refused = await fleet.admin.post(`/api/v1/certificates/${certificate.id}/revoke`, { reason: "superseded" });
    expect(refused).toMatchObject({ status: 503, body: { error: "recovering" } });
    await becomes(certificate.serial, "revoked");
  });

  it("from before its serials had the key that they have now: what it takes back is told by the filter", async () => {
    const saved = await saveLedger(ledgerId);
    const lost = await issued();
    saved.set("serial_key", [{ id: 1, key: crypto.getRandomValues(new Uint8Array(32)).buffer, imports: 0 }]);
    await rewindLedger(ledgerId, saved);
    await becomes(lost.serial, "good");
    // An isolate looks the CA up again after half a minute at most.
    forgetAuthority(fleet.issuerId);
    expect(await ocsp((await issued()).serial)).toBe("good");
    const tagged = await runInDurableObject(ledgerStub(ledgerId), (_, { storage }) =>
      storage.sql.exec<{ tagged: number }>("select tagged from entries where serial = ?", lost.serial).one(),
    );
    expect(tagged).toEqual({ tagged: 0 });
  });

  it("repeats a request that it lost with the certificate that is out there", async () => {
    const saved = await saveLedger(ledgerId);
    const certificate = await issued();
    await rewindLedger(ledgerId, saved);
    await becomes(certificate.serial, "good");
    const { der, request_id } = await runInDurableObject(ledgerStub(ledgerId), (_, { storage }) =>
      storage.sql
        .exec<{ der: ArrayBuffer; request_id: string }>(
          "select der, request_id from entries where serial = ?",
          certificate.serial,
        )
        .one(),
    );
    expect(request_id).toBe(certificate.job_id);
    expect(new Uint8Array(der).length).toBeGreaterThan(200);
  });
});

describe("a database that was restored to an earlier state", () => {
  const tick = async () => {
    if (await beat(contextAhead())) await attuneLedgers(contextAhead(), null);
  };
  const ledgersOf = async (issuer: string) => {
    const query = "select ledger_id from certificate_authorities where issuer_id = ? order by parent_ca_id is not null";
    const { results } = await env.DB.prepare(query).bind(issuer).all<{ ledger_id: string }>();
    return results.map((row) => row.ledger_id);
  };

  it("inv 2, 4, 6: makes nothing new until each ledger has handed over what happened since", async () => {
    const kept = await record();
    const first = await renewed(kept);
    const [revoked, held] = [await issued(), await issued()];
    await revoke(held.id, "certificateHold");
    await tick();
    const waiting = await record();
    const { body: job } = await fleet.admin.post<{ job_id: string }>(`/api/v1/certificates/${waiting.id}/renew`);
    const saved = await saveDatabase();
    await tick();

    const csr_pem = await makeCsr({ commonName: waiting.common_name });
    const signed = await fleet.agent.post(`/api/v1/agents/${fleet.agentId}/csr`, { csr_pem, job_id: job.job_id });
    expect(signed.status).toBe(202);
    const second = await renewed(kept);
    const lost = await record({ tags: { team: "payments" }, environment: "staging" });
    const lostSerial = (await renewed(lost)).serial;
    const lostRevoked = await issued();
    await revoke(lostRevoked.id, "keyCompromise");
    await revoke(revoked.id, "superseded");
    expect((await fleet.admin.post(`/api/v1/certificates/${held.id}/release-hold`)).status).toBe(200);
    const below = await fleet.admin.create(`/api/v1/issuers/${fleet.issuerId}/intermediates`, { name: "Below" });
    const gone = await fleet.admin.create(`/api/v1/issuers/${fleet.issuerId}/intermediates`, { name: "Gone" });
    for (const confirm of [false, true])
      await fleet.admin.post(`/api/v1/intermediates/${gone.id}/retire`, { confirm, reason: "cessationOfOperation" });
    const other = await fleet.admin.create("/api/v1/issuers", {
      name: "Later CA",
      type: "GenericCA",
      config: { ca_common_name: "Later Root" },
    });
    const foreign = await renewed(await record({ issuer_id: other.id }));
    const ledgers = [...(await ledgersOf(fleet.issuerId)), ...(await ledgersOf(String(other.id)))];
    await tick();
    expect((await fleet.admin.get("/ready")).status).toBe(200);

    await rewindDatabase(saved);
    await tick();
    expect(await fleet.admin.get("/ready")).toMatchObject({ status: 503, body: { error: "recovering" } });
    const refused = await fleet.admin.post("/api/v1/certificates", {
      name: "x",
      common_name: "x.test",
      ...fleet.record,
    });
    expect(refused).toMatchObject({ status: 503, body: { error: "recovering" } });
    for (const [i, id] of [...ledgers, ...ledgers].entries()) await alarm(60 + i, id);
    await tick();
    expect((await fleet.admin.get("/ready")).status).toBe(200);

    expect(await newestVersion(contextAhead(), kept.id)).toMatchObject({ serial_number: second.serial });
    expect(second.serial).not.toBe(first.serial);
    expect(await read(waiting.id)).toMatchObject({ status: "Active" });
    expect((await fleet.admin.get(`/api/v1/jobs/${job.job_id}`)).body).toMatchObject({ status: "Completed" });
    expect(await read(lost.id)).toMatchObject({
      status: "Active",
      common_name: lost.common_name,
      owner_id: fleet.record.owner_id,
      environment: "staging",
      tags: { team: "payments" },
    });
    expect(await newestVersion(contextAhead(), lost.id)).toMatchObject({ serial_number: lostSerial });
    expect(await read(lostRevoked.id)).toMatchObject({ status: "Revoked", revocation_reason: "keyCompromise" });
    expect(await read(revoked.id)).toMatchObject({ status: "Revoked", revocation_reason: "superseded" });
    expect(await read(held.id)).toMatchObject({ status: "Active", revocation_reason: null });
    const cas = await fleet.admin.get<{ data: Record<string, unknown>[] }>(
      `/api/v1/issuers/${fleet.issuerId}/intermediates`,
    );
    const byId = new Map(cas.body.data.map((row) => [row.id, row]));
    expect(byId.get(below.id)).toMatchObject({ state: "active", parent_ca_id: expect.any(String) });
    expect((await fleet.admin.get(`/api/v1/issuers/${other.id}`)).body).toMatchObject({ name: "Later Root" });
    expect(await read(foreign.id)).toMatchObject({ status: "Active", issuer_id: other.id });
    expect(await auditCount("inventory.restored", "inventory")).toBe(1);
    // Everything goes on: the next certificate, and the revocation of one that was brought back.
    expect(await read((await issued()).id)).toMatchObject({ status: "Active" });
    expect((await revoke(lost.id, "superseded")).status).toBe(200);
    await becomes(lostSerial, "revoked");
  });

  it("takes no new fact of a ledger before those that it lost", async () => {
    const certificate = await issued();
    const other = await issued();
    await vi.waitFor(async () =>
      expect(await ledgerOf(contextAhead(), ledgerId).attune()).toMatchObject({ waiting: 0 }),
    );
    const saved = await saveDatabase();
    await revoke(certificate.id, "superseded");
    await vi.waitFor(async () =>
      expect(await ledgerOf(contextAhead(), ledgerId).attune()).toMatchObject({ waiting: 0 }),
    );
    await rewindDatabase(saved);
    expect(await revoke(other.id, "superseded")).toMatchObject({ status: 503, body: { error: "recovering" } });
    await ledgerOf(contextAhead(), ledgerId).attune();
    await alarm(120);
    expect(await read(certificate.id)).toMatchObject({ status: "Revoked" });
    expect(await read(other.id)).toMatchObject({ status: "Revoked" });
    expect((await revoke(other.id, "superseded")).status).toBe(200);
  });
});
