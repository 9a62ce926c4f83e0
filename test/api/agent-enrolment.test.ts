import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { routes } from "../../worker/routes.ts";
import { actorWith, roleWith } from "../support/actors.ts";
import { administrator, auditCount, Client } from "../support/api.ts";

let admin: Client;
const path = "/api/v1/agent-credentials";
const agents = "/api/v1/agents";

beforeAll(async () => {
  admin = await administrator();
});

interface Made {
  readonly id: string;
  readonly token: string;
}

/** A credential and a client that shows it. */
async function credential(body: object = {}): Promise<Made & { client: Client }> {
  const made = await admin.create<Made>(path, { name: "fleet", ...body });
  return { ...made, client: new Client(made.token) };
}

const enrol = (client: Client, name: string, headers: Record<string, string> = {}) =>
  client.post(agents, { name, hostname: `${name}.example` }, headers);

async function set(id: string, column: "expires_at" | "owner_id", value: string): Promise<void> {
  await env.DB.prepare(`update agent_credentials set ${column} = ? where id = ?`).bind(value, id).run();
}

/** The trusted proxy that tells this address. */
const from = (address: string) => ({ "X-Trusted-Proxy-Secret": "test-proxy-secret", "X-Forwarded-For": address });

describe("an agent credential", () => {
  it("shows its token once; neither list, row nor audit log has it", async () => {
    const answer = await admin.post(path, { name: "rack 7", max_uses: 3, ttl_seconds: 3600 });
    expect(answer.status).toBe(201);
    const { token, ...shown } = answer.body as unknown as Made & Record<string, unknown>;
    expect(token).toMatch(/^certctl_agent_[A-Za-z0-9_-]{43}$/);
    expect(shown).toMatchObject({ name: "rack 7", max_uses: 3, uses: 0, revoked_at: null, created_by: "root-admin" });
    expect(shown.id).toMatch(/^abc-/);
    expect(token.startsWith(String(shown.prefix))).toBe(true);
    expect(Date.parse(String(shown.expires_at)) - Date.parse(String(shown.created_at))).toBe(3_600_000);
    expect((await admin.get(`${path}/${shown.id}`)).body).toEqual(shown);
    const listed = await admin.get<{ data: object[] }>(`${path}?per_page=500`);
    expect(listed.body.data).toContainEqual(shown);
    const rows = await env.DB.prepare("select * from agent_credentials").all();
    const events = await env.DB.prepare("select * from audit_events").all();
    expect(JSON.stringify([listed.body, rows.results, events.results])).not.toContain(token.slice(20));
    expect(JSON.stringify(listed.body)).not.toContain("hash");
    expect(await auditCount("auth.agent_credential.create", String(shown.id))).toBe(1);
  });

  it("lasts a day for one use where nothing else is said", async () => {
    const shown = await admin.create<Record<string, string>>(path, { name: "plain" });
    expect(shown).toMatchObject({ max_uses: 1 });
    expect(Date.parse(String(shown.expires_at)) - Date.parse(String(shown.created_at))).toBe(86_400_000);
  });

  it("is made once for an Idempotency-Key", async () => {
    const key = { "Idempotency-Key": "credential-1" };
    const answers = await Promise.all([admin.post(path, { name: "i" }, key), admin.post(path, { name: "i" }, key)]);
    expect(answers.map(({ status }) => status)).toEqual([201, 201]);
    expect(answers[0].body).toEqual(answers[1].body);
  });

  it.each([
    [{}, "name"],
    [{ name: "x", max_uses: 0 }, "max_uses"],
    [{ name: "x", max_uses: 100_001 }, "max_uses"],
    [{ name: "x", ttl_seconds: 0 }, "ttl_seconds"],
    [{ name: "x", ttl_seconds: 90 * 86_400 + 1 }, "ttl_seconds"],
    [{ name: "x", expires_at: "2020-01-01T00:00:00Z" }, "expires_at"],
    [{ name: "x", expires_at: "2999-01-01T00:00:00Z" }, "expires_at"],
    [{ name: "x", expires_at: "tomorrow" }, "expires_at"],
    [{ name: "x", expires_at: "2999-01-01T00:00:00Z", ttl_seconds: 5 }, "expires_at"],
    [{ name: "x", uses: 5 }, "uses"],
    [{ name: "x", owner_id: "root" }, "owner_id"],
  ])("refuses %j", async (body, field) => {
    const answer = await admin.post(path, body);
    expect(answer.status).toBe(400);
    expect(answer.body.message).toContain(field);
  });

  it("is given by nobody who lacks a right of an agent", async () => {
    const registrar = await actorWith([{ role_id: await roleWith(["agent.edit"]) }]);
    const refused = await registrar.post(path, { name: "too much" });
    expect(refused.status).toBe(403);
    expect(refused.body).toMatchObject({ error: "privilege_exceeded" });
    const whole = await actorWith([{ role_id: await roleWith(["agent.edit"]) }, { role_id: "r-agent" }]);
    expect((await whole.post(path, { name: "no more than its own" })).status).toBe(201);
    const viewer = await actorWith([{ role_id: "r-viewer" }]);
    for (const answer of [await viewer.get(path), await viewer.post(path, { name: "x" })])
      expect(answer.status).toBe(403);
  });

  it("is a 404 where there is none", async () => {
    expect((await admin.get(`${path}/abc-none`)).status).toBe(404);
    expect((await admin.delete(`${path}/abc-none`)).status).toBe(404);
  });
});

describe("enrolment", () => {
  it("yields an agent with a key of its own, and says by which credential", async () => {
    const { id, client } = await credential({ max_uses: 2 });
    const answer = await enrol(client, "edge-1");
    expect(answer.status).toBe(201);
    expect(answer.body).toMatchObject({ id: "agent-edge-1", credential_id: id });
    const agent = new Client(String(answer.body.api_key));
    expect((await agent.post(`${agents}/agent-edge-1/heartbeat`)).status).toBe(200);
    expect((await agent.get("/api/v1/auth/me")).body).toMatchObject({ actor_type: "Agent", roles: ["r-agent"] });
    expect((await admin.get(`${path}/${id}`)).body).toMatchObject({ uses: 1, last_used_at: expect.any(String) });
    const event = await env.DB.prepare("select * from audit_events where action = 'agent.enrol' and resource_id = ?")
      .bind("agent-edge-1")
      .first<{ actor: string; actor_type: string; details: string }>();
    expect(event).toMatchObject({ actor: id, actor_type: "Agent" });
    expect(JSON.parse(event?.details ?? "{}")).toMatchObject({ credential_id: id });
    const key = await env.DB.prepare("select * from api_keys where actor_id = 'agent-edge-1'").first();
    expect(key).toMatchObject({ created_by: id, owner_type: "Agent", owner_id: "agent-edge-1" });
  });

  it("opens nothing else, and gives no right", async () => {
    const { id, client } = await credential({ max_uses: 2 });
    const others = await Promise.all([
      client.get("/api/v1/auth/me"),
      client.get("/api/v1/auth/check"),
      client.get(agents),
      client.get(path),
      client.post(path, { name: "more" }),
      client.post(`${agents}/${id}/heartbeat`),
      client.get(`${agents}/${id}/work`),
      client.get("/api/v1/certificates"),
    ]);
    expect(others.map(({ status }) => status)).toEqual(others.map(() => 403));
    expect((await admin.get(`${path}/${id}`)).body).toMatchObject({ uses: 0 });
    expect((await client.post(agents, { name: "n", hostname: "h", id: `${id}` })).status).toBe(400);
    expect((await client.post(agents, { name: "n", hostname: "h", id: "retired" })).status).toBe(400);
  });

  it("under a name that is taken is a 409 and takes no use", async () => {
    const { id, client } = await credential({ max_uses: 2 });
    expect((await enrol(client, "twin")).status).toBe(201);
    const again = await enrol(client, "twin");
    expect(again.status).toBe(409);
    expect(again.body.message).toContain("name");
    expect((await admin.get(`${path}/${id}`)).body).toMatchObject({ uses: 1 });
  });

  it("happens exactly as often as the credential allows, whoever races", async () => {
    const { id, client } = await credential({ max_uses: 3 });
    const answers = await Promise.all(Array.from({ length: 10 }, (_, at) => enrol(client, `racer-${at}`)));
    const statuses = answers.map(({ status }) => status).sort();
    expect(statuses).toEqual([...Array(3).fill(201), ...Array(7).fill(410)]);
    expect(answers.find(({ status }) => status === 410)?.body).toMatchObject({ error: "agent_credential_used_up" });
    expect((await admin.get(`${path}/${id}`)).body).toMatchObject({ uses: 3 });
    const enrolled = await env.DB.prepare("select count(*) as n from agents where credential_id = ?").bind(id).first();
    expect(enrolled).toEqual({ n: 3 });
  });

  it("repeats the answer of the last use for its Idempotency-Key, and of no other", async () => {
    const { client } = await credential();
    const key = { "Idempotency-Key": "enrol-once-7f3a99d0c1" };
    const first = await enrol(client, "lost-answer", key);
    const again = await enrol(client, "lost-answer", key);
    expect([first.status, again.status]).toEqual([201, 201]);
    expect(again.body).toEqual(first.body);
    expect((await enrol(client, "another", key)).status).toBe(409);
    expect((await enrol(client, "another")).status).toBe(410);
  });

  it("keeps nothing to repeat under an Idempotency-Key that another host of the fleet could guess", async () => {
    const { id, client } = await credential({ max_uses: 5 });
    const guessable = await enrol(client, "guessed", { "Idempotency-Key": "guessed-enrol-1" });
    expect(guessable).toMatchObject({ status: 400, body: { message: expect.stringContaining("Idempotency-Key") } });
    expect((await admin.get(`${path}/${id}`)).body).toMatchObject({ uses: 0 });
    expect((await enrol(client, "guessed", { "Idempotency-Key": "0123456789abcdef" })).status).toBe(201);
    // Somebody with agent.edit has an actor of their own, whose answers nobody else is repeated.
    const by = await admin.post(agents, { name: "by hand", hostname: "h" }, { "Idempotency-Key": "by-hand" });
    expect(by.status).toBe(201);
  });

  it("ends with the credential: revoked at once, expired, its owner deactivated", async () => {
    const revoked = await credential({ max_uses: 5 });
    expect((await enrol(revoked.client, "before-revocation")).status).toBe(201);
    const revocations = await Promise.all([1, 2, 3].map(() => admin.delete(`${path}/${revoked.id}`)));
    expect(revocations.map(({ status }) => status)).toEqual([204, 204, 204]);
    expect(await auditCount("auth.agent_credential.revoke", revoked.id)).toBe(1);
    const afterRevocation = await enrol(revoked.client, "after-revocation");
    expect(afterRevocation.status).toBe(401);
    expect(afterRevocation.body).toMatchObject({ error: "agent_credential_revoked" });

    const expired = await credential();
    await set(expired.id, "expires_at", new Date(Date.now() - 1000).toISOString());
    const afterExpiry = await enrol(expired.client, "after-expiry");
    expect(afterExpiry.status).toBe(401);
    expect(afterExpiry.body).toMatchObject({ error: "agent_credential_expired" });

    const orphan = await credential({ max_uses: 2 });
    await aUser("u-maker");
    await env.DB.prepare("update agent_credentials set owner_type = 'User', owner_id = 'u-maker' where id = ?")
      .bind(orphan.id)
      .run();
    const enrolled = await enrol(orphan.client, "by-a-person");
    expect(enrolled.status).toBe(201);
    await env.DB.prepare("update users set deactivated_at = ? where id = 'u-maker'")
      .bind(new Date().toISOString())
      .run();
    expect((await enrol(orphan.client, "after-the-person")).status).toBe(401);
    // The agents stay at work: their keys are their own.
    const agent = new Client(String(enrolled.body.api_key));
    expect((await agent.post(`${agents}/agent-by-a-person/heartbeat`)).status).toBe(200);
  });

  it("refuses a token that nobody made, an exact number of times an address and minute", async () => {
    const guess = new Client(`certctl_agent_${"A".repeat(43)}`);
    const unknown = await enrol(guess, "guess");
    expect(unknown.status).toBe(401);
    expect(unknown.body).toMatchObject({ error: "agent_credential_invalid" });
    expect(unknown.headers.get("WWW-Authenticate")).toContain("Bearer");
    const tries = await Promise.all(Array.from({ length: 15 }, () => enrol(guess, "guess", from("198.51.100.7"))));
    expect(tries.map(({ status }) => status).sort()).toEqual([...Array(10).fill(401), ...Array(5).fill(429)]);
    const late = await enrol(guess, "guess", from("198.51.100.7"));
    expect(late.status).toBe(429);
    expect(Number(late.headers.get("Retry-After"))).toBeGreaterThan(0);
    const { client } = await credential();
    expect((await enrol(client, "same-place", from("198.51.100.7"))).status).toBe(429);
    expect((await enrol(client, "other-place", from("198.51.100.8"))).status).toBe(201);
  });
});

describe("an agent's key with more roles", () => {
  it("reaches that agent's own routes only all the same, and nothing once the agent is retired", async () => {
    const { client } = await credential();
    const enrolled = await enrol(client, "promoted");
    const id = String(enrolled.body.id);
    const agent = new Client(String(enrolled.body.api_key));
    expect((await admin.post(`${agents}/${id}/roles`, { role_id: "r-admin" })).status).toBeLessThan(300);
    expect((await agent.get("/api/v1/auth/me")).body).toMatchObject({ admin: true });
    const open = routes.filter(({ access, forAgents }) => typeof access === "string" && !forAgents);
    expect(open.length).toBeGreaterThan(50);
    for (const { method, path: at } of open) {
      const asked = at.replace("{id}", id).replaceAll(/\{[a-z_]+\}/g, "x");
      const answer = await agent.send(method.toUpperCase(), asked, method === "get" ? undefined : {});
      expect([answer.status, answer.body.error], `${method} ${at}`).toEqual([403, "not_for_agents"]);
    }
    expect((await agent.get(`${agents}/${id}/work`)).status).toBe(200);
    expect((await agent.get(`${agents}/agent-edge-1/work`)).status).toBe(403);
    expect((await admin.delete(`${agents}/${id}`)).status).toBe(200);
    expect((await agent.get(`${agents}/${id}/work`)).status).toBe(410);
    expect((await agent.get("/api/v1/certificates")).status).toBe(410);
  });
});

async function aUser(id: string): Promise<void> {
  const now = new Date().toISOString();
  await env.DB.batch([
    env.DB.prepare(
      `insert into oidc_providers values ('op-test', 't-default', 'Test', 'https://idp.example', 'c', '', 'https://x.example',
        'groups', 'string-array', 0, '["openid"]', '[]', 300, 3600, 1, ?, ?)`,
    ).bind(now, now),
    env.DB.prepare(
      "insert into users values (?, 't-default', 'op-test', ?, 'm@example.com', 'Maker', null, null, ?, ?)",
    ).bind(id, id, now, now),
  ]);
}
