import { env } from "cloudflare:workers";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { forgetActors } from "../../src/identity/actors.ts";
import { takeRole } from "../../src/identity/grant-changes.ts";
import { actorWith, newActor, ofIssuer, ofProfile, roleWith } from "../support/actors.ts";
import { type Answer, auditCount, Client } from "../support/api.ts";
import { type Browser, newUser, signIn } from "../support/browser.ts";
import { contextAhead } from "../support/context.ts";
import { KEYS, Keys, told } from "../support/keys.ts";

const USERS = "/api/v1/auth/users";
const ME = "/api/v1/auth/me";

interface Shown {
  grants: Record<string, unknown>[];
}

let admin: Client;
let profile: string;
let issuer: string;
let agent: Record<string, string>;

const statuses = (answers: readonly Answer[]) => answers.map(({ status }) => status).toSorted();

/** A grant that a group mapping gives, as a sign-in leaves it. */
async function mapped(user: { id: string; provider_id: string }, role_id: string): Promise<string> {
  const id = `grm-${crypto.randomUUID().slice(0, 8)}`;
  await env.DB.batch([
    env.DB.prepare(
      "insert into oidc_group_mappings (id, tenant_id, provider_id, group_name, role_id, scope_type, scope_id, created_by, created_at) values (?, 't-default', ?, ?, ?, 'global', '', 'root-admin', '2026-01-01T00:00:00.000Z')",
    ).bind(id, user.provider_id, id, role_id),
    env.DB.prepare(
      "insert into actor_roles (id, actor_id, actor_type, role_id, scope_type, scope_id, mapping_id, granted_by, created_at) values (?, ?, 'User', ?, 'global', '', ?, 'system', '2026-01-01T00:00:00.000Z')",
    ).bind(`ar-${id}`, user.id, role_id, id),
  ]);
  forgetActors();
  return id;
}

beforeAll(async () => {
  ({ admin, profile, issuer } = await Keys.make());
  agent = await admin.create("/api/v1/agents", { name: "granted", hostname: "granted" });
});

describe("the roles of users and of agents", () => {
  it("are given with a scope and an end, listed, changed and taken", async () => {
    for (const [path, id] of [
      [`${USERS}/${(await newUser()).id}/roles`, ""],
      [`/api/v1/agents/${agent.id}/roles`, String(agent.id)],
    ] as const) {
      const held = async () =>
        (await admin.get<Shown>(path)).body.grants.filter(({ role_id }) => role_id === "r-viewer");
      const expires_at = new Date(Date.now() + 3_600_000).toISOString();
      const role = { role_id: "r-viewer", ...ofProfile(profile) };
      expect((await admin.post(path, { role_id: "r-viewer" })).status).toBe(204);
      expect((await admin.post(path, { ...role, expires_at })).status).toBe(204);
      expect(await held()).toMatchObject([
        { role_id: "r-viewer", scope_type: "global", expires_at: null, mapping: null, granted_by: "root-admin" },
        { ...role, expires_at, mapping: null },
      ]);
      expect((await admin.post(path, role)).status).toBe(204);
      expect((await held())[1]).toMatchObject({ ...role, expires_at: null });
      expect((await admin.delete(`${path}/r-viewer?scope_type=global`)).status).toBe(204);
      expect(await held()).toMatchObject([role]);
      expect((await admin.delete(`${path}/r-viewer`)).status).toBe(204);
      expect(told(await admin.delete(`${path}/r-viewer`))).toEqual([404, "not_found"]);
      expect(await held()).toEqual([]);
      if (id !== "") expect(await auditCount("auth.grant.create", id)).toBe(3);
    }
  });

  it("need a user or an agent that is there, a role and a scope that exist, and no other field", async () => {
    const user = await newUser();
    for (const absent of [`${USERS}/u-none/roles`, "/api/v1/agents/agent-none/roles"])
      for (const answer of [
        await admin.get(absent),
        await admin.post(absent, { role_id: "r-viewer" }),
        await admin.delete(`${absent}/r-viewer`),
      ])
        expect(told(answer)).toEqual([404, "not_found"]);
    for (const path of [`${USERS}/${user.id}/roles`, `/api/v1/agents/${agent.id}/roles`]) {
      expect(told(await admin.post(path, { role_id: "r-none" }))).toEqual([404, "not_found"]);
      for (const [body, code] of [
        [{}, "invalid_request"],
        [{ role_id: "r-viewer", mapping_id: "grm-x" }, "invalid_request"],
        [{ role_id: "r-viewer", actor_id: "root-admin" }, "invalid_request"],
        [{ role_id: "r-viewer", actor_type: "APIKey" }, "invalid_request"],
        [{ role_id: "r-viewer", scope_type: "issuer" }, "invalid_request"],
        [{ role_id: "r-viewer", scope_id: issuer }, "invalid_request"],
        [{ role_id: "r-viewer", expires_at: "2020-01-01T00:00:00Z" }, "invalid_request"],
        [{ role_id: "r-viewer", scope_type: "issuer", scope_id: profile }, "reference_not_found"],
      ] as const)
        expect([body, ...told(await admin.post(path, body))]).toEqual([body, 400, code]);
    }
    await env.DB.prepare("update agents set retired_at = '2026-01-01T00:00:00.000Z' where id = ?")
      .bind(
        (await admin.create<{ id: string }>("/api/v1/agents", { id: "old-agent", name: "old", hostname: "old" })).id,
      )
      .run();
    expect(told(await admin.post("/api/v1/agents/old-agent/roles", { role_id: "r-viewer" }))).toEqual([
      410,
      "agent_retired",
    ]);
    expect((await admin.delete("/api/v1/agents/old-agent/roles/r-agent")).status).toBe(204);
  });

  it("are not given beyond one's own, in no scope", async () => {
    const assigner = await roleWith(["auth.role.assign", "auth.user.read"]);
    const client = await actorWith([{ role_id: assigner }, { role_id: "r-operator", ...ofIssuer(issuer) }]);
    const user = await newUser();
    for (const path of [`${USERS}/${user.id}/roles`, `/api/v1/agents/${agent.id}/roles`, `${KEYS}/root-admin/roles`]) {
      for (const role of [
        { role_id: "r-admin" },
        { role_id: "r-viewer" },
        { role_id: "r-viewer", ...ofProfile(profile) },
        { role_id: "r-admin", ...ofIssuer(issuer) },
      ])
        expect([role, ...told(await client.post(path, role))]).toEqual([role, 403, "privilege_exceeded"]);
      expect((await client.post(path, { role_id: "r-viewer", ...ofIssuer(issuer) })).status).toBe(204);
      expect(told(await client.delete(`${path}/r-viewer`))).toEqual([403, "forbidden"]);
    }
  });

  it("are not given for longer than the giver holds them, not even to oneself", async () => {
    const soon = new Date(Date.now() + 3_600_000).toISOString();
    const later = new Date(Date.now() + 7_200_000).toISOString();
    const { client, actorId } = await newActor([{ role_id: "r-admin", expires_at: soon }, { role_id: "r-viewer" }]);
    const role = await roleWith([]);
    await admin.create(KEYS, { name: "for-ever", roles: [{ role_id: "r-operator" }] });
    const user = await newUser();
    const own = `${KEYS}/${actorId}/roles`;
    const path = `${USERS}/${user.id}/roles`;
    for (const [what, answer] of Object.entries({
      "one's own role for ever": await client.post(own, { role_id: "r-admin" }),
      "one's own role until later": await client.post(own, { role_id: "r-admin", expires_at: later }),
      "another's role": await client.post(path, { role_id: "r-operator" }),
      "a role in a scope": await client.post(path, { role_id: "r-operator", ...ofProfile(profile) }),
      "a key": await client.post(KEYS, { name: "lasting", roles: [{ role_id: "r-operator" }] }),
      "a key that lasts": await client.post(`${KEYS}/for-ever/rotate`, {}),
      "a role's permission": await client.post(`/api/v1/auth/roles/${role}/permissions`, { permission: "cert.issue" }),
    }))
      expect([what, ...told(answer)]).toEqual([what, 403, "privilege_exceeded"]);
    expect((await client.post(path, { role_id: "r-operator", expires_at: soon })).status).toBe(204);
    expect((await client.post(path, { role_id: "r-viewer" })).status).toBe(204);
    expect((await client.post(`${KEYS}/${actorId}/rotate`, {})).status).toBe(201);
  });

  it("of an agent open nothing but that agent's own routes", async () => {
    expect((await admin.post(`/api/v1/agents/${agent.id}/roles`, { role_id: "r-admin" })).status).toBe(204);
    const key = new Client(String(agent.api_key));
    expect(told(await key.get("/api/v1/auth/roles"))).toEqual([403, "not_for_agents"]);
    expect(told(await key.post(KEYS, { name: "by-agent", roles: [{ role_id: "r-admin" }] }))).toEqual([
      403,
      "not_for_agents",
    ]);
    await admin.delete(`/api/v1/agents/${agent.id}/roles/r-admin`);
  });

  it("hold for a signed-in user on the very next request, and change the CSRF token", async () => {
    const user = await newUser();
    const { browser } = await signIn(user.id);
    const path = `${USERS}/${user.id}/roles`;
    expect((await browser.get("/api/v1/certificates")).status).toBe(403);
    const before = browser.csrf;
    await admin.post(path, { role_id: "r-viewer" });
    expect((await browser.get("/api/v1/certificates")).status).toBe(200);
    expect(browser.csrf).not.toBe(before);
    await admin.delete(`${path}/r-viewer`);
    expect((await browser.get("/api/v1/certificates")).status).toBe(403);
  });

  it("that come of a group mapping say so, and are not taken by hand; what was given by hand besides is", async () => {
    const user = await newUser();
    const path = `${USERS}/${user.id}/roles`;
    const mapping = await mapped(user, "r-viewer");
    expect((await admin.get<Shown>(path)).body.grants).toMatchObject([
      { role_id: "r-viewer", mapping: { id: mapping, provider_id: user.provider_id, group_name: mapping } },
    ]);
    const refused = await admin.delete(`${path}/r-viewer`);
    expect(told(refused)).toEqual([409, "mapped_grant"]);
    expect(String(refused.body.message)).toContain(mapping);
    expect(told(await admin.delete(`${path}/r-viewer?scope_type=global`))).toEqual([409, "mapped_grant"]);
    expect((await admin.post(path, { role_id: "r-viewer" })).status).toBe(204);
    expect((await admin.get<Shown>(path)).body.grants.length).toBe(2);
    expect((await admin.delete(`${path}/r-viewer`)).status).toBe(204);
    expect((await admin.get<Shown>(path)).body.grants).toMatchObject([{ mapping: { id: mapping } }]);
  });
});

describe("the last administrator", () => {
  let browser: Browser;
  let user: { id: string; provider_id: string };

  /** Only root-admin is left to administer. */
  beforeEach(async () => {
    await env.DB.prepare("delete from actor_roles where role_id = 'r-admin' and actor_id <> 'root-admin'").run();
    forgetActors();
    expect((await admin.get(ME)).body.roles).toContain("r-admin");
  });

  const root = `${KEYS}/root-admin`;
  const LAST = [409, "last_admin"];

  it("keeps grant, end and key, whatever is tried", async () => {
    const soon = new Date(Date.now() + 3_600_000).toISOString();
    const tried = {
      revoke: () => admin.delete(`${root}/roles/r-admin`),
      "revoke the global one": () => admin.delete(`${root}/roles/r-admin?scope_type=global`),
      "let it end": () => admin.post(`${root}/roles`, { role_id: "r-admin", expires_at: soon }),
      "delete the keys": () => admin.delete(root),
      "rotate to a key that ends": () => admin.post(`${root}/rotate`, { expires_at: soon }),
      "the same at once": () => admin.post(`${root}/rotate`, { expires_at: soon, overlap_seconds: 0 }),
    };
    for (const [what, attempt] of Object.entries(tried))
      expect([what, ...told(await attempt())]).toEqual([what, ...LAST]);
    const [entry] = (await admin.get<{ keys: { actor_id: string; keys: unknown[] }[] }>(KEYS)).body.keys.filter(
      ({ actor_id }) => actor_id === "root-admin",
    );
    expect(entry?.keys).toMatchObject([{ expires_at: null, revoked_at: null }]);
  });

  it("is not replaced by who holds the role in a scope, for a time, as an agent, or cannot come in", async () => {
    const soon = new Date(Date.now() + 3_600_000).toISOString();
    const dead = await newActor([{ role_id: "r-admin" }]);
    expect((await admin.delete(`${KEYS}/${dead.keyId}`)).status).toBe(204);
    const ending = await newActor([{ role_id: "r-admin" }]);
    await env.DB.prepare("update api_keys set expires_at = ? where id = ?").bind(soon, ending.keyId).run();
    await newActor([{ role_id: "r-admin", ...ofProfile(profile) }]);
    await newActor([{ role_id: "r-admin", expires_at: soon }]);
    await admin.post(`/api/v1/agents/${agent.id}/roles`, { role_id: "r-admin" });
    const gone = await newUser(["r-admin"]);
    await env.DB.prepare("update users set deactivated_at = '' where id = ?").bind(gone.id).run();
    const shut = await newUser(["r-admin"]);
    await env.DB.prepare("update oidc_providers set enabled = 0 where id = ?").bind(shut.provider_id).run();
    const owned = await newActor([{ role_id: "r-admin" }]);
    await env.DB.prepare("update api_keys set owner_type = 'User', owner_id = ? where id = ?")
      .bind(gone.id, owned.keyId)
      .run();
    expect(told(await admin.delete(`${root}/roles/r-admin`))).toEqual(LAST);
    expect(told(await admin.delete(root))).toEqual(LAST);
  });

  it("may go once there is another: by key, or a user whose provider is enabled", async () => {
    const other = await newActor([{ role_id: "r-admin" }]);
    expect((await other.client.delete(`${root}/roles/r-admin`)).status).toBe(204);
    expect((await admin.get(KEYS)).status).toBe(403);
    expect(told(await other.client.delete(`${KEYS}/${other.actorId}/roles/r-admin`))).toEqual(LAST);
    user = await newUser(["r-admin"]);
    ({ browser } = await signIn(user.id));
    await browser.get(ME);
    expect((await browser.change("DELETE", `${KEYS}/${other.actorId}`)).status).toBe(204);
    expect((await other.client.get(ME)).status).toBe(401);
    expect(told(await browser.change("DELETE", `${USERS}/${user.id}/roles/r-admin`))).toEqual(LAST);
    expect((await browser.change("POST", `${root}/roles`, { role_id: "r-admin" })).status).toBe(204);
    expect((await browser.change("DELETE", `${USERS}/${user.id}/roles/r-admin`)).status).toBe(204);
  });

  it("of two whose removals of each other have both been let in is one: one batch ends before the other begins", async () => {
    for (let round = 0; round < 5; round++) {
      const [one, two] = [await newActor([{ role_id: "r-admin" }]), await newActor([{ role_id: "r-admin" }])];
      await env.DB.prepare("delete from actor_roles where role_id = 'r-admin' and actor_id not in (?, ?)")
        .bind(one.actorId, two.actorId)
        .run();
      const key = (id: string) => ({ id, type: "APIKey" }) as const;
      const results = await Promise.allSettled([
        takeRole(contextAhead(), key(one.actorId), "r-admin", {}),
        takeRole(contextAhead(), key(two.actorId), "r-admin", {}),
      ]);
      const refused = results.flatMap((result) => (result.status === "rejected" ? [result.reason] : []));
      expect(refused).toMatchObject([{ status: 409, code: "last_admin" }]);
      const survivor = results[0]?.status === "rejected" ? one : two;
      expect((await survivor.client.post(`${root}/roles`, { role_id: "r-admin" })).status).toBe(204);
    }
  });

  it("of two who remove each other at the same moment is one, in each way", async () => {
    for (let round = 0; round < 3; round++) {
      const ways = {
        "each takes the other's role": (id: string) => `${KEYS}/${id}/roles/r-admin`,
        "each deletes the other's key": (id: string) => `${KEYS}/${id}`,
      };
      for (const [way, path] of Object.entries(ways)) {
        const [one, two] = [await newActor([{ role_id: "r-admin" }]), await newActor([{ role_id: "r-admin" }])];
        await env.DB.prepare("delete from actor_roles where role_id = 'r-admin' and actor_id not in (?, ?)")
          .bind(one.actorId, two.actorId)
          .run();
        forgetActors();
        const answers = await Promise.all([one.client.delete(path(two.actorId)), two.client.delete(path(one.actorId))]);
        const [winner, loser] = statuses(answers);
        expect([way, winner]).toEqual([way, 204]);
        // 409 by the guard; 401 or 403 where the first was done before the second was looked at.
        expect([401, 403, 409]).toContain(loser);
        const left = await Promise.all([one, two].map(async ({ client }) => (await client.get(KEYS)).status === 200));
        expect([way, left.filter(Boolean).length]).toEqual([way, 1]);
        const survivor = left[0] ? one.client : two.client;
        await survivor.post(`${root}/roles`, { role_id: "r-admin" });
      }
    }
  });
});
