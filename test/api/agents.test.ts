import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { auditCount, Client } from "../support/api.ts";
import { makeCsr } from "../support/csr.ts";
import { addAgent, type Fleet, makeFleet } from "../support/fleet.ts";

let fleet: Fleet;
const agents = "/api/v1/agents";

beforeAll(async () => {
  fleet = await makeFleet();
});

describe("registering an agent", () => {
  it("answers its key once, which works at once and is stored as a hash only", async () => {
    const answer = await fleet.admin.post(agents, {
      name: "New one",
      hostname: "new.example",
      os: "linux",
      architecture: "amd64",
      status: "Online",
      retired_at: "2020-01-01T00:00:00Z",
    });
    expect(answer.status).toBe(201);
    expect(answer.body).toMatchObject({
      id: "agent-new-one",
      status: "Offline",
      os: "linux",
      last_heartbeat_at: null,
      retired_at: null,
      api_key: expect.stringMatching(/^certctl_/),
    });
    const { api_key, ...shown } = answer.body;
    expect((await fleet.admin.get(`${agents}/agent-new-one`)).body).toEqual(shown);
    const agent = new Client(String(api_key));
    expect((await agent.get("/api/v1/auth/me")).body).toMatchObject({
      actor_id: "agent-new-one",
      actor_type: "Agent",
      roles: ["r-agent"],
    });
    const stored = await env.DB.prepare("select * from api_keys where actor_id = 'agent-new-one'").all();
    expect(JSON.stringify(stored.results)).not.toContain(String(api_key).slice(20));
    expect(await auditCount("agent.register", "agent-new-one")).toBe(1);
  });

  it("is a 409 for a name that is taken, and then makes no key", async () => {
    const count = async () =>
      (await env.DB.prepare("select count(*) as n from api_keys").first<{ n: number }>())?.n ?? 0;
    await fleet.admin.create(agents, { name: "Twice", hostname: "a.example" });
    const before = await count();
    const again = await fleet.admin.post(agents, { name: "Twice", hostname: "b.example" });
    expect(again.status).toBe(409);
    expect(again.body.message).toContain("name");
    expect(await count()).toBe(before);
  });

  it("repeats the same key for an Idempotency-Key, also to the one who raced", async () => {
    const key = { "Idempotency-Key": "agent-1" };
    const body = { name: "Idempotent", hostname: "i.example" };
    const answers = await Promise.all([fleet.admin.post(agents, body, key), fleet.admin.post(agents, body, key)]);
    expect(answers.map((answer) => answer.status)).toEqual([201, 201]);
    expect(answers[0].body).toEqual(answers[1].body);
    const sealed = await env.DB.prepare("select answer from idempotency_keys where key = 'agent-1'").first<{
      answer: string;
    }>();
    expect(sealed?.answer).not.toContain("certctl_");
  });

  it.each([
    [{ hostname: "x.example" }, "name"],
    [{ name: "x" }, "hostname"],
    [{ name: "x", hostname: "y", colour: "red" }, "colour"],
    [{ name: "x".repeat(129), hostname: "y" }, "name"],
    [{ name: "x", hostname: "a\u0000b" }, "hostname"],
    [{ name: "x", hostname: "a.example\nb.example" }, "hostname"],
    [{ name: "x", hostname: "y", os: "lin\u001bux" }, "os"],
  ])("refuses %j", async (body, field) => {
    const answer = await fleet.admin.post(agents, body);
    expect(answer.status).toBe(400);
    expect(answer.body.message).toContain(field);
  });

  it("inv 7: is not for agents", async () => {
    expect((await fleet.agent.post(agents, { name: "Mine", hostname: "m.example" })).status).toBe(403);
  });
});

describe("a heartbeat", () => {
  it("makes an agent Online for five minutes and keeps what it tells", async () => {
    const { agent, agentId } = await addAgent(fleet.admin, "beating");
    const at = `${agents}/${agentId}`;
    expect((await agent.post(`${at}/heartbeat`)).body).toEqual({ status: "ok" });
    expect((await agent.post(`${at}/heartbeat`, { version: "1.2.3", os: "", telemetry: { new: true } })).status).toBe(
      200,
    );
    expect((await agent.post(`${at}/heartbeat`, { hostname: "a\u0007.example" })).status).toBe(400);
    expect((await fleet.admin.get(at)).body).toMatchObject({
      status: "Online",
      version: "1.2.3",
      hostname: "beating.example",
    });
    expect(await auditCount("agent.update", agentId)).toBe(1);
    await agent.post(`${at}/heartbeat`, { version: "1.2.3" });
    expect(await auditCount("agent.update", agentId)).toBe(1);
    await env.DB.prepare("update agents set last_heartbeat_at = ? where id = ?")
      .bind(new Date(Date.now() - 300_000).toISOString(), agentId)
      .run();
    expect((await fleet.admin.get(at)).body).toMatchObject({ status: "Offline" });
  });
});

describe("inv 7: an agent's key", () => {
  it("reaches that agent's own routes only", async () => {
    const other = await addAgent(fleet.admin, "other");
    const certificate = await fleet.admin.create("/api/v1/certificates", {
      name: "theirs",
      common_name: "theirs.example.com",
      target_ids: [fleet.targetId],
      ...fleet.record,
    });
    const { job_id } = (await fleet.admin.post(`/api/v1/certificates/${certificate.id}/renew`)).body;
    const csr_pem = await makeCsr({ commonName: "theirs.example.com" });
    for (const id of [fleet.agentId, "agent-none"]) {
      const statuses = await Promise.all([
        other.agent.post(`${agents}/${id}/heartbeat`),
        other.agent.get(`${agents}/${id}/work`),
        other.agent.post(`${agents}/${id}/csr`, { csr_pem, certificate_id: certificate.id }),
        other.agent.get(`${agents}/${id}/certificates/${certificate.id}`),
      ]);
      expect(statuses.map((answer) => answer.status)).toEqual([403, 403, 403, 403]);
    }
    const own = `${agents}/${other.agentId}`;
    expect((await other.agent.get(`${own}/work`)).body).toEqual({ jobs: [], count: 0 });
    expect((await other.agent.post(`${own}/csr`, { csr_pem, certificate_id: certificate.id })).status).toBe(403);
    expect((await other.agent.post(`${own}/csr`, { csr_pem, job_id })).status).toBe(403);
    expect((await other.agent.get(`${own}/certificates/${certificate.id}`)).status).toBe(403);
    const record = `/api/v1/certificates/${certificate.id}`;
    const others = [`/api/v1/jobs/${job_id}`, record, `${record}/versions`, `${record}/export/pem`];
    for (const path of ["/api/v1/agents", "/api/v1/certificates", "/api/v1/jobs", "/api/v1/targets", ...others])
      expect((await other.agent.get(path)).status, path).toBe(403);
    expect((await other.agent.post(`${record}/export/pkcs12`, { password: "x" })).status).toBe(403);
    expect((await fleet.admin.get(`/api/v1/jobs/${job_id}`)).body).toMatchObject({ status: "AwaitingCSR" });
  });

  it("is told what is missing or absent", async () => {
    const csr_pem = await makeCsr({ commonName: "x.example.com" });
    const at = `${agents}/${fleet.agentId}/csr`;
    expect((await fleet.agent.post(at, { csr_pem })).status).toBe(400);
    expect((await fleet.agent.post(at, { certificate_id: "x" })).body.message).toContain("csr_pem");
    expect((await fleet.agent.post(at, { csr_pem, job_id: "job-none" })).status).toBe(404);
    expect((await fleet.agent.post(at, { csr_pem, certificate_id: "mc-none" })).status).toBe(404);
    expect((await fleet.agent.post(at, { csr_pem: "x".repeat(140_000) })).status).toBe(413);
    for (const [method, path] of [
      ["POST", "heartbeat"],
      ["GET", "work"],
      ["GET", "certificates/x"],
    ] as const)
      expect((await fleet.admin.send(method, `${agents}/agent-none/${path}`)).status, path).toBe(404);
  });

  it("is told 410 once the agent is retired", async () => {
    const { agent, agentId } = await addAgent(fleet.admin, "leaving");
    await env.DB.prepare("update agents set retired_at = ? where id = ?").bind(new Date().toISOString(), agentId).run();
    const csr_pem = await makeCsr({ commonName: "x.example.com" });
    const at = `${agents}/${agentId}`;
    const answers = await Promise.all([
      agent.post(`${at}/heartbeat`),
      agent.get(`${at}/work`),
      agent.post(`${at}/csr`, { csr_pem, certificate_id: "x" }),
      agent.get(`${at}/certificates/x`),
    ]);
    expect(answers.map((answer) => answer.status)).toEqual([410, 410, 410, 410]);
    const listed = await fleet.admin.get<{ data: { id: string }[] }>(`${agents}?per_page=500`);
    expect(listed.body.data.map((row) => row.id)).not.toContain(agentId);
    expect((await fleet.admin.get(at)).body).toMatchObject({ id: agentId, status: "Offline" });
  });
});
