import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { submitCsr } from "../../src/lifecycle/csr.ts";
import { certifyCsr } from "../../src/lifecycle/record-csr.ts";
import type { Actor } from "../../src/platform/context.ts";
import type { Unit, Writer } from "../../src/platform/writer.ts";
import { makeContext } from "../../worker/context.ts";
import { auditCount } from "../support/api.ts";
import { makeCsr } from "../support/csr.ts";
import { type Fleet, makeFleet } from "../support/fleet.ts";
import { ledgerIdOf } from "../support/ledgers.ts";
import { ledgerStub } from "../support/rewind.ts";

/** inv 1, 6: the ledger has signed, and whoever asked dies before the inventory has heard of it. */

let fleet: Fleet;
let n = 0;

beforeAll(async () => {
  fleet = await makeFleet();
});

async function record(more: Record<string, unknown> = {}): Promise<{ id: string; common_name: string }> {
  const common_name = `crash-${++n}.example.com`;
  const body = { name: `crash ${n}`, common_name, ...fleet.record, ...more };
  return { id: String((await fleet.admin.create("/api/v1/certificates", body)).id), common_name };
}

/** The context of a request that dies when it would write to D1; `deferred` is what it leaves behind. */
function dying(actor: Partial<Actor>, dies = true) {
  const deferred: Promise<unknown>[] = [];
  const fail = () => Promise.reject(new Error("Network connection lost."));
  const writer = {
    commit: (unit: Unit) =>
      unit.queries.every(({ sql }) => /^\s*select/i.test(sql))
        ? (env.WRITER.getByName("d1") as unknown as Writer).commit(unit)
        : fail(),
  };
  const bindings = {
    ...env,
    WRITER: { getByName: () => writer },
    ...(dies ? { DB: { prepare: (text: string) => env.DB.prepare(text), batch: fail } } : {}),
  };
  const who: Actor = { id: "root-admin", type: "APIKey", tenant_id: "t-default", roles: [], permissions: [], ...actor };
  return { ctx: makeContext(bindings, { waitUntil: (work) => deferred.push(work) }, { actor: who }), deferred };
}

const EVERYWHERE = { permissions: [{ permission: "cert.issue", scope_type: "global" as const }] };
const read = async (path: string) => (await fleet.admin.get(path)).body;

/** The ledger's alarm, ten seconds later. */
async function handOver() {
  await runInDurableObject(ledgerStub(await ledgerIdOf(fleet.issuerId)), async (issuer) => {
    issuer.clock = { now: () => new Date(Date.now() + 10_000) };
    await issuer.alarm();
    issuer.clock = { now: () => new Date() };
  });
}

describe("an agent's CSR", () => {
  const path = () => `/api/v1/agents/${fleet.agentId}/csr`;

  async function waiting() {
    const certificate = await record({ target_ids: [fleet.targetId] });
    const { body } = await fleet.admin.post<{ job_id: string }>(`/api/v1/certificates/${certificate.id}/renew`);
    return { ...certificate, job_id: body.job_id, csr_pem: await makeCsr({ commonName: certificate.common_name }) };
  }

  it("is handed over by the ledger and ends its job; the same CSR gets the same answer, another one a 409", async () => {
    const { id, common_name, job_id, csr_pem } = await waiting();
    const { ctx } = dying({ id: fleet.agentId, type: "Agent" });
    await expect(async () => submitCsr(ctx, fleet.agentId, { csr_pem, job_id })).rejects.toMatchObject({
      status: 503,
      code: "issuance_pending",
    });
    expect(await read(`/api/v1/jobs/${job_id}`)).toMatchObject({ status: "AwaitingCSR", version_id: null });
    const other = { csr_pem: await makeCsr({ commonName: common_name }), job_id };
    expect(await fleet.agent.post(path(), other)).toMatchObject({ status: 409, body: { error: "another_csr" } });
    expect(await read(`/api/v1/jobs/${job_id}`)).toMatchObject({ status: "AwaitingCSR" });
    await handOver();
    const job = await read(`/api/v1/jobs/${job_id}`);
    expect(job).toMatchObject({ status: "Completed", attempts: 1, version_id: expect.any(String) });
    expect(await read(`/api/v1/certificates/${id}`)).toMatchObject({ status: "Active" });
    const again = await fleet.agent.post(path(), { csr_pem, job_id });
    expect(again).toMatchObject({ status: 202, body: { job_id, version_id: job.version_id } });
    expect(await fleet.agent.post(path(), other)).toMatchObject({ status: 409, body: { error: "another_csr" } });
    expect(await auditCount("certificate.issue", id)).toBe(1);
  });

  it("comes again before the ledger hands it over: it is stored once", async () => {
    const { id, job_id, csr_pem } = await waiting();
    const { ctx } = dying({ id: fleet.agentId, type: "Agent" });
    await expect(async () => submitCsr(ctx, fleet.agentId, { csr_pem, job_id })).rejects.toMatchObject({ status: 503 });
    const answer = await fleet.agent.post<{ version_id: string }>(path(), { csr_pem, job_id });
    expect(answer.status, JSON.stringify(answer.body)).toBe(202);
    await handOver();
    const versions = await read(`/api/v1/certificates/${id}/versions`);
    expect(versions).toMatchObject({ total: 1, data: [{ id: answer.body.version_id, job_id }] });
    expect(await auditCount("certificate.issue", id)).toBe(1);
  });

  it("that only could not be stored is kept, so that the sweep goes on with it", async () => {
    const { job_id, csr_pem } = await waiting();
    const { ctx, deferred } = dying({ id: fleet.agentId, type: "Agent" }, false);
    await expect(async () => submitCsr(ctx, fleet.agentId, { csr_pem, job_id })).rejects.toMatchObject({ status: 503 });
    await Promise.all(deferred);
    const kept = await read(`/api/v1/jobs/${job_id}`);
    expect(kept).toMatchObject({ status: "Running", last_error: expect.stringContaining("Network connection lost") });
    const answer = await fleet.agent.post(path(), { csr_pem, job_id });
    expect(answer.status, JSON.stringify(answer.body)).toBe(202);
    expect(await read(`/api/v1/jobs/${job_id}`)).toMatchObject({ status: "Completed", last_error: null });
  });
});

describe("a CSR for a record without a target", () => {
  it("is handed over with its job; the same CSR gets the version that it has", async () => {
    const { id, common_name } = await record();
    const csr_pem = await makeCsr({ commonName: common_name });
    const { ctx } = dying(EVERYWHERE);
    await expect(async () => certifyCsr(ctx, id, csr_pem)).rejects.toMatchObject({ status: 503 });
    const other = { csr_pem: await makeCsr({ commonName: common_name }) };
    expect(await fleet.admin.post(`/api/v1/certificates/${id}/csr`, other)).toMatchObject({
      status: 409,
      body: { error: "another_csr" },
    });
    await handOver();
    expect(await read(`/api/v1/certificates/${id}`)).toMatchObject({ status: "Active" });
    const again = await fleet.admin.post<{ version_id: string; job_id: string }>(`/api/v1/certificates/${id}/csr`, {
      csr_pem,
    });
    expect(again.status, JSON.stringify(again.body)).toBe(201);
    expect(await read(`/api/v1/certificates/${id}/versions`)).toMatchObject({
      total: 1,
      data: [{ id: again.body.version_id, job_id: again.body.job_id }],
    });
    expect(await read(`/api/v1/jobs/${again.body.job_id}`)).toMatchObject({ status: "Completed", type: "Issuance" });
    expect(await auditCount("job.create", again.body.job_id)).toBe(1);
    expect((await fleet.admin.post(`/api/v1/certificates/${id}/csr`, other)).status).toBe(201);
  });

  it("two keys at once: one is signed, the other one is told to come again", async () => {
    const { id, common_name } = await record();
    const csrs = await Promise.all(Array.from({ length: 6 }, () => makeCsr({ commonName: common_name })));
    const answers = await Promise.all(
      csrs.map((csr_pem) => fleet.admin.post(`/api/v1/certificates/${id}/csr`, { csr_pem })),
    );
    const signed = answers.filter(({ status }) => status === 201);
    expect(answers.every(({ status }) => status === 201 || status === 409)).toBe(true);
    expect(signed.length).toBeGreaterThan(0);
    expect(await read(`/api/v1/certificates/${id}/versions`)).toMatchObject({ total: signed.length });
    expect(await auditCount("certificate.issue", id)).toBe(signed.length);
  });
});
