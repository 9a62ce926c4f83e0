import { env } from "cloudflare:workers";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { CaType } from "../../src/authority/ca.ts";
import { jobWork } from "../../src/lifecycle/signing.ts";
import { toHex } from "../../src/pki/bytes.ts";
import { generateKeyPair } from "../../src/pki/keys.ts";
import { runDue } from "../../src/platform/work/engine.ts";
import { WIRING } from "../../worker/wiring.ts";
import { auditCount } from "../support/api.ts";
import { contextAhead } from "../support/context.ts";
import { makeCsr } from "../support/csr.ts";
import { type Fleet, makeFleet } from "../support/fleet.ts";
import { LateCa } from "../support/late-ca.ts";
import { outsideCa } from "../support/outside-ca.ts";

/** A CA elsewhere that answers late, plugged in where the worker plugs its own: the whole path from the order to the end. */

const CONFIG = { account: "acme-corp", token: "very-secret" };
let fleet: Fleet;
let late: LateCa;
let issuerId: string;
let n = 0;

beforeAll(async () => {
  fleet = await makeFleet();
  late = await LateCa.make();
  (WIRING.cas as Record<string, CaType>).StepCA = late.type;
  const issuer = await fleet.admin.create("/api/v1/issuers", { name: "Late", type: "StepCA", config: CONFIG });
  issuerId = String(issuer.id);
});

beforeEach(() => {
  late.calls.length = 0;
  late.ready = false;
  late.tamper = () => ({});
  late.impostor = null;
});

async function record(target_ids: string[] = [fleet.targetId]) {
  const common_name = `late-${++n}.example.com`;
  const names = { common_name, sans: [`www.${common_name}`] };
  const body = { name: `late ${n}`, ...names, ...fleet.record, issuer_id: issuerId, target_ids };
  const { id } = await fleet.admin.create("/api/v1/certificates", body);
  return { id: String(id), common_name };
}

const read = async (id: string) => (await fleet.admin.get(`/api/v1/certificates/${id}`)).body;
const job = async (id: string) => (await fleet.admin.get(`/api/v1/jobs/${id}`)).body;

/** Renews and sends a CSR; the CA has the order then. */
async function ordered() {
  const certificate = await record();
  const renewed = await fleet.admin.post<{ job_id: string }>(`/api/v1/certificates/${certificate.id}/renew`);
  const csr = { csr_pem: await makeCsr({ commonName: certificate.common_name }), job_id: renewed.body.job_id };
  const send = () => fleet.agent.post(`/api/v1/agents/${fleet.agentId}/csr`, csr);
  const answer = await send();
  expect(answer.status, JSON.stringify(answer.body)).toBe(202);
  expect(answer.body).toMatchObject({ status: "csr_ordered", version_id: null, job_id: csr.job_id });
  return { ...certificate, job_id: csr.job_id, send };
}

async function issued() {
  const certificate = await ordered();
  late.ready = true;
  await runDue(contextAhead(31), jobWork);
  expect(await job(certificate.job_id)).toMatchObject({ status: "Completed" });
  return certificate;
}

describe("an order that is answered late", () => {
  it("is stored, asked for when that is due, and becomes a version that the agent picks up", async () => {
    const { id, job_id, send } = await ordered();
    expect(late.calls).toEqual(["order"]);
    const row = await env.DB.prepare("select order_reference from jobs where id = ?").bind(job_id).first();
    expect(row).toEqual({ order_reference: `late-${job_id}` });
    expect(await read(id)).toMatchObject({ status: "RenewalInProgress" });
    // The same CSR again orders nothing and asks nothing before that is due.
    expect((await send()).body).toMatchObject({ status: "csr_ordered" });
    await runDue(contextAhead(0), jobWork);
    expect(late.calls).toEqual(["order"]);
    await runDue(contextAhead(31), jobWork);
    expect(late.calls).toEqual(["order", "poll"]);
    expect(await job(job_id)).toMatchObject({ status: "Running" });
    late.ready = true;
    await runDue(contextAhead(3_700), jobWork);
    expect(late.calls).toEqual(["order", "poll", "poll", "certificate"]);
    expect(await job(job_id)).toMatchObject({ status: "Completed" });
    expect(await read(id)).toMatchObject({ status: "Active" });
    expect((await send()).body).toMatchObject({ status: "csr_signed", version_id: (await job(job_id)).version_id });
    const picked = await fleet.agent.get(`/api/v1/agents/${fleet.agentId}/certificates/${id}`);
    expect(String(picked.body.certificate_pem).match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
    expect(await auditCount("certificate.issue", id)).toBe(1);
  });

  it("that is for a certificate without a target is told to whoever brought the CSR", async () => {
    const { id, common_name } = await record([]);
    const csr_pem = await makeCsr({ commonName: common_name });
    const first = await fleet.admin.post<{ job_id: string }>(`/api/v1/certificates/${id}/csr`, { csr_pem });
    expect(first, JSON.stringify(first.body)).toMatchObject({ status: 202, body: { status: "csr_ordered" } });
    late.ready = true;
    await runDue(contextAhead(31), jobWork);
    const again = await fleet.admin.post(`/api/v1/certificates/${id}/csr`, { csr_pem });
    expect(again, JSON.stringify(again.body)).toMatchObject({ status: 201, body: { certificate_id: id } });
  });

  it("whose reference was lost in a crash is placed again under the same id", async () => {
    const { job_id } = await ordered();
    await env.DB.prepare("update jobs set order_reference = null where id = ?").bind(job_id).run();
    await runDue(contextAhead(61), jobWork);
    expect(late.calls).toEqual(["order", "order"]);
    late.ready = true;
    await runDue(contextAhead(3_700), jobWork);
    expect(await job(job_id)).toMatchObject({ status: "Completed" });
  });
});

describe("inv 8: a certificate that differs from what was approved", () => {
  const cases: [string, RegExp, () => Promise<void>][] = [
    [
      "in its key",
      /public key/,
      async () => {
        const spki = toHex((await generateKeyPair("ECDSA-P256")).spki);
        late.tamper = () => ({ spki });
      },
    ],
    [
      "by a name more",
      /dns:other\.example/,
      async () => {
        late.tamper = ({ sans }) => ({ sans: [...sans, { type: "dns", value: "other.example" }] });
      },
    ],
    [
      "by a name less",
      /lacks the name/,
      async () => {
        late.tamper = ({ sans }) => ({ sans: sans.slice(0, 1) });
      },
    ],
    [
      "in its subject",
      /subject/,
      async () => {
        late.tamper = ({ subject }) => ({ subject: { ...subject, organization: "Somebody Else" } });
      },
    ],
    [
      "in its life",
      /seconds/,
      async () => {
        late.tamper = ({ ttl_seconds }) => ({ ttl_seconds: ttl_seconds + 1 });
      },
    ],
    [
      "in its usages",
      /codeSigning/,
      async () => {
        late.tamper = ({ ekus }) => ({ ekus: [...ekus, "codeSigning"] });
      },
    ],
    [
      "in its issuer",
      /chain/,
      async () => {
        late.impostor = await outsideCa({ name: "Late Root" });
      },
    ],
  ];

  it.each(cases)("%s is refused and noted, and nobody gets it", async (_, difference, prepare) => {
    const { id, job_id } = await ordered();
    await prepare();
    late.ready = true;
    await runDue(contextAhead(31), jobWork);
    expect(await job(job_id)).toMatchObject({ status: "Failed", last_error: expect.stringMatching(difference) });
    expect(await read(id)).toMatchObject({ status: "Failed" });
    expect(await auditCount("certificate.refuse", id)).toBe(1);
    expect(await auditCount("certificate.issue", id)).toBe(0);
    const versions = await fleet.admin.get(`/api/v1/certificates/${id}/versions`);
    expect(versions.body).toMatchObject({ total: 0 });
  });
});

describe("a revocation", () => {
  it("is asked of the CA that issued the certificate, and blocks its key where that is compromised", async () => {
    const { id, common_name } = await issued();
    expect((await fleet.admin.post(`/api/v1/certificates/${id}/revoke`, { reason: "keyCompromise" })).status).toBe(200);
    const { body } = await fleet.admin.get<{ data: { serial_number: string }[] }>(
      `/api/v1/certificates/${id}/versions`,
    );
    expect(late.revoked.at(0)).toEqual({ serial: body.data[0]?.serial_number, reason: "keyCompromise" });
    expect(body.data[0]).toMatchObject({ revocation_reason: "keyCompromise" });
    expect(await read(id)).toMatchObject({ status: "Revoked", common_name });
    const { results } = await env.DB.prepare("select reason from blocked_keys where certificate_id = ?").bind(id).all();
    expect(results).toEqual([{ reason: "keyCompromise" }]);
  });
});

describe("an issuer whose CA is outside", () => {
  it("keeps its secrets sealed and masked, also through changes", async () => {
    const path = `/api/v1/issuers/${issuerId}`;
    expect((await fleet.admin.get(path)).body).toMatchObject({ config: { account: "acme-corp", token: "********" } });
    const changed = await fleet.admin.put(path, { config: { account: "other", token: "********" } });
    expect(changed, JSON.stringify(changed.body)).toMatchObject({
      status: 200,
      body: { config: { account: "other" } },
    });
    expect(JSON.stringify(changed.body)).not.toContain(CONFIG.token);
    const row = await env.DB.prepare("select * from issuers where id = ?").bind(issuerId).first();
    expect(JSON.stringify(row)).not.toContain(CONFIG.token);
    expect(await fleet.admin.put(path, { config: { unknown: 1 } })).toMatchObject({ status: 400 });
    expect(await fleet.admin.put(path, { config: { account: null } })).toMatchObject({ status: 400 });
    expect((await fleet.admin.post(`${path}/test`)).status).toBe(200);
  });

  it("has no CA of ours below it", async () => {
    expect(await fleet.admin.post(`/api/v1/issuers/${issuerId}/intermediates`, { name: "Below" })).toMatchObject({
      status: 400,
      body: { error: "no_own_ca" },
    });
  });

  it("ends at its CA when it is deleted, and not while something needs it", async () => {
    await record();
    expect(await fleet.admin.delete(`/api/v1/issuers/${issuerId}`)).toMatchObject({ status: 409 });
    const body = { name: "Leaving", type: "StepCA", config: { account: "leaving", token: "t-1" } };
    const { id } = await fleet.admin.create("/api/v1/issuers", body);
    expect((await fleet.admin.delete(`/api/v1/issuers/${id}`)).status).toBe(204);
    await expect.poll(() => late.ended, { timeout: 30_000 }).toContainEqual(body.config);
  });
});
