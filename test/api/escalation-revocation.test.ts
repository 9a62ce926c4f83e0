import { env, exports } from "cloudflare:workers";
import { afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { actorWith, newActor, roleWith } from "../support/actors.ts";
import type { Client } from "../support/api.ts";
import { addAgent, type Fleet, makeFleet } from "../support/fleet.ts";
import { told } from "../support/keys.ts";

const KEYS = "/api/v1/auth/keys";

let fleet: Fleet;

beforeAll(async () => {
  fleet = await makeFleet();
});

afterEach(() => {
  vi.useRealTimers();
});

/** As another isolate would: this one remembers what it knew. */
async function elsewhere(sql: string, ...values: string[]): Promise<void> {
  await env.DB.prepare(sql)
    .bind(...values)
    .run();
}

describe("what was revoked gives nothing any more", () => {
  it.each([
    [KEYS, '{"name":"left-open",', '"roles":[{"role_id":"r-admin"}]}'],
    ["/api/v1/teams", '{"name":"left', ' open"}'],
  ])("when the request to %s began before and its body ends after", async (path, first, last) => {
    const { client, actorId } = await newActor([{ role_id: "r-admin" }]);
    const body = new TransformStream<Uint8Array, Uint8Array>();
    const writer = body.writable.getWriter();
    const send = (text: string) => writer.write(new TextEncoder().encode(text));
    const headers = { Authorization: `Bearer ${client.key}`, "Content-Type": "application/json" };
    const init = { method: "POST", headers, body: body.readable, duplex: "half" };
    const pending = exports.default.fetch(new Request(`http://localhost${path}`, init as RequestInit));
    await send(first);
    expect((await fleet.admin.delete(`${KEYS}/${actorId}`)).status).toBe(204);
    vi.setSystemTime(Date.now() + 2_000);
    await send(last);
    await writer.close();
    expect((await pending).status).toBe(401);
    const listed = await fleet.admin.get(`${path}?per_page=500`);
    expect(listed.status).toBe(200);
    expect(JSON.stringify(listed.body)).not.toMatch(/left.open/);
  });

  it("while an isolate still remembers it: neither the key that is gone nor the role", async () => {
    const gone = await newActor([{ role_id: "r-admin" }]);
    const demoted = await newActor([{ role_id: "r-admin" }]);
    for (const { client } of [gone, demoted]) expect((await client.get("/api/v1/auth/me")).status).toBe(200);
    await elsewhere("update api_keys set revoked_at = created_at where id = ?", gone.keyId);
    await elsewhere("delete from actor_roles where actor_id = ?", demoted.actorId);
    const make = (client: Client, name: string, role_id: string) => client.post(KEYS, { name, roles: [{ role_id }] });
    expect(told(await make(gone.client, "from-gone", "r-viewer"))).toEqual([401, "credential_revoked"]);
    expect(told(await make(demoted.client, "from-demoted", "r-viewer"))).toEqual([403, "privilege_exceeded"]);
    expect(told(await gone.client.post(`${KEYS}/${gone.actorId}/rotate`))).toEqual([409, "key_revoked"]);
  });

  it("and a key does not get a longer life by rotating itself than it was made for", async () => {
    const { client, actorId, keyId } = await newActor([{ role_id: "r-cli" }]);
    const created = new Date(Date.now() - 60_000).toISOString();
    const ends = new Date(Date.now() + 3_540_000).toISOString();
    await elsewhere("update api_keys set created_at = ?, expires_at = ? where id = ?", created, ends, keyId);
    const rotate = (body: Record<string, unknown>) =>
      client.post<{ expires_at: string }>(`${KEYS}/${actorId}/rotate`, body);
    for (const expires_at of [null, new Date(Date.now() + 2 * 3_600_000).toISOString()])
      expect(told(await rotate({ expires_at }))).toEqual([403, "privilege_exceeded"]);
    const sooner = new Date(Date.now() + 600_000).toISOString();
    expect((await rotate({ expires_at: sooner })).body.expires_at).toBe(sooner);
    const answer = await rotate({});
    expect(answer.status).toBe(201);
    expect(Date.parse(answer.body.expires_at)).toBeLessThanOrEqual(Date.now() + 3_600_000);
  });
});

describe("an agent's place", () => {
  it("is not taken by rotating its key: that needs cert.issue, as its certificates are signed for whoever has it", async () => {
    const agent = ["cert.read", "agent.heartbeat", "agent.job.poll", "agent.job.complete", "agent.job.report"];
    const asAgent = [...agent, "discovery.run", "verification.run"];
    const without = await actorWith([{ role_id: await roleWith(["auth.key.rotate", ...asAgent]) }]);
    const rotate = (client: Client) => client.post(`${KEYS}/${fleet.agentId}/rotate`, { overlap_seconds: 3600 });
    expect(told(await rotate(without))).toEqual([403, "privilege_exceeded"]);
    const withIt = await actorWith([{ role_id: await roleWith(["auth.key.rotate", "cert.issue", ...asAgent]) }]);
    expect((await rotate(withIt)).status).toBe(201);
  });

  it("is not had under somebody else's name", async () => {
    const register = (id: string) => fleet.admin.post("/api/v1/agents", { id, name: `named ${id}`, hostname: "h" });
    for (const id of ["anonymous", "system", "actor-demo-anon", "retired", "ak-x", "u-x", "abc-x"])
      expect(told(await register(id)), id).toEqual([400, "invalid_request"]);
    const { actorId, client } = await newActor([{ role_id: "r-viewer" }], "ci-deploy");
    expect(told(await register(actorId))).toEqual([409, "already_exists"]);
    expect((await client.get("/api/v1/auth/me")).body.actor_type).toBe("APIKey");
    const { agentId } = await addAgent(fleet.admin, "place-1");
    expect(told(await fleet.admin.post(KEYS, { name: agentId, roles: [] }))).toEqual([409, "already_exists"]);
  });

  it("is gone when it is retired: 410 wherever its key goes, and nobody revives it by key or role", async () => {
    const { agent, agentId } = await addAgent(fleet.admin, "place-2");
    expect((await agent.get("/api/v1/auth/me")).body.actor_id).toBe(agentId);
    expect((await fleet.admin.delete(`/api/v1/agents/${agentId}?reason=old`)).status).toBe(200);
    const asked = [
      agent.get("/api/v1/auth/me"),
      agent.get("/api/v1/auth/check"),
      agent.get("/api/v1/auth/sessions"),
      agent.get("/api/v1/auth/permissions"),
      agent.get(`/api/v1/agents/${agentId}/work`),
      agent.get(`/api/v1/agents/${fleet.agentId}/work`),
      agent.post(`/api/v1/agents/${agentId}/heartbeat`, {}),
      agent.get("/api/v1/certificates"),
      fleet.admin.post(`${KEYS}/${agentId}/rotate`),
      fleet.admin.post(`${KEYS}/${agentId}/roles`, { role_id: "r-viewer" }),
    ];
    for (const answer of await Promise.all(asked)) expect(told(answer)).toEqual([410, "agent_retired"]);
    expect((await fleet.admin.delete(`${KEYS}/${agentId}`)).status).toBe(204);
    expect((await agent.get("/api/v1/auth/me")).status).toBe(401);
  });
});
