import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { PERMISSIONS } from "../../src/identity/permissions.ts";
import { actorWith, newActor, ofProfile, roleWith } from "../support/actors.ts";
import { type Answer, administrator, Client } from "../support/api.ts";
import { newUser, signIn } from "../support/browser.ts";

/**
 * Ways to more rights than one's own, for somebody who manages keys, roles, users, providers and agents and may do nothing
 * else: each of them would put a right into somebody's hands that the manager lacks.
 */

const ROLES = "/api/v1/auth/roles";
const KEYS = "/api/v1/auth/keys";
const USERS = "/api/v1/auth/users";
const PROVIDERS = "/api/v1/auth/oidc/providers";
const MAPPINGS = "/api/v1/auth/oidc/group-mappings";
const PASSWORDS = "/api/v1/auth/breakglass/credentials";

let admin: Client;
let manager: Client;
let managerId: string;
let managerRole: string;
let profile: string;

beforeAll(async () => {
  admin = await administrator();
  profile = String((await admin.create("/api/v1/profiles", { name: "Escalation" })).id);
  managerRole = await roleWith([
    ...PERMISSIONS.filter((name) => name.startsWith("auth.")),
    "agent.edit",
    "agent.read",
    { permission: "cert.read", ...ofProfile(profile) },
  ]);
  ({ client: manager, actorId: managerId } = await newActor([{ role_id: managerRole }]));
});

/** What each attempt is answered: status and error code. */
async function told(attempts: Readonly<Record<string, Promise<Answer>>>): Promise<Record<string, string>> {
  const answers = Object.entries(attempts).map(async ([what, attempt]) => {
    const { status, body } = await attempt;
    return [what, `${status} ${String(body.error ?? "")}`] as const;
  });
  return Object.fromEntries(await Promise.all(answers));
}

const all = (attempts: Readonly<Record<string, unknown>>, answer: string) =>
  Object.fromEntries(Object.keys(attempts).map((what) => [what, answer]));

const EXCEEDED = "403 privilege_exceeded";

describe("nobody gives what they lack", () => {
  it("by a key, whatever the role is called, wherever it holds, and however little of it is missing", async () => {
    const more = await roleWith(["cert.read"]);
    const attempts = {
      "the administrator's role": manager.post(KEYS, { name: "esc-1", roles: [{ role_id: "r-admin" }] }),
      "a role of which one permission is missing": manager.post(KEYS, { name: "esc-2", roles: [{ role_id: more }] }),
      "behind a role that may be given": manager.post(KEYS, {
        name: "esc-3",
        roles: [{ role_id: managerRole }, { role_id: "r-viewer" }],
      }),
      "in a scope": manager.post(KEYS, {
        name: "esc-4",
        roles: [{ role_id: "r-operator", scope_type: "profile", scope_id: profile }],
      }),
    };
    expect(await told(attempts)).toEqual(all(attempts, EXCEEDED));
    const narrower = { role_id: more, scope_type: "profile", scope_id: profile };
    expect((await manager.post(KEYS, { name: "esc-5", roles: [narrower] })).status).toBe(201);
  });

  it("by a grant: to oneself, to another key, to a user, to an agent, and to a user by the route of keys", async () => {
    const { id: user } = await newUser(["r-viewer"]);
    const other = await newActor([{ role_id: "r-viewer" }]);
    const agent = await admin.create("/api/v1/agents", { name: "grantee", hostname: "grantee.example" });
    const body = { role_id: "r-admin" };
    const attempts = {
      oneself: manager.post(`${KEYS}/${managerId}/roles`, body),
      "another key": manager.post(`${KEYS}/${other.keyId}/roles`, body),
      "a user": manager.post(`${USERS}/${user}/roles`, body),
      "a user as if it were a key": manager.post(`${KEYS}/${user}/roles`, body),
      "an agent": manager.post(`/api/v1/agents/${agent.id}/roles`, body),
      "an agent as if it were a key": manager.post(`${KEYS}/${agent.id}/roles`, body),
    };
    expect(await told(attempts)).toEqual(all(attempts, EXCEEDED));
    expect((await manager.get("/api/v1/auth/me")).body).toMatchObject({ admin: false, roles: [managerRole] });
  });

  it("by editing a role: one's own, somebody else's, one that nobody holds yet, and a narrow entry made wide", async () => {
    const unheld = String((await manager.create(ROLES, { name: "unheld" })).id);
    const theirs = await roleWith(["team.read"]);
    await newActor([{ role_id: theirs }]);
    const add = (role: string, permission: string, scope = {}) =>
      manager.post(`${ROLES}/${role}/permissions`, { permission, ...scope });
    const attempts = {
      "one's own": add(managerRole, "cert.revoke"),
      "one's own, by the permission's id": add(managerRole, "p-cert-revoke"),
      "somebody's": add(theirs, "issuer.delete"),
      "nobody's": add(unheld, "crl.admin"),
      "what one holds for a profile, everywhere": add(managerRole, "cert.read"),
      "what one holds for a profile, for an issuer": add(unheld, "cert.issue", {
        scope_type: "profile",
        scope_id: profile,
      }),
    };
    expect(await told(attempts)).toEqual(all(attempts, EXCEEDED));
    const builtin = {
      grant: add("r-viewer", "auth.role.assign"),
      rename: manager.put(`${ROLES}/r-viewer`, { name: "Viewer and more" }),
      delete: manager.delete(`${ROLES}/r-auditor`),
      revoke: manager.delete(`${ROLES}/r-admin/permissions/cert.read`),
    };
    expect(await told(builtin)).toEqual(all(builtin, "409 builtin_role"));
  });

  it("by rotating somebody's key: the answer would show it", async () => {
    const above = await newActor([{ role_id: "r-operator" }]);
    const { client: cli } = await newActor([{ role_id: "r-cli" }]);
    const attempts = {
      "by the actor's id": manager.post(`${KEYS}/${above.actorId}/rotate`),
      "by the key's id": manager.post(`${KEYS}/${above.keyId}/rotate`),
      "the administrator's": manager.post(`${KEYS}/root-admin/rotate`),
      "an operator's by the command line's": cli.post(`${KEYS}/${above.actorId}/rotate`),
    };
    expect(await told(attempts)).toEqual(all(attempts, EXCEEDED));
    expect((await above.client.get("/api/v1/auth/me")).status).toBe(200);
    expect((await manager.post(`${KEYS}/${managerId}/rotate`)).status).toBe(201);
  });

  it("by identity providers: a group mapped to more, a provider that vouches for more, secret and all", async () => {
    const { id, provider_id } = await newUser(["r-admin"]);
    const { provider_id: mapped } = await newUser();
    await admin.create(MAPPINGS, { provider_id: mapped, group_name: "admins", role_id: "r-admin" });
    const { provider_id: plain } = await newUser();
    const attempts = {
      "map a group": manager.post(MAPPINGS, { provider_id: plain, group_name: "everybody", role_id: "r-admin" }),
      "map a group in a scope": manager.post(MAPPINGS, {
        provider_id: plain,
        group_name: "everybody",
        role_id: "r-operator",
        scope_type: "profile",
        scope_id: profile,
      }),
      "edit the provider of an administrator": manager.put(`${PROVIDERS}/${provider_id}`, {
        groups_claim_path: "locale",
      }),
      "edit a provider whose groups are administrators": manager.put(`${PROVIDERS}/${mapped}`, {
        issuer_url: "https://evil.example",
        client_secret: "mine",
      }),
    };
    expect(await told(attempts)).toEqual(all(attempts, EXCEEDED));
    expect((await admin.get(`${USERS}/${id}`)).status).toBe(200);
  });

  it("by bringing somebody back, a password for somebody, or a credential that makes agents", async () => {
    const { id: gone } = await newUser(["r-operator"]);
    const { id: above } = await newUser(["r-viewer"]);
    expect((await admin.delete(`${USERS}/${gone}`)).status).toBeLessThan(300);
    const attempts = {
      "reactivate a user": manager.post(`${USERS}/${gone}/reactivate`),
      "set a password": manager.post(PASSWORDS, { actor_id: above, password: "correct horse battery" }),
      "make a bootstrap credential": manager.post("/api/v1/agent-credentials", { name: "fleet" }),
    };
    expect(await told(attempts)).toEqual(all(attempts, EXCEEDED));
  });

  it("by what a key may hand on: the command line's key makes no more than itself", async () => {
    const { client: cli } = await newActor([{ role_id: "r-cli" }]);
    const roles = (role_id: string) => ({ name: `cli-${role_id}`, roles: [{ role_id }] });
    expect(
      await told({
        admin: cli.post(KEYS, roles("r-admin")),
        operator: cli.post(KEYS, roles("r-operator")),
        auditor: cli.post(KEYS, roles("r-auditor")),
        agent: cli.post(KEYS, roles("r-agent")),
        itself: cli.post(KEYS, roles("r-cli")),
        viewer: cli.post(KEYS, roles("r-viewer")),
      }),
    ).toEqual({
      admin: EXCEEDED,
      operator: EXCEEDED,
      auditor: EXCEEDED,
      agent: EXCEEDED,
      itself: "201 ",
      viewer: "201 ",
    });
  });

  it("for longer than they have it: rights that end are handed on, to oneself or by a key, until then at most", async () => {
    const [soon, later] = [1, 2].map((hours) => new Date(Date.now() + hours * 3_600_000).toISOString());
    const { client, actorId } = await newActor([{ role_id: "r-admin", expires_at: soon ?? null }]);
    const other = await newActor([]);
    const { id: user, provider_id } = await newUser(["r-viewer"]);
    const mapping = { provider_id, group_name: "temporary", role_id: "r-admin" };
    const attempts = {
      "to oneself for ever": client.post(`${KEYS}/${actorId}/roles`, { role_id: "r-admin" }),
      "to oneself for longer": client.post(`${KEYS}/${actorId}/roles`, { role_id: "r-admin", expires_at: later }),
      "to another": client.post(`${KEYS}/${other.actorId}/roles`, { role_id: "r-viewer" }),
      "by a key": client.post(KEYS, { name: "lasting", roles: [{ role_id: "r-admin" }] }),
      "by a key that ends, and could be rotated": client.post(KEYS, {
        name: "lasting",
        roles: [{ role_id: "r-admin" }],
        expires_at: soon,
      }),
      "by a group": client.post(MAPPINGS, mapping),
      "by a role that stays": client.post(`${ROLES}/${managerRole}/permissions`, { permission: "crl.admin" }),
      "by whom a provider vouches for": client.put(`${PROVIDERS}/${provider_id}`, { groups_claim_path: "locale" }),
      "by somebody's key": client.post(`${KEYS}/root-admin/rotate`),
      "by somebody's password": client.post(PASSWORDS, { actor_id: user, password: "correct horse battery" }),
    };
    expect(await told(attempts)).toEqual(all(attempts, EXCEEDED));
    const within = { role_id: "r-viewer", expires_at: soon };
    expect((await client.post(`${KEYS}/${other.actorId}/roles`, within)).status).toBe(204);
  });

  it("in the scope of a profile: all rights there are none anywhere else", async () => {
    const scope = ofProfile(profile);
    const scoped = await actorWith([{ role_id: "r-admin", ...scope }]);
    const statuses = await told({
      "keys are nobody's profile": scoped.post(KEYS, { name: "scoped-1", roles: [] }),
      grants: scoped.post(`${KEYS}/${managerId}/roles`, { role_id: "r-viewer", ...scope }),
      roles: scoped.post(ROLES, { name: "scoped" }),
      users: scoped.get(USERS),
      "the audit of rights": scoped.get("/api/v1/auth/runtime-config"),
    });
    expect(new Set(Object.values(statuses).map((one) => one.slice(0, 3)))).toEqual(new Set(["403"]));
  });
});

describe("what is somebody else's", () => {
  it("the demo mode's actor gets no right, and no key is called like it or like a user", async () => {
    const demo = { role_id: "r-viewer" };
    expect((await admin.post(`${KEYS}/actor-demo-anon/roles`, demo)).status).toBe(409);
    for (const name of ["actor-demo-anon", "system", "anonymous", "u-somebody", "ak-key"])
      expect((await admin.post(KEYS, { name, roles: [] })).status, name).toBe(400);
  });

  it("a name stands for one actor for ever: nobody inherits the rights of one that is gone", async () => {
    const first = await admin.create(KEYS, { name: "inherited", roles: [{ role_id: "r-operator" }] });
    await admin.delete(`${KEYS}/${first.id}`);
    expect((await manager.post(KEYS, { name: "inherited", roles: [] })).status).toBe(409);
    expect((await new Client(String(first.key_value)).get("/api/v1/auth/me")).status).toBe(401);
    const agent = await admin.create("/api/v1/agents", { name: "namesake", hostname: "n.example" });
    expect((await admin.post(KEYS, { name: String(agent.id), roles: [{ role_id: "r-viewer" }] })).status).toBe(409);
  });

  it("an Idempotency-Key is of its actor: another one's does not repeat the answer that showed a key", async () => {
    const headers = { "Idempotency-Key": "escalation-idempotency" };
    const body = { name: "idem-key", roles: [{ role_id: "r-auditor" }] };
    const made = await admin.post(KEYS, body, headers);
    expect(made.status).toBe(201);
    const second = await manager.post(KEYS, body, headers);
    expect(second.status).toBe(403);
    expect(JSON.stringify(second.body)).not.toContain(String(made.body.key_value));
  });

  it("a deactivated user's session and keys are nothing from the next request on, and so are the keys those made", async () => {
    const { id } = await newUser(["r-admin"]);
    const { browser } = await signIn(id);
    const role = [{ role_id: "r-cli" }];
    const first = await browser.change<{ key_value: string }>("POST", KEYS, { name: "leaver-1", roles: role });
    const client = new Client(first.body.key_value);
    const second = await client.post<{ key_value: string }>(KEYS, { name: "leaver-2", roles: role });
    const grandchild = new Client(second.body.key_value);
    expect((await grandchild.get("/api/v1/auth/me")).status).toBe(200);
    await admin.delete(`${USERS}/${id}`);
    const answers = [browser.get("/api/v1/auth/me"), client.get("/api/v1/auth/me"), grandchild.get("/api/v1/auth/me")];
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([401, 401, 401]);
  });
});

describe("mass assignment", () => {
  it("owner, maker, hash, hidden type and times of a key are never taken from a body; nor a mapping's or a user's", async () => {
    const smuggled = {
      actor_type: "Agent",
      owner_id: "root-admin",
      owner: { type: "System", id: "system" },
      created_by: "root-admin",
      key_hash: "00",
      key_value: "certctl_mine",
      is_admin: true,
      permissions: ["cert.read"],
    };
    for (const [field, value] of Object.entries(smuggled)) {
      const answer = await manager.post(KEYS, { name: "smuggle", roles: [], [field]: value });
      expect(answer, field).toMatchObject({ status: 400, body: { message: expect.stringContaining(field) } });
    }
    for (const field of ["id", "granted_by", "mapping_id", "actor_id", "actor_type"]) {
      const body = { role_id: managerRole, [field]: "r-admin" };
      expect((await manager.post(`${KEYS}/${managerId}/roles`, body)).status, field).toBe(400);
    }
    for (const field of ["builtin", "id", "permissions"])
      expect((await manager.post(ROLES, { name: "smuggled", [field]: "r-admin" })).status, field).toBe(400);
  });
});

describe("guessing", () => {
  it("a key is found by the index of its hash and stored as nothing else: no comparison with it takes any time", async () => {
    const plan = await env.DB.prepare("explain query plan select * from api_keys where key_hash = ?").bind("x").all();
    expect(JSON.stringify(plan.results)).toContain("USING INDEX api_keys_hash");
    const made = await admin.create(KEYS, { name: "stored", roles: [] });
    const row = await env.DB.prepare("select * from api_keys where id = ?").bind(made.id).first();
    expect(JSON.stringify(row)).not.toContain(String(made.key_value).slice(15));
    const listed = await admin.get(KEYS);
    expect(JSON.stringify(listed.body)).not.toMatch(/key_hash|key_value/);
  });

  it("an unknown user, one without a password, a wrong and a locked one are one answer to who guesses passwords", async () => {
    const [{ id: known }, { id: without }] = [await newUser(["r-viewer"]), await newUser()];
    await admin.create(PASSWORDS, { actor_id: known, password: "correct horse battery" });
    const guess = async (actor_id: string, password: string) => {
      const { status, body } = await new Client(null).post("/auth/breakglass/login", { actor_id, password });
      return `${status} ${body.error} ${body.message}`;
    };
    const first = await guess("u-nobody", "wrong horse battery");
    expect(first).toMatch(/^401 /);
    expect(await guess(without, "wrong horse battery")).toBe(first);
    for (let n = 0; n < 6; n++) expect(await guess(known, "wrong horse battery")).toBe(first);
    expect(await guess(known, "correct horse battery")).toBe(first);
  });
});

it("no key, token, password or client secret is in the audit log, nor in the rows that idempotency keeps", async () => {
  const { provider_id } = await newUser();
  await admin.put(`${PROVIDERS}/${provider_id}`, { client_secret: "client-secret-of-the-audit-test" });
  await admin.post("/api/v1/agent-credentials", { name: "audited" }, { "Idempotency-Key": "escalation-audit" });
  const { results } = await env.DB.prepare("select * from audit_events").all();
  const { results: kept } = await env.DB.prepare("select * from idempotency_keys").all();
  expect(results.length).toBeGreaterThan(20);
  expect(kept.length).toBeGreaterThan(0);
  expect(JSON.stringify([results, kept])).not.toMatch(
    /certctl_(?:agent_)?[A-Za-z0-9_-]{43}|horse battery|client-secret-of-the-audit-test|test-bootstrap-token/,
  );
});
