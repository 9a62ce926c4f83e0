import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { forgetActors } from "../../src/identity/actors.ts";
import { openSession } from "../../src/identity/sessions/sessions.ts";
import { userWork } from "../../src/identity/users.ts";
import { actorWith, newActor, ofProfile, roleWith } from "../support/actors.ts";
import { administrator, auditCount, Client } from "../support/api.ts";
import { Browser, context, newUser, signIn } from "../support/browser.ts";
import { contextAhead } from "../support/context.ts";
import { told } from "../support/keys.ts";
import { perform } from "../support/work.ts";

const KEYS = "/api/v1/auth/keys";
const USERS = "/api/v1/auth/users";
const ME = "/api/v1/auth/me";

let admin: Client;

const deactivate = (id: string, by = admin) => by.delete(`${USERS}/${id}`);
const reactivate = (id: string, by = admin) => by.post(`${USERS}/${id}/reactivate`);

/** A signed-in user with these roles, and a key that it made. */
async function userWithKey(roles: readonly string[]) {
  const user = await newUser(roles);
  const { browser } = await signIn(user.id);
  await browser.get(ME);
  const name = `of-${crypto.randomUUID().slice(0, 8)}`;
  const made = await browser.change<{ key_value: string }>("POST", KEYS, { name, roles: [{ role_id: roles[0] }] });
  expect(made.status).toBe(201);
  return { ...user, browser, keyName: name, key: new Client(made.body.key_value) };
}

beforeAll(async () => {
  admin = await administrator();
});

describe("users", () => {
  it("are listed page by page, of one provider when asked, with their roles", async () => {
    const [one, two] = [await newUser(["r-viewer"]), await newUser()];
    const all = await admin.get<{ data: { id: string }[] }>(USERS);
    expect(all.body).toMatchObject({ total: 2, page: 1, per_page: 50 });
    const { data } = (await admin.get<{ data: { id: string }[] }>(`${USERS}?per_page=1&page=2`)).body;
    expect([all.body.data[0]?.id, data[0]?.id].toSorted()).toEqual([one.id, two.id].toSorted());
    const filtered = await admin.get(`${USERS}?oidc_provider_id=${one.provider_id}`);
    expect(filtered.body).toMatchObject({
      total: 1,
      data: [{ id: one.id, oidc_provider_id: one.provider_id, role_ids: ["r-viewer"], deactivated_at: null }],
    });
    expect((await admin.get(`${USERS}?oidc_provider_id=op-none`)).body).toMatchObject({ total: 0, data: [] });
    expect((await admin.get(`${USERS}/${two.id}`)).body).toMatchObject({ id: two.id, role_ids: [] });
    expect(told(await admin.get(`${USERS}/u-none`))).toEqual([404, "not_found"]);
    for (const query of ["page=0", "per_page=501", "page=x"])
      expect(told(await admin.get(`${USERS}?${query}`))).toEqual([400, "invalid_request"]);
  });

  it("are seen by who may, and touched by who may more", async () => {
    const user = await newUser();
    const auditor = await actorWith([{ role_id: "r-auditor" }]);
    const viewer = await actorWith([{ role_id: "r-viewer" }]);
    const profile = String((await admin.create("/api/v1/profiles", { name: "seen" })).id);
    const scoped = await actorWith([{ role_id: "r-admin", ...ofProfile(profile) }]);
    for (const path of [USERS, `${USERS}/${user.id}`, `${USERS}/${user.id}/roles`]) {
      expect((await auditor.get(path)).status).toBe(200);
      expect(told(await viewer.get(path))).toEqual([403, "forbidden"]);
      expect(told(await scoped.get(path))).toEqual([403, "out_of_scope"]);
    }
    for (const id of [user.id, "u-none"]) {
      expect(told(await deactivate(id, auditor))).toEqual([403, "forbidden"]);
      expect(told(await reactivate(id, auditor))).toEqual([403, "forbidden"]);
      expect(told(await deactivate(id, scoped))).toEqual([403, "out_of_scope"]);
    }
    for (const answer of [await deactivate("u-none"), await reactivate("u-none")])
      expect(told(answer)).toEqual([404, "not_found"]);
  });
});

describe("a deactivated user", () => {
  it("is out on the very next request: sessions, keys, and keys made by those keys", async () => {
    const user = await userWithKey(["r-cli"]);
    const second = await user.key.create<{ key_value: string }>(KEYS, {
      name: `${user.keyName}-child`,
      roles: [{ role_id: "r-viewer" }],
    });
    const child = new Client(second.key_value);
    const other = await signIn(user.id);
    const clients = [user.browser, other.browser, user.key, child];
    const status = async () => Promise.all(clients.map(async (client) => (await client.get(ME)).status));
    expect(await status()).toEqual([200, 200, 200, 200]);
    expect((await deactivate(user.id)).status).toBe(204);
    expect(await status()).toEqual([401, 401, 401, 401]);
    expect((await deactivate(user.id)).status).toBe(204);
    expect(await auditCount("auth.user.deactivate", user.id)).toBe(1);
    expect((await admin.get(`${USERS}/${user.id}`)).body.deactivated_at).not.toBeNull();

    expect((await reactivate(user.id)).status).toBe(204);
    expect(await status()).toEqual([401, 401, 200, 200]);
    expect((await reactivate(user.id)).status).toBe(204);
    expect(await auditCount("auth.user.reactivate", user.id)).toBe(1);
    expect((await (await signIn(user.id)).browser.get(ME)).status).toBe(200);
  });

  it("whose key was rotated by itself is out too, and by another is not that other's loss", async () => {
    const user = await userWithKey(["r-cli"]);
    const rotated = await user.key.create<{ key_value: string }>(`${KEYS}/${user.keyName}/rotate`, {});
    await deactivate(user.id);
    expect((await new Client(rotated.key_value).get(ME)).status).toBe(401);
    const taken = await admin.create<{ key_value: string }>(`${KEYS}/${user.keyName}/rotate`, { overlap_seconds: 0 });
    expect((await new Client(taken.key_value).get(ME)).status).toBe(200);
  });

  it("is not oneself, by session or by one's own key, nor the last administrator", async () => {
    const user = await userWithKey(["r-admin"]);
    expect(told(await user.browser.change("DELETE", `${USERS}/${user.id}`))).toEqual([409, "own_account"]);
    expect(told(await deactivate(user.id, user.key))).toEqual([409, "own_account"]);
    const { client: other } = await newActor([{ role_id: await roleWith(["auth.user.deactivate"]) }]);
    await env.DB.prepare("delete from actor_roles where role_id = 'r-admin' and actor_id <> ?").bind(user.id).run();
    forgetActors();
    expect(told(await deactivate(user.id, other))).toEqual([409, "last_admin"]);
    expect((await user.browser.get(ME)).status).toBe(200);
    expect((await user.browser.change("POST", `${KEYS}/root-admin/roles`, { role_id: "r-admin" })).status).toBe(204);
    expect((await deactivate(user.id, other)).status).toBe(204);
    expect((await user.browser.get(ME)).status).toBe(401);
  });

  it("comes back only by who has all of its rights, those of its keys too", async () => {
    const helpdesk = await roleWith(["auth.user.deactivate"]);
    const client = await actorWith([{ role_id: helpdesk }, { role_id: "r-viewer" }]);
    const soon = new Date(Date.now() + 3_600_000).toISOString();
    const forNow = await actorWith([{ role_id: "r-admin", expires_at: soon }]);
    const viewer = await newUser(["r-viewer"]);
    const operator = await newUser(["r-operator"]);
    const keyOwner = await userWithKey(["r-cli"]);
    await env.DB.prepare("delete from actor_roles where actor_id = ?").bind(keyOwner.id).run();
    forgetActors();
    for (const { id } of [viewer, operator, keyOwner]) expect((await deactivate(id, client)).status).toBe(204);
    expect((await reactivate(viewer.id, client)).status).toBe(204);
    for (const { id } of [operator, keyOwner]) {
      for (const by of [client, forNow]) expect(told(await reactivate(id, by))).toEqual([403, "privilege_exceeded"]);
      expect((await admin.get(`${USERS}/${id}`)).body.deactivated_at).not.toBeNull();
    }
    await admin.delete(`${KEYS}/${keyOwner.keyName}`);
    expect((await reactivate(keyOwner.id, client)).status).toBe(204);
  });

  it("comes back with bootstrap credentials for agents only by who may enrol agents", async () => {
    const client = await actorWith([{ role_id: await roleWith(["auth.user.deactivate"]) }, { role_id: "r-viewer" }]);
    const { id } = await newUser(["r-viewer"]);
    const end = (ms: number) => new Date(Date.now() + ms).toISOString();
    const credential = `abc-${id}`;
    await env.DB.prepare(
      `insert into agent_credentials (id, name, prefix, token_hash, max_uses, uses, expires_at, created_by, owner_type, owner_id, created_at, updated_at)
       values (?, 'c', 'p', ?, 2, 1, ?, 'x', 'User', ?, ?, ?)`,
    )
      .bind(credential, id, end(3_600_000), id, end(0), end(0))
      .run();
    const set = (sql: string) =>
      env.DB.prepare(`update agent_credentials set ${sql} where id = ?`).bind(credential).run();
    expect((await deactivate(id, client)).status).toBe(204);
    expect(told(await reactivate(id, client))).toEqual([403, "privilege_exceeded"]);
    for (const [ended, back] of [
      ["uses = 2", "uses = 1"],
      ["revoked_at = '2026-01-01T00:00:00.000Z'", "revoked_at = null"],
      ["expires_at = '2026-01-01T00:00:00.000Z'", `expires_at = '${end(3_600_000)}'`],
    ] as const) {
      await set(ended);
      expect([ended, (await reactivate(id, client)).status]).toEqual([ended, 204]);
      await set(back);
      expect((await deactivate(id, client)).status).toBe(204);
      expect(told(await reactivate(id, client))).toEqual([403, "privilege_exceeded"]);
    }
    expect((await reactivate(id)).status).toBe(204);
  });

  it("has no session left after a crash between the row and the sessions: queued work ends them", async () => {
    const user = await newUser(["r-viewer"]);
    const { browser } = await signIn(user.id);
    await env.DB.prepare("update users set deactivated_at = '2026-01-01T00:00:00.000Z' where id = ?")
      .bind(user.id)
      .run();
    forgetActors();
    expect((await browser.get(ME)).status).toBe(401);
    await perform(contextAhead(), userWork, "auth.end_sessions", { user_id: user.id });
    await env.DB.prepare("update users set deactivated_at = null where id = ?").bind(user.id).run();
    forgetActors();
    expect((await browser.get(ME)).status).toBe(401);
    // Late, or twice: who was let in again keeps the session of since then.
    const since = await signIn(user.id);
    await perform(contextAhead(), userWork, "auth.end_sessions", { user_id: user.id });
    expect((await since.browser.get(ME)).status).toBe(200);
  });

  it("leaves the work that would do so with the row", async () => {
    const user = await newUser();
    await deactivate(user.id);
    const entry = await env.DB.prepare(
      "select count(*) as n from work where kind = 'auth.end_sessions' and payload like ?",
    )
      .bind(`%${user.id}%`)
      .first<{ n: number }>();
    expect(entry?.n).toBe(1);
  });

  it("who is let in again does not bring back a session that outlived the deactivation", async () => {
    const user = await newUser(["r-viewer"]);
    await deactivate(user.id);
    const { cookies } = await openSession(context(), { id: user.id, type: "User" });
    const late = new Browser().keep(cookies);
    expect((await late.get(ME)).status).toBe(401);
    expect((await reactivate(user.id)).status).toBe(204);
    expect((await late.get(ME)).status).toBe(401);
  });
});
