import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { updateProvider } from "../../src/identity/oidc/providers.ts";
import { openSession } from "../../src/identity/sessions/sessions.ts";
import { sessionStore, shardOf } from "../../src/identity/sessions/store.ts";
import { ANONYMOUS_ACTOR } from "../../src/platform/context.ts";
import type { Sealer } from "../../src/platform/sealing.ts";
import { runDue } from "../../src/platform/work/engine.ts";
import { workKinds } from "../../worker/handlers.ts";
import { actorWith, roleWith, ungrant } from "../support/actors.ts";
import { administrator, auditCount, type Client } from "../support/api.ts";
import { contextAhead } from "../support/context.ts";
import { newProvider, newUser, providerBody } from "../support/oidc-admin.ts";

const PROVIDERS = "/api/v1/auth/oidc/providers";
const MAPPINGS = "/api/v1/auth/oidc/group-mappings";

let admin: Client;
beforeAll(async () => {
  admin = await administrator();
});

const secretOf = async (id: string): Promise<string> => {
  const ctx = contextAhead();
  const row = await env.DB.prepare("select sealed_client_secret as sealed from oidc_providers where id = ?")
    .bind(id)
    .first<{ sealed: string }>();
  if (!row || row.sealed === "") return "";
  return new TextDecoder().decode(await ctx.sealer.open(row.sealed, `oidc|${id}`));
};

describe("a provider", () => {
  it("is created enabled, with the defaults, and never shows its secret", async () => {
    const body = providerBody({ name: "Keycloak" });
    const answer = await admin.post(PROVIDERS, body);
    expect(answer.status).toBe(201);
    const { client_secret: _, ...sent } = body;
    expect(answer.body).toEqual({
      ...sent,
      id: expect.stringMatching(/^op-/),
      tenant_id: "t-default",
      groups_claim_path: "groups",
      groups_claim_format: "string-array",
      fetch_userinfo: false,
      scopes: ["openid", "profile", "email"],
      allowed_email_domains: [],
      iat_window_seconds: 300,
      jwks_cache_ttl_seconds: 3600,
      enabled: true,
      created_at: expect.any(String),
      updated_at: expect.any(String),
    });
    const id = String(answer.body.id);
    expect(await secretOf(id)).toBe("top-secret");
    const list = await admin.get<{ providers: { id: string }[] }>(PROVIDERS);
    expect(list.body.providers.find((one) => one.id === id)).toEqual(answer.body);
    const stored = await env.DB.prepare(
      "select * from oidc_providers join audit_events on resource_id = oidc_providers.id",
    ).all();
    expect(JSON.stringify([list.body, stored.results])).not.toContain("top-secret");
    expect(await auditCount("auth.oidc_provider.create", id)).toBe(1);
  });

  it("can be created disabled, and has a name of its own", async () => {
    const first = await newProvider(admin, { enabled: false });
    expect(first.enabled).toBe(false);
    const again = await admin.post(PROVIDERS, providerBody({ name: first.name }));
    expect(again).toMatchObject({
      status: 409,
      body: { error: "already_exists", message: expect.stringMatching(/^name/) },
    });
    const other = await newProvider(admin);
    expect((await admin.put(`${PROVIDERS}/${other.id}`, { name: first.name })).status).toBe(409);
  });

  it("of one name is made once, however many ask at the same time", async () => {
    const body = providerBody();
    const answers = await Promise.all([1, 2, 3, 4].map(() => admin.post(PROVIDERS, body)));
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 409, 409, 409]);
  });

  it("repeats its answer for an Idempotency-Key, without a secret in it", async () => {
    const body = providerBody();
    const headers = { "Idempotency-Key": crypto.randomUUID() };
    const [first, second] = [await admin.post(PROVIDERS, body, headers), await admin.post(PROVIDERS, body, headers)];
    expect([first.status, second.status]).toEqual([201, 201]);
    expect(second.body).toEqual(first.body);
  });

  it.each([
    ["issuer_url", "http://idp.test/plain"],
    ["issuer_url", "http://127.0.0.1:9000"],
    ["issuer_url", "https://169.254.169.254/latest"],
    ["issuer_url", "https://localhost/realms/x"],
    ["issuer_url", "https://idp.internal"],
    ["issuer_url", "https://user:pass@idp.test/x"],
    ["issuer_url", "https://idp.test/x?y=1"],
    ["issuer_url", "https://idp.test/x#y"],
    ["issuer_url", "nothing"],
    ["redirect_uri", "http://pki.test/auth/oidc/callback"],
    ["redirect_uri", "https://pki.test/elsewhere"],
    ["redirect_uri", "https://pki.test/auth/oidc/callback?x=1"],
    ["redirect_uri", "javascript:alert(1)"],
    ["scopes", ["profile"]],
    ["scopes", []],
    ["scopes.1", ["openid", "two words"]],
    ["allowed_email_domains.0", ["@example.com"]],
    ["allowed_email_domains.0", ["example"]],
    ["iat_window_seconds", 0],
    ["iat_window_seconds", 601],
    ["jwks_cache_ttl_seconds", 59],
    ["groups_claim_path", ""],
    ["groups_claim_format", "xml"],
    ["client_id", ""],
    ["client_secret", "********"],
    ["client_secret", undefined],
    ["name", " "],
    ["enabled", "yes"],
    ["unknown", 1],
  ])("refuses %s %j, by its name", async (field, value) => {
    const body = { ...providerBody(), [field.split(".")[0] ?? ""]: value };
    const created = await admin.post(PROVIDERS, body);
    expect(created.status).toBe(400);
    expect(created.body.message).toContain(field);
  });

  it("refuses a JSONPath that would read nothing, also when only the format changes", async () => {
    const json = { groups_claim_format: "json-path" };
    for (const groups_claim_path of ["$", "$.", "$..roles", "$[?(@.a)]", "$['a", "$.a[-1]", "$.a b", "$['\\x']"]) {
      const created = await admin.post(PROVIDERS, { ...providerBody(), ...json, groups_claim_path });
      expect([created.status, created.body.message], groups_claim_path).toEqual([
        400,
        expect.stringContaining("groups_claim_path: must be a JSONPath"),
      ]);
    }
    const made = await newProvider(admin, { groups_claim_path: "$..roles" });
    expect((await admin.put(`${PROVIDERS}/${made.id}`, json)).status).toBe(400);
    const right = { ...json, groups_claim_path: "$['urn:x.y'].roles[*]" };
    expect((await admin.put(`${PROVIDERS}/${made.id}`, right)).body).toMatchObject(right);
  });

  it("takes loopback redirects over http, and domains in lower case", async () => {
    for (const host of ["localhost:8787", "127.0.0.1:8787", "[::1]:8787"]) {
      const redirect_uri = `http://${host}/auth/oidc/callback`;
      expect((await newProvider(admin, { redirect_uri })).redirect_uri).toBe(redirect_uri);
    }
    const made = await newProvider(admin, { allowed_email_domains: ["Example.COM", "example.com", "b.example"] });
    expect(made.allowed_email_domains).toEqual(["example.com", "b.example"]);
  });
});

describe("an update", () => {
  it("keeps what is absent, clears by null, and tolerates what was read", async () => {
    const made = await newProvider(admin, {
      fetch_userinfo: true,
      allowed_email_domains: ["a.example"],
      enabled: false,
    });
    const path = `${PROVIDERS}/${made.id}`;
    const updated = await admin.put(path, { ...made, iat_window_seconds: 60, allowed_email_domains: null });
    expect(updated.status).toBe(200);
    expect(updated.body).toEqual({
      ...made,
      iat_window_seconds: 60,
      allowed_email_domains: [],
      updated_at: updated.body.updated_at,
    });
    expect((await admin.put(path, { name: null })).status).toBe(400);
    expect((await admin.put(path, { scopes: ["email"] })).status).toBe(400);
    expect((await admin.put(path, { issuer_url: "https://10.0.0.1/" })).status).toBe(400);
    expect((await admin.put(`${PROVIDERS}/op-absent`, { name: "x" })).status).toBe(404);
  });

  it("keeps the secret for absent, blank and the mask; another replaces it, null takes it away", async () => {
    const { id } = await newProvider(admin);
    const path = `${PROVIDERS}/${id}`;
    for (const body of [{}, { client_secret: "" }, { client_secret: "********" }]) {
      expect((await admin.put(path, body)).status).toBe(200);
      expect(await secretOf(id)).toBe("top-secret");
    }
    await admin.put(path, { client_secret: "another" });
    expect(await secretOf(id)).toBe("another");
    await admin.put(path, { client_secret: null });
    expect(await secretOf(id)).toBe("");
  });

  it("sends no kept secret to another issuer, be it on the same host", async () => {
    const { id, issuer_url } = await newProvider(admin);
    const path = `${PROVIDERS}/${id}`;
    for (const to of [new URL("/another-realm", String(issuer_url)).href, "https://other.test/x"]) {
      const refused = await admin.put(path, { issuer_url: to, client_secret: "********" });
      expect(refused).toMatchObject({ status: 400, body: { message: expect.stringMatching(/^client_secret/) } });
      expect((await admin.put(path, { issuer_url: to })).status).toBe(400);
      expect((await admin.put(path, { issuer_url: to, client_secret: "fresh" })).status).toBe(200);
    }
  });

  it("honours If-Match; of two at the same time one is told to read again", async () => {
    const made = await admin.post<{ id: string }>(PROVIDERS, providerBody());
    const path = `${PROVIDERS}/${made.body.id}`;
    const headers = { "If-Match": made.headers.get("ETag") ?? "" };
    const answers = await Promise.all([1, 2].map((n) => admin.put(path, { iat_window_seconds: n }, headers)));
    const statuses = answers.map(({ status }) => status).sort();
    expect(statuses[0]).toBe(200);
    expect([409, 412]).toContain(statuses[1]);
    expect((await admin.put(path, {}, headers)).status).toBe(412);
  });
});

describe("escalation: who edits a provider decides who its people are", () => {
  it("an editor must hold what its mappings give", async () => {
    const editor = await actorWith([{ role_id: await roleWith(["auth.oidc.list", "auth.oidc.edit", "cert.read"]) }]);
    const { id } = await newProvider(admin);
    expect((await editor.put(`${PROVIDERS}/${id}`, { iat_window_seconds: 100 })).status).toBe(200);
    await admin.create(MAPPINGS, { provider_id: id, group_name: "ops", role_id: "r-operator" });
    const refused = await editor.put(`${PROVIDERS}/${id}`, { groups_claim_path: "mine" });
    expect(refused).toMatchObject({ status: 403, body: { error: "privilege_exceeded" } });
  });

  it("an editor must hold what its users hold, by hand too", async () => {
    const editor = await actorWith([{ role_id: await roleWith(["auth.oidc.edit", "cert.read"]) }]);
    const { id } = await newProvider(admin);
    await newUser(id, [{ role_id: await roleWith(["cert.read"]), scope_type: "profile", scope_id: "prof-x" }]);
    expect((await editor.put(`${PROVIDERS}/${id}`, { client_id: "mine" })).status).toBe(200);
    await newUser(id, [{ role_id: "r-viewer" }]);
    expect((await editor.put(`${PROVIDERS}/${id}`, { client_id: "mine" })).status).toBe(403);
    expect((await editor.put(`${PROVIDERS}/${id}`, { enabled: false })).status).toBe(403);
  });

  it("and all of it still when the edit is written", async () => {
    const { id } = await newProvider(admin);
    const ctx = contextAhead();
    const addMapping = () => admin.create(MAPPINGS, { provider_id: id, group_name: "g", role_id: "r-viewer" });
    // The secret is sealed after the rights were looked at: that is when the mapping comes.
    const seal: Sealer["seal"] = async (...args) => {
      await addMapping();
      return ctx.sealer.seal(...args);
    };
    const slow = { ...ctx, actor: ANONYMOUS_ACTOR, sealer: { ...ctx.sealer, seal } };
    const edit = updateProvider(slow, id, { client_secret: "mine" }, null);
    await expect(edit).rejects.toMatchObject({ status: 409, code: "changed_meanwhile" });
    expect(await secretOf(id)).toBe("top-secret");
    await expect(updateProvider(slow, id, { client_secret: "mine" }, null)).rejects.toMatchObject({ status: 403 });
  });

  it("a mapping gives no more than its maker holds, in its scope", async () => {
    const profile = await admin.create<{ id: string }>("/api/v1/profiles", { name: "for mappings" });
    const reader = await roleWith(["cert.read"]);
    const scoped = { scope_type: "profile", scope_id: profile.id };
    const edit = await roleWith(["auth.oidc.edit"]);
    const maker = await actorWith([
      { role_id: edit },
      { role_id: reader, scope_type: "profile", scope_id: profile.id },
    ]);
    const { id: provider_id } = await newProvider(admin);
    const add = (more: Record<string, unknown>) => maker.post(MAPPINGS, { provider_id, group_name: "g", ...more });
    for (const more of [{ role_id: "r-admin" }, { role_id: "r-viewer", ...scoped }, { role_id: reader }]) {
      expect(await add(more)).toMatchObject({ status: 403, body: { error: "privilege_exceeded" } });
    }
    expect(await add({ role_id: reader, ...scoped })).toMatchObject({ status: 201, body: scoped });
  });

  it("no right, no route", async () => {
    const { id } = await newProvider(admin);
    const lister = await actorWith([{ role_id: await roleWith(["auth.oidc.list"]) }]);
    expect((await lister.get(PROVIDERS)).status).toBe(200);
    expect((await lister.get(`${PROVIDERS}/${id}/jwks-status`)).status).toBe(200);
    const refused = await Promise.all([
      lister.post(PROVIDERS, providerBody()),
      lister.put(`${PROVIDERS}/${id}`, {}),
      lister.delete(`${PROVIDERS}/${id}`),
      lister.post(`${PROVIDERS}/${id}/refresh`),
      lister.post("/api/v1/auth/oidc/test", { issuer_url: "https://idp.test/x" }),
      lister.post(MAPPINGS, { provider_id: id, group_name: "g", role_id: "r-viewer" }),
      lister.delete(`${MAPPINGS}/grm-x`),
    ]);
    expect(refused.map(({ status }) => status)).toEqual([403, 403, 403, 403, 403, 403, 403]);
  });
});

describe("group mappings", () => {
  it("are added once, listed with their provider, and removed", async () => {
    const { id: provider_id } = await newProvider(admin);
    const body = { provider_id, group_name: "CN=PKI Ops,OU=Groups", role_id: "r-operator" };
    const made = await admin.post(MAPPINGS, body);
    expect(made).toMatchObject({ status: 201, body: { ...body, scope_type: "global", tenant_id: "t-default" } });
    expect((await admin.post(MAPPINGS, body)).status).toBe(409);
    const list = await admin.get(`${MAPPINGS}?provider_id=${provider_id}`);
    expect(list.body).toEqual({ mappings: [made.body] });
    const path = `${MAPPINGS}/${made.body.id}`;
    const removals = await Promise.all([admin.delete(path), admin.delete(path)]);
    expect(removals.map(({ status }) => status).sort()).toEqual([204, 404]);
    expect((await admin.get(`${MAPPINGS}?provider_id=${provider_id}`)).body).toEqual({ mappings: [] });
    expect(await auditCount("auth.oidc_mapping.remove", String(made.body.id))).toBe(1);
  });

  it.each([
    ["provider_id", { provider_id: "op-absent" }],
    ["role_id", { role_id: "r-absent" }],
    ["scope_id", { scope_type: "profile", scope_id: "prof-absent" }],
    ["scope_id", { scope_type: "issuer" }],
    ["scope_id", { scope_id: "prof-x" }],
    ["group_name", { group_name: "" }],
    ["group_name", { group_name: "a\nb" }],
    ["mapping_id", { mapping_id: "grm-x" }],
  ])("name the field that is wrong: %s %j", async (field, more) => {
    const { id: provider_id } = await newProvider(admin);
    const answer = await admin.post(MAPPINGS, { provider_id, group_name: "g", role_id: "r-viewer", ...more });
    expect(answer).toMatchObject({ status: 400, body: { message: expect.stringContaining(field) } });
    expect((await admin.get(MAPPINGS)).status).toBe(400);
    expect((await admin.get(`${MAPPINGS}?provider_id=op-absent`)).status).toBe(400);
  });

  it("take the grants that came of them along, at once, and no other", async () => {
    const { id: provider_id } = await newProvider(admin);
    const { id: mapping_id = "" } = await admin.create(MAPPINGS, { provider_id, group_name: "g", role_id: "r-viewer" });
    const user = await newUser(provider_id, [{ role_id: "r-viewer", mapping_id }, { role_id: "r-auditor" }]);
    expect((await admin.delete(`${MAPPINGS}/${mapping_id}`)).status).toBe(204);
    const left = await env.DB.prepare("select role_id from actor_roles where actor_id = ?").bind(user).all();
    expect(left.results).toEqual([{ role_id: "r-auditor" }]);
  });
});

describe("deleting", () => {
  it("is refused while there are mappings or users, and says which", async () => {
    const { id } = await newProvider(admin);
    const path = `${PROVIDERS}/${id}`;
    const mapping = await admin.create(MAPPINGS, { provider_id: id, group_name: "g", role_id: "r-viewer" });
    expect(await admin.delete(path)).toMatchObject({
      status: 409,
      body: { error: "in_use", message: expect.stringContaining("1 group mapping") },
    });
    await admin.delete(`${MAPPINGS}/${mapping.id}`);
    expect((await admin.post(`${path}/refresh`)).status).toBe(200);
    expect((await admin.delete(path)).status).toBe(204);
    expect((await admin.delete(path)).status).toBe(404);
    expect((await admin.get(`${path}/jwks-status`)).status).toBe(404);

    const other = await newProvider(admin);
    await newUser(other.id);
    expect(await admin.delete(`${PROVIDERS}/${other.id}`)).toMatchObject({
      status: 409,
      body: { message: expect.stringContaining("1 user;") },
    });
  });
});

describe("disabling", () => {
  it("ends the sessions of its users, all of them", async () => {
    const { id } = await newProvider(admin);
    const people = await Promise.all(Array.from({ length: 53 }, () => newUser(id)));
    const chosen = [...people].sort().filter((_, at) => at === 0 || at > 50);
    const ctx = contextAhead();
    for (const user of chosen) await openSession(ctx, { id: user, type: "User" });
    const sessions = async () => {
      const lists = await Promise.all(
        chosen.map(async (user) =>
          sessionStore(ctx, await shardOf({ id: user, type: "User" })).list(ctx.clock.now().getTime()),
        ),
      );
      return lists.flat().length;
    };
    expect(await sessions()).toBe(chosen.length);
    expect((await admin.put(`${PROVIDERS}/${id}`, { enabled: false })).body.enabled).toBe(false);
    expect(await runDue(contextAhead(120), workKinds)).toBe("finished");
    expect(await sessions()).toBe(0);
  });

  it("and removing a mapping never take the last administrator's way in", async () => {
    const { id: provider_id } = await newProvider(admin);
    const path = `${PROVIDERS}/${provider_id}`;
    const { id: mapping_id = "" } = await admin.create(MAPPINGS, { provider_id, group_name: "g", role_id: "r-admin" });
    await newUser(provider_id, [{ role_id: "r-admin", mapping_id }]);
    // An administrator for a while is none who stays.
    const guest = await actorWith([{ role_id: "r-admin", expires_at: "2099-01-01T00:00:00.000Z" }]);
    await ungrant("root-admin");
    expect(await guest.put(path, { enabled: false })).toMatchObject({ status: 409, body: { error: "last_admin" } });
    expect(await guest.delete(`${MAPPINGS}/${mapping_id}`)).toMatchObject({
      status: 409,
      body: { error: "last_admin" },
    });
    await actorWith([{ role_id: "r-admin" }]);
    expect((await guest.put(path, { enabled: false })).status).toBe(200);
    expect((await guest.delete(`${MAPPINGS}/${mapping_id}`)).status).toBe(204);
  });
});
