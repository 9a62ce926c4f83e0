import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { findCa } from "../../src/authority/ca.ts";
import { approve } from "../../src/authority/gate.ts";
import type { Issued } from "../../src/authority/ledger.ts";
import { certificateOf } from "../../src/authority/local/ca.ts";
import { factOf } from "../../src/authority/local/marks.ts";
import { certify } from "../../src/authority/orders.ts";
import { writeRevocation } from "../../src/authority/revocation.ts";
import { mustFindCertificate } from "../../src/inventory/certificates/certificates.ts";
import { newestVersion } from "../../src/inventory/certificates/versions.ts";
import { recordRequest } from "../../src/lifecycle/csr.ts";
import { settleIssuance, settleOutbox } from "../../src/lifecycle/issuance.ts";
import { findJob } from "../../src/lifecycle/jobs.ts";
import { jobWork } from "../../src/lifecycle/signing.ts";
import { cancelOrphanedJobs, expireJobs, refreshCertificates } from "../../src/lifecycle/sweeps.ts";
import { parseCertificate } from "../../src/pki/certificate.ts";
import { runBatch } from "../../src/platform/database.ts";
import { runDue } from "../../src/platform/work/engine.ts";
import { enqueue } from "../../src/platform/work/work.ts";
import { auditCount } from "../support/api.ts";
import { Certificates } from "../support/certificates.ts";
import { contextAhead } from "../support/context.ts";
import { makeCsr } from "../support/csr.ts";
import { type Fleet, makeFleet } from "../support/fleet.ts";
import { ledgerOfCa } from "../support/ledgers.ts";

const DAY = 86_400;
let fleet: Fleet;
let certificates: Certificates;

beforeAll(async () => {
  fleet = await makeFleet();
  certificates = new Certificates(fleet, "life");
});

const submit = async (job_id: string, commonName: string) =>
  certificates.submit({ csr_pem: await makeCsr({ commonName }), job_id });

async function version(id: string) {
  const found = await newestVersion(contextAhead(), id);
  if (!found) throw new Error("no version");
  return found;
}

/** The reasons of a certificate's versions, the newest first. */
async function versionRevocations(id: string) {
  const { body } = await fleet.admin.get<{ data: { revocation_reason: string | null }[] }>(
    `/api/v1/certificates/${id}/versions`,
  );
  return body.data.map((row) => row.revocation_reason);
}

/** What the gate approves for the agent's CSR. */
async function approvedFor(certificateId: string, csr: string) {
  const ctx = contextAhead();
  const certificate = await mustFindCertificate(ctx, certificateId);
  return approve(ctx, recordRequest(ctx, certificate, { agent_id: fleet.agentId }, csr));
}

/** Leaves the job as a crash between taking it and asking the ledger does. */
async function takenAndLeft(certificate: { id: string; common_name: string }, job_id: string, csr?: string) {
  const asked = csr ?? (await makeCsr({ commonName: certificate.common_name }));
  const { approved, csr_pem } = await approvedFor(certificate.id, asked);
  await env.DB.prepare(
    "update jobs set status = 'Running', approved = ?, csr_pem = ?, csr_digest = 'd', attempts = 1, started_at = created_at where id = ?",
  )
    .bind(JSON.stringify(approved), csr_pem, job_id)
    .run();
  const ctx = contextAhead();
  await runBatch(ctx.db, [enqueue(ctx, "job.sign", { job_id }, 60).statement]);
}

describe("a job whose agent lost the certificate", () => {
  it("is cancelled and holds up nothing; one that can be answered stays", async () => {
    const moved = await certificates.record();
    const kept = await certificates.record();
    const [movedJob, keptJob] = [
      (await certificates.trigger(moved.id)).job_id,
      (await certificates.trigger(kept.id)).job_id,
    ];
    expect((await fleet.admin.put(`/api/v1/certificates/${moved.id}`, { target_ids: [] })).status).toBe(200);
    await cancelOrphanedJobs(contextAhead(), null);
    expect(await certificates.job(movedJob)).toMatchObject({
      status: "Cancelled",
      last_error: expect.stringContaining("no target"),
    });
    expect(await certificates.read(moved.id)).toMatchObject({ status: "Pending" });
    expect(await certificates.job(keptJob)).toMatchObject({ status: "AwaitingCSR" });
    expect((await submit(keptJob, kept.common_name)).status).toBe(202);
  });
});

describe("inv 6: a job whose holder is gone", () => {
  it("is finished by queued work after a minute, and not before", async () => {
    const certificate = await certificates.record();
    const job_id = (await certificates.trigger(certificate.id)).job_id;
    await takenAndLeft(certificate, job_id);
    await runDue(contextAhead(0), jobWork);
    expect(await certificates.job(job_id)).toMatchObject({ status: "Running" });
    await runDue(contextAhead(61), jobWork);
    expect(await certificates.job(job_id)).toMatchObject({ status: "Completed", attempts: 2 });
    expect(await certificates.read(certificate.id)).toMatchObject({ status: "Active" });
  });

  it("has the same certificate when the ledger had signed already", async () => {
    const certificate = await certificates.record();
    const { job_id, version_id } = await certificates.issue(certificate);
    const { serial_number, csr_pem } = await version(certificate.id);
    await takenAndLeft(certificate, job_id, csr_pem ?? "");
    await env.DB.batch([
      env.DB.prepare("delete from certificate_versions where certificate_id = ?").bind(certificate.id),
      env.DB.prepare("update certificates set status = 'RenewalInProgress', expires_at = null where id = ?").bind(
        certificate.id,
      ),
      env.DB.prepare("update jobs set version_id = null, completed_at = null where id = ?").bind(job_id),
    ]);
    await runDue(contextAhead(61), jobWork);
    expect(await certificates.job(job_id)).toMatchObject({ status: "Completed", version_id });
    expect(await version(certificate.id)).toMatchObject({ id: version_id, serial_number });
    expect(await certificates.read(certificate.id)).toMatchObject({ status: "Active" });
  });

  it("fails with the ledger's own words when the CA signs no more", async () => {
    const issuer = await fleet.admin.create("/api/v1/issuers", {
      name: "Ending",
      type: "GenericCA",
      config: { ca_common_name: "Ending" },
    });
    const certificate = await certificates.record({ issuer_id: issuer.id });
    const job_id = (await certificates.trigger(certificate.id)).job_id;
    await takenAndLeft(certificate, job_id);
    await (await ledgerOfCa(String(issuer.id))).retire("retiring");
    await runDue(contextAhead(61), jobWork);
    expect(await certificates.job(job_id)).toMatchObject({
      status: "Failed",
      last_error: expect.stringMatching(/retiring/),
    });
    expect(await certificates.read(certificate.id)).toMatchObject({ status: "Failed" });
    expect(await auditCount("job.failed", job_id)).toBe(1);
  });
});

describe("a job that cannot be signed", () => {
  it("ends after a day of trying, and its certificate is not left behind it", async () => {
    const certificate = await certificates.record();
    const job_id = (await certificates.trigger(certificate.id)).job_id;
    await takenAndLeft(certificate, job_id);
    await env.DB.prepare("update jobs set last_error = 'ledger gone' where id = ?").bind(job_id).run();
    await runDue(contextAhead(DAY + 60), jobWork);
    expect(await certificates.job(job_id)).toMatchObject({
      status: "Failed",
      last_error: expect.stringContaining("ledger gone"),
    });
    expect(await certificates.read(certificate.id)).toMatchObject({ status: "Failed" });
  });
});

describe("a job that nobody answers", () => {
  it("fails after a day, and the certificate shows what it has", async () => {
    const never = await certificates.record();
    const neverJob = (await certificates.trigger(never.id)).job_id;
    const before = await certificates.record();
    await certificates.issue(before);
    const beforeJob = (await certificates.trigger(before.id)).job_id;
    await expireJobs(contextAhead(DAY - 60), null);
    expect(await certificates.job(neverJob)).toMatchObject({ status: "AwaitingCSR" });
    await expireJobs(contextAhead(DAY + 1), null);
    expect(await certificates.job(neverJob)).toMatchObject({
      status: "Failed",
      last_error: expect.stringContaining("24 hours"),
    });
    expect(await certificates.read(never.id)).toMatchObject({ status: "Failed", expires_at: null });
    expect(await certificates.job(beforeJob)).toMatchObject({ status: "Failed" });
    expect(await certificates.read(before.id)).toMatchObject({ status: "Active" });
    const late = await submit(neverJob, never.common_name);
    expect(late.status).toBe(409);
    await certificates.issue(never);
    expect(await certificates.read(never.id)).toMatchObject({ status: "Active" });
  });
});

describe("time", () => {
  it("makes a certificate Expiring within its policy's window, then Expired; one never issued neither", async () => {
    const certificate = await certificates.record();
    const pending = await certificates.record();
    await certificates.issue(certificate);
    const days = async (count: number) => {
      await refreshCertificates(contextAhead(count * DAY), null);
      return (await certificates.read(certificate.id)).status;
    };
    expect(await days(59)).toBe("Active");
    expect(await days(61)).toBe("Expiring");
    expect(await days(61)).toBe("Expiring");
    expect(await days(91)).toBe("Expired");
    expect(await auditCount("certificate.status", certificate.id)).toBe(2);
    expect(await certificates.read(pending.id)).toMatchObject({ status: "Pending", expires_at: null });
  });

  it("shows that a certificate expired behind a renewal that goes on", async () => {
    const certificate = await certificates.record();
    await certificates.issue(certificate);
    const job_id = (await certificates.trigger(certificate.id)).job_id;
    await refreshCertificates(contextAhead(80 * DAY), null);
    expect(await certificates.read(certificate.id)).toMatchObject({ status: "RenewalInProgress" });
    await refreshCertificates(contextAhead(91 * DAY), null);
    expect(await certificates.read(certificate.id)).toMatchObject({ status: "Expired" });
    expect((await submit(job_id, certificate.common_name)).status).toBe(202);
    expect(await certificates.read(certificate.id)).toMatchObject({ status: "Active" });
  });

  it("begins the window of a short life at its last third", async () => {
    const profile = await fleet.admin.create("/api/v1/profiles", { name: "Nine hours", max_ttl_seconds: 9 * 3600 });
    const certificate = await certificates.record({ certificate_profile_id: profile.id });
    await certificates.issue(certificate);
    expect(await certificates.read(certificate.id)).toMatchObject({ status: "Active" });
    await refreshCertificates(contextAhead(5 * 3600), null);
    expect(await certificates.read(certificate.id)).toMatchObject({ status: "Active" });
    await refreshCertificates(contextAhead(7 * 3600), null);
    expect(await certificates.read(certificate.id)).toMatchObject({ status: "Expiring" });
  });
});

describe("revocation and issuance", () => {
  /** What the ledger hands over for a version, as its outbox would. */
  async function handedOver(id: string) {
    const { ca_id, job_id, csr_pem } = await version(id);
    const { approved } = await approvedFor(id, csr_pem ?? "");
    const [issued] = await (await ledgerOfCa(ca_id)).issue([
      {
        request_id: job_id ?? "",
        certificate_id: id,
        subject: approved.subject,
        sans: approved.sans,
        spki: Uint8Array.from(approved.spki.match(/../g) ?? [], (octet) => Number.parseInt(octet, 16)),
        ekus: approved.ekus,
        must_staple: approved.must_staple,
        ttl_seconds: approved.ttl_seconds,
        settle: {},
      },
    ]);
    if (!issued?.ok) throw new Error("the ledger does not repeat itself");
    return issued;
  }

  async function certified(issued: Issued) {
    const ctx = contextAhead();
    const ca = await findCa(ctx, { issuer_id: fleet.issuerId, ca_id: issued.ca_id });
    if (!ca) throw new Error("no CA");
    return certify(ctx, ca, issued, certificateOf(ctx, issued));
  }

  it("inv 6: what the ledger hands over late or again changes nothing, also after a revocation", async () => {
    const certificate = await certificates.record();
    await certificates.issue(certificate);
    const issued = await handedOver(certificate.id);
    const before = await certificates.read(certificate.id);
    expect(await settleOutbox(contextAhead(), [issued, issued])).toEqual([factOf(issued), factOf(issued)]);
    const { updated_at: _, ...same } = before;
    expect(await certificates.read(certificate.id)).toMatchObject(same);
    expect(await auditCount("certificate.issue", certificate.id)).toBe(1);

    expect((await certificates.revoke(certificate.id, "superseded")).status).toBe(200);
    const settle = { key_algorithm: "ECDSA", key_size: 256 };
    await settleIssuance(contextAhead(), await certified({ ...issued, settle }));
    expect(await certificates.read(certificate.id)).toMatchObject({
      status: "Revoked",
      revocation_reason: "superseded",
    });
    expect(await version(certificate.id)).toMatchObject({ revocation_reason: "superseded" });
  });

  it("inv 4: what is being signed while the certificate is revoked is revoked as well", async () => {
    const certificate = await certificates.record();
    await certificates.issue(certificate);
    const job_id = (await certificates.trigger(certificate.id)).job_id;
    await takenAndLeft(certificate, job_id);
    expect((await certificates.revoke(certificate.id, "keyCompromise")).status).toBe(200);
    await runDue(contextAhead(61), jobWork);
    expect(await certificates.job(job_id)).toMatchObject({ status: "Completed" });
    expect(await certificates.read(certificate.id)).toMatchObject({ status: "Revoked" });
    const { ca_id, serial_number, revoked_at } = await version(certificate.id);
    expect(revoked_at).not.toBeNull();
    expect(await (await ledgerOfCa(ca_id)).status(serial_number)).toHaveProperty("revoked_at");
  });

  it("inv 4: revoking while the first one is being signed is to be repeated, and then revokes it", async () => {
    const certificate = await certificates.record();
    const job_id = (await certificates.trigger(certificate.id)).job_id;
    expect((await certificates.revoke(certificate.id, "keyCompromise")).status).toBe(404);
    await takenAndLeft(certificate, job_id);
    const early = await certificates.revoke(certificate.id, "keyCompromise");
    expect(early).toMatchObject({ status: 503, body: { error: "issuance_in_progress" } });
    expect(early.headers.get("Retry-After")).toBe("2");
    await runDue(contextAhead(61), jobWork);
    expect((await certificates.revoke(certificate.id, "keyCompromise")).status).toBe(200);
    expect(await certificates.read(certificate.id)).toMatchObject({ status: "Revoked" });
  });

  it("inv 4: what was signed under an issuer that the record has left since is revoked as well", async () => {
    const certificate = await certificates.record();
    const job_id = (await certificates.trigger(certificate.id)).job_id;
    await takenAndLeft(certificate, job_id);
    const ctx = contextAhead();
    const { approved, csr_pem } = (await findJob(ctx, job_id)) ?? {};
    const ca = approved && (await findCa(ctx, approved));
    if (!ca || !csr_pem) throw new Error("no approved request");
    const whose = { request_id: job_id, certificate_id: certificate.id, settle: {} };
    const answer = await ca.order({ ...whose, approved, csr_pem });
    if (!("certificate" in answer)) throw new Error("a ledger answers at once");
    const { serial } = parseCertificate(answer.certificate.der);
    const { id } = await fleet.admin.create("/api/v1/issuers", { name: "Moved To", type: "GenericCA" });
    const moved = await fleet.admin.put(`/api/v1/certificates/${certificate.id}`, { issuer_id: id });
    expect(moved.status, JSON.stringify(moved.body)).toBe(200);
    expect(await certificates.revoke(certificate.id, "keyCompromise")).toMatchObject({ status: 200 });
    expect(await (await ledgerOfCa(ca.ca_id)).status(serial)).toHaveProperty("revoked_at");
  });

  it("a job from before a revocation takes no CSR; a new renewal heals the certificate", async () => {
    const certificate = await certificates.record();
    const { version_id } = await certificates.issue(certificate);
    const old = (await certificates.trigger(certificate.id)).job_id;
    expect((await certificates.revoke(certificate.id, "superseded")).status).toBe(200);
    expect(await certificates.read(certificate.id)).toMatchObject({ status: "Revoked" });
    const refused = await submit(old, certificate.common_name);
    expect(refused.status).toBe(409);
    expect(refused.body).toMatchObject({ error: "certificate_revoked" });
    const job_id = (await certificates.trigger(certificate.id)).job_id;
    expect(await certificates.job(old)).toMatchObject({ status: "Cancelled" });
    expect(await certificates.read(certificate.id)).toMatchObject({ status: "RenewalInProgress" });
    expect((await submit(job_id, certificate.common_name)).status).toBe(202);
    expect(await certificates.read(certificate.id)).toMatchObject({
      status: "Active",
      revoked_at: null,
      revocation_reason: null,
    });
    const versions = await fleet.admin.get<{ data: Record<string, unknown>[] }>(
      `/api/v1/certificates/${certificate.id}/versions`,
    );
    expect(versions.body.data.map((row) => [row.id === version_id, row.revocation_reason])).toEqual([
      [false, null],
      [true, "superseded"],
    ]);
  });

  it("what is told late of a revocation before the renewal marks its version and leaves the certificate Active", async () => {
    const certificate = await certificates.record();
    await certificates.issue(certificate);
    const old = await version(certificate.id);
    // Its ledger revoked it and whoever asked was gone before the inventory knew.
    const ledger = await ledgerOfCa(old.ca_id);
    const told = await ledger.revoke([old.serial_number], "superseded");
    if (!told.ok) throw new Error(told.message);
    await certificates.issue(certificate);
    await env.DB.prepare("update certificate_versions set created_at = ? where certificate_id = ? and id <> ?")
      .bind(new Date(Date.now() + 2_000).toISOString(), certificate.id, old.id)
      .run();
    const entries = told.entries.map((entry) => ({ ...entry, issuer_id: old.issuer_id, changed: false }));
    await writeRevocation(contextAhead(3), certificate.id, entries, []);
    expect(await certificates.read(certificate.id)).toMatchObject({ status: "Active", revoked_at: null });
    expect(await versionRevocations(certificate.id)).toEqual([null, "superseded"]);
    expect((await certificates.revoke(certificate.id, "keyCompromise")).status).toBe(200);
    expect(await certificates.read(certificate.id)).toMatchObject({
      status: "Revoked",
      revocation_reason: "keyCompromise",
    });
  });
});
