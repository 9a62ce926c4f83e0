import { runInDurableObject } from "cloudflare:test";
import { env, exports } from "cloudflare:workers";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { crlKey, ledgerOf } from "../../src/authority/ledger.ts";
import { newestVersion } from "../../src/inventory/certificates/versions.ts";
import { parseCrl } from "../../src/pki/crl.ts";
import { parseOcspResponse } from "../../src/pki/ocsp.ts";
import { auditCount } from "../support/api.ts";
import { contextAhead } from "../support/context.ts";
import { makeCsr } from "../support/csr.ts";
import { type Fleet, makeFleet } from "../support/fleet.ts";
import { ledgerStub, rewindLedger, saveLedger } from "../support/rewind.ts";

/** Whoever was restored to an earlier state finds out before it answers, and gets back what it lacks. */

let fleet: Fleet;
let ledgerId: string;
let n = 0;

beforeAll(async () => {
  fleet = await makeFleet();
  const row = await env.DB.prepare("select ledger_id from certificate_authorities where issuer_id = ?")
    .bind(fleet.issuerId)
    .first<{ ledger_id: string }>();
  ledgerId = row?.ledger_id ?? "";
});

async function record(): Promise<{ id: string; common_name: string }> {
  const common_name = `restored-${++n}.example.com`;
  const made = await fleet.admin.create("/api/v1/certificates", {
    name: `restored ${n}`,
    common_name,
    target_ids: [fleet.targetId],
    ...fleet.record,
  });
  return { id: String(made.id), common_name };
}

/** A record with its first certificate. */
async function issued(): Promise<{ id: string; serial: string; job_id: string }> {
  const certificate = await record();
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
async function alarm(seconds = 10): Promise<void> {
  await runInDurableObject(ledgerStub(ledgerId), async (issuer) => {
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
    await ledger.revoke({ target: { certificate_id: certificate.id }, reason: "certificateHold" });
    await alarm();
    expect(await read(certificate.id)).toMatchObject({ status: "Revoked", revocation_reason: "certificateHold" });
    await ledger.release({ certificate_id: certificate.id });
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
      const inventoryOf = issuer.core.inventoryOf;
      let asked = 0;
      issuer.core.inventoryOf = (id) => ({
        ...inventoryOf(id),
        heard: async () => {
          if (++asked < 3) throw new Error("the database is away");
          return inventoryOf(id).heard();
        },
      });
    });
    expect(await ocsp(certificate.serial)).toBe("tryLater");
    const refused = await fleet.admin.post(`/api/v1/certificates/${certificate.id}/revoke`, { reason: "superseded" });
    expect(refused).toMatchObject({ status: 503, body: { error: "recovering" } });
    await becomes(certificate.serial, "revoked");
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
