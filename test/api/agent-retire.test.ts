import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { cancelOrphanedJobs } from "../../src/lifecycle/sweeps.ts";
import { actorWith } from "../support/actors.ts";
import { auditCount, type Client } from "../support/api.ts";
import { contextAhead } from "../support/context.ts";
import { makeCsr } from "../support/csr.ts";
import { addAgent, type Fleet, makeFleet } from "../support/fleet.ts";

let fleet: Fleet;
let n = 0;
const agents = "/api/v1/agents";

beforeAll(async () => {
  fleet = await makeFleet();
});

/** An agent with a target and a certificate whose job waits for its CSR. */
async function busy() {
  const name = `busy-${++n}`;
  const { agent, agentId } = await addAgent(fleet.admin, name);
  const target = await fleet.admin.create("/api/v1/targets", { name, type: "NGINX", agent_id: agentId });
  const common_name = `${name}.example.com`;
  const certificate = await fleet.admin.create("/api/v1/certificates", {
    ...fleet.record,
    name,
    common_name,
    target_ids: [target.id],
  });
  const renewal = await fleet.admin.post<{ job_id: string }>(`/api/v1/certificates/${certificate.id}/renew`);
  return {
    agent,
    agentId,
    at: `${agents}/${agentId}`,
    targetId: String(target.id),
    certificateId: String(certificate.id),
    common_name,
    jobId: renewal.body.job_id,
  };
}

const retire = (id: string, query = "") => fleet.admin.delete(`${agents}/${id}${query}`);
const FORCED = "?force=true&reason=decommissioned";

/** Every route that is an agent's own. */
async function everyAgentRoute(agent: Client, at: string, certificateId: string): Promise<number[]> {
  const csr_pem = await makeCsr({ commonName: "x.example.com" });
  const answers = await Promise.all([
    agent.post(`${at}/heartbeat`),
    agent.get(`${at}/work`),
    agent.post(`${at}/csr`, { csr_pem, certificate_id: certificateId }),
    agent.get(`${at}/certificates/${certificateId}`),
  ]);
  return answers.map(({ status }) => status);
}

describe("retiring an agent", () => {
  it("that nothing hangs on ends it: 200, then 204, and 410 wherever its key shows up", async () => {
    const { agent, agentId } = await addAgent(fleet.admin, "idle");
    const answer = await retire(agentId, "?reason=old%20rack");
    expect(answer.status).toBe(200);
    expect(answer.body).toEqual({
      retired_at: expect.any(String),
      already_retired: false,
      cascade: false,
      counts: { active_targets: 0, active_certificates: 0, pending_jobs: 0 },
    });
    expect((await retire(agentId)).status).toBe(204);
    expect((await retire(agentId, FORCED)).status).toBe(204);
    expect(await auditCount("agent.retire", agentId)).toBe(1);
    expect(await everyAgentRoute(agent, `${agents}/${agentId}`, "x")).toEqual([410, 410, 410, 410]);
    expect((await fleet.admin.get(`${agents}/${agentId}`)).body).toMatchObject({
      retired_at: answer.body.retired_at,
      retired_reason: "old rack",
      status: "Offline",
    });
  });

  it("is refused while targets, certificates or jobs hang on it, and then changes nothing", async () => {
    const it = await busy();
    const answer = await retire(it.agentId);
    expect(answer.status).toBe(409);
    expect(answer.body).toEqual({
      error: "blocked_by_dependencies",
      message: expect.stringContaining(it.agentId),
      request_id: answer.headers.get("X-Request-ID"),
      counts: { active_targets: 1, active_certificates: 1, pending_jobs: 1 },
    });
    expect((await it.agent.get<{ count: number }>(`${it.at}/work`)).body.count).toBe(1);
    expect(await auditCount("agent.retire", it.agentId)).toBe(0);
  });

  it("by force takes its targets and open jobs along, and says why", async () => {
    const it = await busy();
    const answer = await retire(it.agentId, FORCED);
    expect(answer.status).toBe(200);
    expect(answer.body).toMatchObject({
      cascade: true,
      counts: { active_targets: 1, active_certificates: 1, pending_jobs: 1 },
    });
    expect((await fleet.admin.get(`/api/v1/targets/${it.targetId}`)).body).toMatchObject({
      retired_at: answer.body.retired_at,
      retired_reason: "decommissioned",
    });
    expect((await fleet.admin.get(`/api/v1/jobs/${it.jobId}`)).body).toMatchObject({
      status: "Cancelled",
      last_error: expect.stringContaining("retired"),
    });
    expect((await fleet.admin.get(`/api/v1/certificates/${it.certificateId}`)).body.status).not.toBe(
      "RenewalInProgress",
    );
    expect(await auditCount("target.retire", it.targetId)).toBe(1);
    expect(await auditCount("job.cancelled", it.jobId)).toBe(1);
    expect(await everyAgentRoute(it.agent, it.at, it.certificateId)).toEqual([410, 410, 410, 410]);
    const again = await fleet.admin.post(`/api/v1/certificates/${it.certificateId}/renew`);
    expect(again.body).toMatchObject({ error: "agents_retired" });
    expect((await fleet.admin.put(`/api/v1/targets/${it.targetId}`, { enabled: true })).status).toBe(409);
  });

  it.each(["?force=true", "?force=1&reason=%20", "?force=perhaps", "?reason=%00"])(
    "is a 400 with %s",
    async (query) => {
      const { agentId } = await addAgent(fleet.admin, `bad-${++n}`);
      const answer = await retire(agentId, query);
      expect(answer.status).toBe(400);
      expect(answer.body.message).toMatch(/force|reason/);
      expect((await fleet.admin.get(`${agents}/${agentId}`)).body.retired_at).toBeNull();
    },
  );

  it("is a 404 for none, and a 403 without agent.retire and for agents", async () => {
    expect((await retire("agent-none")).status).toBe(404);
    const operator = await actorWith([{ role_id: "r-operator" }]);
    expect((await operator.delete(`${agents}/${fleet.agentId}`)).status).toBe(403);
    expect((await fleet.agent.delete(`${agents}/${fleet.agentId}`)).status).toBe(403);
  });

  it("leaves nobody to give a target to", async () => {
    const { agentId } = await addAgent(fleet.admin, "gone");
    await retire(agentId);
    const target = { name: "late", type: "NGINX", agent_id: agentId };
    expect((await fleet.admin.post("/api/v1/targets", target)).body.message).toContain("retired");
    const moved = await fleet.admin.put(`/api/v1/targets/${fleet.targetId}`, { agent_id: agentId });
    expect(moved.status).toBe(400);
  });

  it("ends every job of an agent that has more than fit into one transaction", async () => {
    const it = await busy();
    const now = new Date().toISOString();
    await env.DB.batch(
      Array.from({ length: 230 }, (_, at) =>
        env.DB.prepare(
          `insert into jobs (id, type, certificate_id, agent_id, status, attempts, max_attempts, scheduled_at, created_at, updated_at, fence)
           values (?, 'Deployment', ?, ?, 'Pending', 0, 1, ?, ?, ?, 0)`,
        ).bind(`job-many-${at}`, it.certificateId, it.agentId, now, now, now),
      ),
    );
    const answer = await retire(it.agentId, FORCED);
    expect(answer.body).toMatchObject({ counts: { pending_jobs: 231 } });
    const open = await env.DB.prepare("select count(*) as n from jobs where agent_id = ? and status <> 'Cancelled'")
      .bind(it.agentId)
      .first();
    expect(open).toEqual({ n: 0 });
  });
});

describe("retired agents", () => {
  it("are listed apart, who retired last first, in pages", async () => {
    const ids: string[] = [];
    for (const name of ["leaver-1", "leaver-2"]) {
      const { agentId } = await addAgent(fleet.admin, name);
      await retire(agentId);
      ids.unshift(agentId);
    }
    const first = await fleet.admin.get<{ data: { id: string; retired_at: string }[]; total: number }>(
      `${agents}/retired?per_page=2`,
    );
    expect(first.status).toBe(200);
    expect(first.body).toMatchObject({ page: 1, per_page: 2 });
    expect(first.body.data.map(({ id }) => id)).toEqual(ids);
    expect(first.body.total).toBeGreaterThanOrEqual(2);
    const working = await fleet.admin.get<{ data: { id: string }[] }>(`${agents}?per_page=500`);
    expect(working.body.data.map(({ id }) => id)).not.toContain(ids[0]);
    expect((await fleet.agent.get(`${agents}/retired`)).status).toBe(403);
    expect((await fleet.admin.get(`${agents}/retired?per_page=0`)).status).toBe(400);
  });
});

describe("races with a retirement", () => {
  it("two who retire: one does, the other finds it done", async () => {
    const it = await busy();
    const answers = await Promise.all([retire(it.agentId, FORCED), retire(it.agentId, FORCED)]);
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 204]);
    expect(await auditCount("agent.retire", it.agentId)).toBe(1);
  });

  it("a CSR is signed and on record, or refused with 410; no job stays open", async () => {
    for (let round = 0; round < 6; round++) {
      const it = await busy();
      const csr_pem = await makeCsr({ commonName: it.common_name });
      const submission = it.agent.post(`${it.at}/csr`, { csr_pem, job_id: it.jobId });
      const [submitted, retired] = await Promise.all([submission, retire(it.agentId, FORCED)]);
      expect(retired.status).toBe(200);
      expect([202, 410]).toContain(submitted.status);
      const versions = await fleet.admin.get<{ total: number }>(`/api/v1/certificates/${it.certificateId}/versions`);
      expect(versions.body.total).toBe(submitted.status === 202 ? 1 : 0);
      const job = await fleet.admin.get(`/api/v1/jobs/${it.jobId}`);
      expect(["Cancelled", "Completed"]).toContain(job.body.status);
      expect(await everyAgentRoute(it.agent, it.at, it.certificateId)).toEqual([410, 410, 410, 410]);
    }
  });

  it("a job that was being signed stays cancelled, and what comes of it is on record", async () => {
    const it = await busy();
    const csr_pem = await makeCsr({ commonName: it.common_name });
    expect((await it.agent.post(`${it.at}/csr`, { csr_pem, job_id: it.jobId })).status).toBe(202);
    // As if the signature were still on its way.
    await env.DB.prepare("update jobs set status = 'Running', completed_at = null, version_id = null where id = ?")
      .bind(it.jobId)
      .run();
    expect((await retire(it.agentId)).body).toMatchObject({ counts: { pending_jobs: 1 } });
    expect((await retire(it.agentId, FORCED)).status).toBe(200);
    expect((await fleet.admin.get(`/api/v1/jobs/${it.jobId}`)).body.status).toBe("Cancelled");
    expect((await fleet.admin.get(`/api/v1/certificates/${it.certificateId}`)).body.status).toBe("Active");
  });

  it("a target or a renewal that comes in between leaves neither an active target nor an open job behind", async () => {
    for (let round = 0; round < 4; round++) {
      const { agentId } = await addAgent(fleet.admin, `between-${++n}`);
      const target = fleet.admin.post("/api/v1/targets", { name: `late-${n}`, type: "NGINX", agent_id: agentId });
      const [made, retired] = await Promise.all([target, retire(agentId)]);
      const active = await env.DB.prepare("select count(*) as n from targets where agent_id = ? and retired_at is null")
        .bind(agentId)
        .first<{ n: number }>();
      if (retired.status === 200) expect(active?.n).toBe(0);
      else expect([made.status, retired.status]).toEqual([201, 409]);
    }
    const it = await busy();
    const [renewed, retired] = await Promise.all([
      fleet.admin.post(`/api/v1/certificates/${it.certificateId}/renew?force=true`),
      retire(it.agentId, FORCED),
    ]);
    expect(retired.status).toBe(200);
    expect([202, 400]).toContain(renewed.status);
    const open = await env.DB.prepare("select count(*) as n from jobs where agent_id = ? and completed_at is null")
      .bind(it.agentId)
      .first();
    expect(open).toEqual({ n: 0 });
    // There is nothing left for the sweep to mend.
    expect(await cancelOrphanedJobs(contextAhead(), null)).toBeNull();
  });
});
