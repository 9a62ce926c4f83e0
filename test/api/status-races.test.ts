import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { revokeCertificate } from "../../src/authority/revocation.ts";
import { dueForStatus, statusStatements } from "../../src/inventory/certificates/state.ts";
import { endStatements, findJob } from "../../src/lifecycle/jobs.ts";
import { cancelOrphanedJobs, expireJobs, refreshCertificates } from "../../src/lifecycle/sweeps.ts";
import { runBatch } from "../../src/platform/database.ts";
import { ChangedMeanwhile } from "../../src/platform/errors.ts";
import type { Client } from "../support/api.ts";
import { contextAhead, interrupted } from "../support/context.ts";
import { makeCsr } from "../support/csr.ts";
import { addAgent, type Fleet, issueFor, makeFleet } from "../support/fleet.ts";

/** A certificate's status is computed from what was read, and written only if nobody has written the certificate since. */

const DAY = 86_400;
let fleet: Fleet;
let n = 0;

beforeAll(async () => {
  fleet = await makeFleet();
});

const read = async (id: string) => (await fleet.admin.get(`/api/v1/certificates/${id}`)).body;
const renew = (id: string) => fleet.admin.post<{ job_ids: string[] }>(`/api/v1/certificates/${id}/renew`);

interface Waiting {
  readonly agent: Client;
  readonly agentId: string;
}

/** A certificate of several agents, each with a job that waits for its CSR. */
async function asked(count: number) {
  const name = `status-${++n}`;
  const agents: Waiting[] = [];
  const target_ids: string[] = [];
  for (let at = 0; at < count; at++) {
    const added = await addAgent(fleet.admin, `${name}-${at}`);
    const target = { name: `${name}-${at}`, type: "NGINX", agent_id: added.agentId };
    agents.push(added);
    target_ids.push(String((await fleet.admin.create("/api/v1/targets", target)).id));
  }
  const common_name = `${name}.example.com`;
  const body = { name, common_name, ...fleet.record, target_ids };
  const id = String((await fleet.admin.create("/api/v1/certificates", body)).id);
  const { job_ids } = (await renew(id)).body;
  return { id, common_name, agents, job_ids };
}

async function jobOf(id: string | undefined) {
  const job = await findJob(contextAhead(), id ?? "");
  if (!job) throw new Error("no job");
  return job;
}

describe("jobs that end at once", () => {
  it("inv 6: the second sees that the first has ended", async () => {
    const { id, job_ids } = await asked(2);
    const ctx = contextAhead();
    const [first, second] = await Promise.all(job_ids.map(jobOf));
    if (!first || !second) throw new Error("no jobs");
    const ends = [
      await endStatements(ctx, [first], "Failed", "no"),
      await endStatements(ctx, [second], "Failed", "no"),
    ];
    await runBatch(ctx.db, ends[0] ?? []);
    expect(await read(id)).toMatchObject({ status: "RenewalInProgress" });
    await expect(runBatch(ctx.db, ends[1] ?? [])).rejects.toThrow(ChangedMeanwhile);
    await runBatch(ctx.db, await endStatements(ctx, [second], "Failed", "no"));
    expect(await read(id)).toMatchObject({ status: "Failed" });
  });

  it("leave no certificate behind, however they end", async () => {
    const failed = await asked(3);
    await Promise.all([1, 2, 3].map(() => expireJobs(contextAhead(25 * 3600), null)));
    expect(await read(failed.id)).toMatchObject({ status: "Failed" });

    const orphaned = await asked(3);
    await fleet.admin.put(`/api/v1/certificates/${orphaned.id}`, { target_ids: [] });
    await Promise.all([1, 2, 3].map(() => cancelOrphanedJobs(contextAhead(), null)));
    await cancelOrphanedJobs(contextAhead(), null);
    expect(await read(orphaned.id)).toMatchObject({ status: "Pending" });

    const retired = await asked(3);
    const retire = ({ agentId }: Waiting) => fleet.admin.delete(`/api/v1/agents/${agentId}?force=true&reason=gone`);
    const answers = await Promise.all(retired.agents.map(retire));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
    expect(await read(retired.id)).toMatchObject({ status: "Pending" });
  });

  it("with certificates: each is stored, and the last one ends the renewal", async () => {
    const { id, common_name, agents } = await asked(8);
    const submit = async ({ agent, agentId }: Waiting) => {
      const csr_pem = await makeCsr({ commonName: common_name });
      return agent.post(`/api/v1/agents/${agentId}/csr`, { certificate_id: id, csr_pem });
    };
    const answers = await Promise.all(agents.map(submit));
    expect(answers.map(({ status }) => status)).toEqual(agents.map(() => 202));
    expect(await read(id)).toMatchObject({ status: "Active" });
    const versions = await fleet.admin.get<{ total: number }>(`/api/v1/certificates/${id}/versions`);
    expect(versions.body.total).toBe(8);
  });
});

describe("a revocation", () => {
  it("inv 4: whose certificate is renewed after it was read starts over, and takes the new version along", async () => {
    const { id } = await issueFor(fleet, "status-revoke");
    const renewal = async () => {
      await renew(id);
      const csr_pem = await makeCsr({ commonName: "status-revoke.example.test" });
      const answer = await fleet.agent.post(`/api/v1/agents/${fleet.agentId}/csr`, { certificate_id: id, csr_pem });
      expect(answer.status).toBe(202);
    };
    await revokeCertificate(interrupted(renewal), id, "superseded");
    const { body } = await fleet.admin.get<{ data: { revocation_reason: string | null }[] }>(
      `/api/v1/certificates/${id}/versions`,
    );
    expect(body.data.map((version) => version.revocation_reason)).toEqual(["superseded", "superseded"]);
    expect(await read(id)).toMatchObject({ status: "Revoked" });
  });
});

describe("the sweep", () => {
  it("writes nothing over a renewal that was asked for after it looked", async () => {
    const { id } = await issueFor(fleet, "status-sweep");
    const ahead = contextAhead(70 * DAY);
    const change = (await dueForStatus(ahead, 50)).find(({ facts }) => facts.id === id);
    expect(change).toMatchObject({ facts: { status: "Active" }, to: "Expiring" });
    expect((await renew(id)).status).toBe(202);
    if (!change) throw new Error("nothing is due");
    await expect(runBatch(ahead.db, statusStatements(ahead, change))).rejects.toThrow(ChangedMeanwhile);
    expect(await read(id)).toMatchObject({ status: "RenewalInProgress" });
  });

  it("finds a renewal that nothing stands behind", async () => {
    const { id } = await issueFor(fleet, "status-nothing");
    await env.DB.prepare("update certificates set status = 'RenewalInProgress' where id = ?").bind(id).run();
    await refreshCertificates(contextAhead(61 * DAY), null);
    expect(await read(id)).toMatchObject({ status: "Expiring" });
  });

  it("finds a certificate whose policy has another window now, and then nothing more", async () => {
    const policy = await fleet.admin.create("/api/v1/renewal-policies", { name: "window", renewal_window_days: 30 });
    const { id } = await issueFor(fleet, "status-window");
    await fleet.admin.put(`/api/v1/certificates/${id}`, { renewal_policy_id: policy.id });
    const at = async (days: number) => {
      await refreshCertificates(contextAhead(days * DAY), null);
      return (await read(id)).status;
    };
    expect(await at(70)).toBe("Expiring");
    await fleet.admin.put(`/api/v1/renewal-policies/${policy.id}`, { renewal_window_days: 5 });
    expect(await at(70)).toBe("Active");
    expect(await dueForStatus(contextAhead(70 * DAY), 50)).toEqual([]);
  });
});
