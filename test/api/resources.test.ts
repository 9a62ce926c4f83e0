import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { administrator, auditCount, Client } from "../support/api.ts";
import { PLAIN_RESOURCES, type PlainResource, RESOURCES_AGENT } from "../support/plain-resources.ts";

let admin: Client;
const agentId = RESOURCES_AGENT;

beforeAll(async () => {
  admin = await administrator();
  await admin.create("/api/v1/agents", { id: agentId, name: "Resources host", hostname: "host.example" });
});

let n = 0;
const name = (base: string) => `${base} ${++n}`;
const bodyOf = ({ base, body }: PlainResource) => ({ name: name(base), ...body });

describe.each(Object.entries(PLAIN_RESOURCES))("%s", (_kind, kind) => {
  const one = () => admin.create(kind.path, bodyOf(kind));

  it("is created with its defaults and an id of its name, and read back", async () => {
    const body = bodyOf(kind);
    const answer = await admin.post(kind.path, body);
    expect(answer.status).toBe(201);
    expect(answer.body).toMatchObject({ ...kind.defaults, ...body });
    expect(answer.body.id).toMatch(kind.id);
    expect(answer.headers.get("Location")).toBe(`${kind.path}/${answer.body.id}`);
    const read = await admin.get(`${kind.path}/${answer.body.id}`);
    expect(read.body).toEqual(answer.body);
    expect(read.headers.get("ETag")).toBe(answer.headers.get("ETag"));
    expect(await auditCount(`${kind.audit}.create`, String(answer.body.id))).toBe(1);
  });

  it("takes the caller's id, and refuses a second of it", async () => {
    const id = `own-${++n}`;
    expect(await admin.create(kind.path, { ...bodyOf(kind), id })).toMatchObject({ id });
    const again = await admin.post(kind.path, { ...bodyOf(kind), id });
    expect(again.status).toBe(409);
    expect(again.body).toMatchObject({ error: "already_exists", message: expect.stringContaining(id) });
  });

  it.each(kind.refused)("refuses %j and names the field", async (body, field) => {
    const answer = await admin.post(kind.path, body);
    expect(answer.status).toBe(400);
    expect(answer.body.message).toContain(field);
    expect(answer.body.request_id).toEqual(expect.any(String));
  });

  it("inv 10: answers another method, body, type and size with the status that says so", async () => {
    const created = await one();
    const wrongMethod = await admin.send("PATCH", `${kind.path}/${created.id}`, {});
    expect(wrongMethod.status).toBe(405);
    expect(wrongMethod.headers.get("Allow")).toBe("DELETE, GET, HEAD, PUT");
    expect((await admin.post(kind.path, "{")).status).toBe(400);
    expect((await admin.post(kind.path, "[]")).status).toBe(400);
    expect(
      (await admin.post(kind.path, "name=x", { "Content-Type": "application/x-www-form-urlencoded" })).status,
    ).toBe(415);
    expect((await admin.post(kind.path, `{"name":"${"x".repeat(1_100_000)}"}`)).status).toBe(413);
    expect((await admin.get(`${kind.path}/none-such`)).status).toBe(404);
    expect((await admin.put(`${kind.path}/none-such`, {})).status).toBe(404);
    expect((await admin.delete(`${kind.path}/none-such`)).status).toBe(404);
  });

  it("changes what an update names and keeps the rest", async () => {
    const before = await one();
    const answer = await admin.put(`${kind.path}/${before.id}`, kind.change);
    expect(answer.status).toBe(200);
    const { updated_at: _, ...rest } = before;
    expect(answer.body).toMatchObject({ ...rest, ...kind.change });
    expect(answer.body.updated_at).not.toBe(before.updated_at);
    expect(await auditCount(`${kind.audit}.update`, String(before.id))).toBe(1);
  });

  it("inv 11: a read-modify-write is accepted and a server-managed field has no effect", async () => {
    const before = await one();
    const answer = await admin.put(`${kind.path}/${before.id}`, { ...before, ...kind.managed, id: "other" });
    expect(answer.status).toBe(200);
    const { updated_at: _, ...rest } = before;
    expect(answer.body).toMatchObject(rest);
  });

  it("names an unknown field of an update", async () => {
    const before = await one();
    const answer = await admin.put(`${kind.path}/${before.id}`, { wings: 2 });
    expect(answer.status).toBe(400);
    expect(answer.body.message).toContain("wings");
  });

  it("honours If-Match", async () => {
    const before = await one();
    const at = `${kind.path}/${before.id}`;
    const etag = (await admin.get(at)).headers.get("ETag") ?? "";
    expect((await admin.put(at, kind.change, { "If-Match": '"old"' })).status).toBe(412);
    expect((await admin.put(at, kind.change, { "If-Match": etag })).status).toBe(200);
    expect((await admin.delete(at, { "If-Match": etag })).status).toBe(412);
    expect((await admin.delete(at, { "If-Match": "*" })).status).toBe(204);
  });

  it("repeats the answer for an Idempotency-Key and refuses another body under it", async () => {
    const body = bodyOf(kind);
    const key = { "Idempotency-Key": `k-${++n}` };
    const [first, second] = await Promise.all([admin.post(kind.path, body, key), admin.post(kind.path, body, key)]);
    expect([first?.status, second?.status]).toEqual([201, 201]);
    expect(second?.body).toEqual(first?.body);
    const again = await admin.post(kind.path, body, key);
    expect(again.body).toEqual(first?.body);
    expect(again.headers.get("Idempotency-Replayed")).toBe("true");
    const read = await admin.get(`${kind.path}/${again.body.id}`);
    for (const answer of [first, second, again]) {
      expect(answer?.headers.get("Location")).toBe(`${kind.path}/${again.body.id}`);
      expect(answer?.headers.get("ETag")).toBe(read.headers.get("ETag"));
    }
    const other = await admin.post(kind.path, bodyOf(kind), key);
    expect(other.status).toBe(409);
    expect(other.body.error).toBe("idempotency_key_reused");
  });

  it("is listed in the order of creation, by pages with a total", async () => {
    for (let i = 0; i < 3; i++) await one();
    const all = await admin.get<{ data: { id: string }[]; total: number }>(`${kind.path}?per_page=500`);
    expect(all.body.total).toBe(all.body.data.length);
    const second = await admin.get<{ data: { id: string }[] }>(`${kind.path}?per_page=1&page=2`);
    expect(second.body).toMatchObject({ data: [{ id: all.body.data[1]?.id }], page: 2, per_page: 1 });
    expect((await admin.get(`${kind.path}?page=99999`)).body).toMatchObject({ data: [] });
    for (const query of ["page=0", "per_page=0", "per_page=501", "page=x", "per_page=1.5"])
      expect((await admin.get(`${kind.path}?${query}`)).status, query).toBe(400);
  });

  it("is deleted", async () => {
    const before = await one();
    expect((await admin.delete(`${kind.path}/${before.id}`)).status).toBe(204);
    expect((await admin.get(`${kind.path}/${before.id}`)).status).toBe(404);
    expect(await auditCount(`${kind.audit}.delete`, String(before.id))).toBe(1);
  });

  it("inv 7: needs a credential", async () => {
    const nobody = new Client(null);
    expect((await nobody.get(kind.path)).status).toBe(401);
    expect((await nobody.post(kind.path, bodyOf(kind))).status).toBe(401);
  });
});

describe("names", () => {
  const unique = Object.entries(PLAIN_RESOURCES).filter(([, { uniqueName }]) => uniqueName);
  it.each(unique)("of a %s are unique", async (_kind, kind) => {
    const { path } = kind;
    const first = bodyOf(kind);
    await admin.create(path, first);
    const second = await admin.post(path, first);
    expect(second.status).toBe(409);
    expect(second.body).toMatchObject({ error: "already_exists", message: expect.stringContaining("name") });
    const other = await admin.create(path, bodyOf(kind));
    expect((await admin.put(`${path}/${other.id}`, { name: first.name })).status).toBe(409);
  });
});

describe("what is in use", () => {
  it("is not deleted, and nothing else is", async () => {
    const team = await admin.create("/api/v1/teams", { name: name("Busy") });
    const owner = await admin.create("/api/v1/owners", { name: name("Busy"), team_id: team.id });
    const refused = await admin.delete(`/api/v1/teams/${team.id}`);
    expect(refused.status).toBe(409);
    expect(refused.body).toMatchObject({ error: "in_use", message: expect.stringContaining("1 owner") });
    expect((await admin.get(`/api/v1/owners/${owner.id}`)).status).toBe(200);
    expect((await admin.put(`/api/v1/owners/${owner.id}`, { team_id: null })).body).toMatchObject({ team_id: null });
    expect((await admin.delete(`/api/v1/teams/${team.id}`)).status).toBe(204);

    const profile = await admin.create("/api/v1/profiles", { name: name("Busy") });
    const policy = { name: name("Busy"), certificate_profile_id: profile.id };
    await admin.create("/api/v1/renewal-policies", policy);
    const one = await admin.delete(`/api/v1/profiles/${profile.id}`);
    expect(one.status).toBe(409);
    expect(one.body.message).toContain("in use by 1 renewal policy;");
    await admin.create("/api/v1/renewal-policies", { ...policy, name: name("Busy") });
    const two = await admin.delete(`/api/v1/profiles/${profile.id}`);
    expect(two.body.message).toContain("in use by 2 renewal policies;");
  });
});

describe("null", () => {
  it("clears to what a new one would have, and is refused where there is no such value", async () => {
    const team = await admin.create("/api/v1/teams", { name: name("Null"), description: "something" });
    expect((await admin.put(`/api/v1/teams/${team.id}`, { description: null })).body).toMatchObject({
      description: "",
    });
    const refused = await admin.put(`/api/v1/teams/${team.id}`, { name: null });
    expect(refused.status).toBe(400);
    expect(refused.body.message).toContain("name");
  });
});

describe("credentials of targets", () => {
  const stored = (id: unknown) =>
    env.DB.prepare("select config, sealed_secrets from targets where id = ?")
      .bind(id)
      .first<{ config: string; sealed_secrets: string | null }>();

  it("inv 5: are sealed, masked at any depth, and kept by the mask", async () => {
    const config = {
      site_name: "Default",
      mode: "winrm",
      winrm: { winrm_host: "win1", winrm_password: "s3cret-pass" },
    };
    const masked = { ...config, winrm: { ...config.winrm, winrm_password: "********" } };
    const answer = await admin.post("/api/v1/targets", { name: name("IIS"), type: "IIS", agent_id: agentId, config });
    expect(answer.body).toMatchObject({ config: masked });
    expect(answer.body).not.toHaveProperty("sealed_secrets");
    const { id } = answer.body;
    const before = await stored(id);
    expect(before?.config).not.toContain("s3cret-pass");
    expect(before?.sealed_secrets).toMatch(/^v1\.test\./);

    const kept = await admin.put(`/api/v1/targets/${id}`, { config: { ...masked, site_name: "Other" } });
    expect(kept.body).toMatchObject({ config: { ...masked, site_name: "Other" } });
    expect((await stored(id))?.sealed_secrets).toMatch(/^v1\./);

    const dropped = await admin.put(`/api/v1/targets/${id}`, { config: { site_name: "Other" } });
    expect(dropped.body.config).toEqual({ site_name: "Other" });
    expect((await stored(id))?.sealed_secrets).toBeNull();
    expect((await admin.put(`/api/v1/targets/${id}`, { config: masked })).status).toBe(400);
  });

  it("do not follow to another agent, which could read them", async () => {
    const other = await admin.create("/api/v1/agents", { name: name("Other"), hostname: "other.example" });
    const target = await admin.create("/api/v1/targets", {
      name: name("F5"),
      type: "F5",
      agent_id: agentId,
      config: { host: "bigip", password: "s3cret-pass" },
    });
    const moved = await admin.put(`/api/v1/targets/${target.id}`, { agent_id: other.id });
    expect(moved.status).toBe(400);
    expect(moved.body.message).toContain("config.password");
  });
});

describe("testing a target", () => {
  it("tells the truth about its agent", async () => {
    const agent = await admin.create("/api/v1/agents", { name: name("Tested"), hostname: "t.example" });
    const target = await admin.create("/api/v1/targets", { name: name("T"), type: "NGINX", agent_id: agent.id });
    const at = `/api/v1/targets/${target.id}/test`;
    expect((await admin.post(at)).body).toMatchObject({ status: "failed", message: expect.stringContaining("never") });
    await new Client(agent.api_key ?? "").post(`/api/v1/agents/${agent.id}/heartbeat`);
    expect((await admin.post(at)).body).toMatchObject({ status: "success" });
    await env.DB.prepare("update agents set last_heartbeat_at = ? where id = ?")
      .bind(new Date(Date.now() - 5 * 60_000).toISOString(), agent.id)
      .run();
    expect((await admin.post(at)).body).toMatchObject({
      status: "failed",
      message: expect.stringContaining("last heard"),
    });
    await env.DB.prepare("update agents set retired_at = ? where id = ?")
      .bind(new Date().toISOString(), agent.id)
      .run();
    expect((await admin.post(at)).body).toMatchObject({
      status: "failed",
      message: expect.stringContaining("retired"),
    });
    expect((await admin.post("/api/v1/targets/none/test")).status).toBe(404);
    const refused = await admin.post("/api/v1/targets", { name: name("R"), type: "NGINX", agent_id: agent.id });
    expect(refused.status).toBe(400);
    expect(refused.body.message).toContain("retired");
  });
});
