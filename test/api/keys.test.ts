import { env } from "cloudflare:workers";
import { afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { actorWith, newActor, ofIssuer, ofProfile, roleWith } from "../support/actors.ts";
import { auditCount, Client } from "../support/api.ts";
import { type CreatedKey, KEYS, Keys, told } from "../support/keys.ts";

const ME = "/api/v1/auth/me";
const DAY = 86_400_000;

interface Created extends CreatedKey {
  prefix: string;
  expires_at: string | null;
  roles: Record<string, string>[];
  overlap_ends_at: string;
}

let keys: Keys;
let admin: Client;
let profile: string;
let otherProfile: string;
let issuer: string;

const name = () => keys.name();
const works = async (key: string) => (await new Client(key).get(ME)).status;
const create = (body: Record<string, unknown> = {}, by = admin) => keys.create<Created>(body, by);
const rotate = (id: string, body: Record<string, unknown> = {}, by = admin) =>
  by.post<Created & Record<string, unknown>>(`${KEYS}/${id}/rotate`, body);
const listed = (actor_id: string) => keys.listed(actor_id);

beforeAll(async () => {
  keys = await Keys.make();
  ({ admin, profile, otherProfile, issuer } = keys);
});

afterEach(() => {
  vi.useRealTimers();
});

describe("a new API key", () => {
  it("is no administrator's by the role in a scope", async () => {
    const inScope = await create({ roles: [{ role_id: "r-admin", scope_type: "profile", scope_id: profile }] });
    expect((await new Client(inScope.key_value).get(ME)).body).toMatchObject({ admin: false, roles: ["r-admin"] });
    const everywhere = await create({ roles: [{ role_id: "r-admin" }] });
    expect((await new Client(everywhere.key_value).get(ME)).body.admin).toBe(true);
  });

  it("is shown once and acts with its roles in their scopes", async () => {
    const key = await create({
      name: "ci-web",
      roles: [{ role_id: "r-viewer", scope_type: "profile", scope_id: profile }, { role_id: "r-auditor" }],
    });
    expect(key).toMatchObject({ actor_id: "ci-web", actor_type: "APIKey", name: "ci-web", expires_at: null });
    expect(key.id).toMatch(/^ak-[0-9a-v]{26}$/);
    expect(key.key_value).toMatch(/^certctl_[A-Za-z0-9_-]{43}$/);
    expect(key.key_value.startsWith(key.prefix)).toBe(true);
    expect(key.roles).toEqual([
      { role_id: "r-viewer", scope_type: "profile", scope_id: profile },
      { role_id: "r-auditor", scope_type: "global" },
    ]);
    const me = await new Client(key.key_value).get<{ effective_permissions: unknown[] }>(ME);
    expect(me.body).toMatchObject({ actor_id: "ci-web", actor_type: "APIKey", admin: false });
    expect(me.body.effective_permissions).toEqual(
      expect.arrayContaining([
        { permission: "cert.read", scope_type: "profile", scope_id: profile },
        { permission: "audit.export", scope_type: "global" },
      ]),
    );
    expect(await auditCount("auth.key.create", key.id)).toBe(1);
  });

  it("is listed with prefix, owner and last use, and neither it nor its hash is ever shown or logged", async () => {
    const maker = await create({ roles: [{ role_id: "r-cli" }] });
    const key = await create({}, new Client(maker.key_value));
    expect(await works(key.key_value)).toBe(200);
    const entry = await vi.waitFor(async () => {
      const found = await listed(key.actor_id);
      expect(found?.keys[0]?.last_used_at).not.toBeNull();
      return found;
    });
    expect(entry).toMatchObject({
      actor_type: "APIKey",
      tenant_id: "t-default",
      role_ids: ["r-viewer"],
      roles: [{ role_id: "r-viewer", scope_type: "global", expires_at: null }],
      keys: [
        {
          id: key.id,
          name: key.actor_id,
          prefix: key.prefix,
          created_by: maker.actor_id,
          owner: { type: "APIKey", id: "root-admin" },
          expires_at: null,
          revoked_at: null,
        },
      ],
    });
    const list = JSON.stringify((await admin.get(KEYS)).body);
    const hash = await env.DB.prepare("select key_hash from api_keys where id = ?")
      .bind(key.id)
      .first<string>("key_hash");
    const events = await env.DB.prepare("select group_concat(details) as d from audit_events").first<string>("d");
    for (const secret of [key.key_value, hash ?? "none"]) {
      expect(list).not.toContain(secret);
      expect(events).not.toContain(secret);
    }
  });

  it("has a name that no actor ever had", async () => {
    const key = await create();
    const agent = String((await admin.create("/api/v1/agents", { id: "named-agent", name: "a", hostname: "a" })).id);
    await admin.delete(`${KEYS}/${key.actor_id}`);
    await admin.delete(`${KEYS}/${key.actor_id}/roles/r-viewer`);
    for (const taken of [key.actor_id, "root-admin", agent])
      expect(told(await admin.post(KEYS, { name: taken, roles: [] }))).toEqual([409, "already_exists"]);
    for (const reserved of [
      "system",
      "anonymous",
      "actor-demo-anon",
      "ak-mine",
      "u-somebody",
      "Ab",
      "x",
      "a b c",
      "-ab",
    ])
      expect([reserved, ...told(await admin.post(KEYS, { name: reserved, roles: [] }))]).toEqual([
        reserved,
        400,
        "invalid_request",
      ]);
  });

  it("of two that want a name at the same moment is one", async () => {
    const body = { name: name(), roles: [{ role_id: "r-viewer" }] };
    const answers = await Promise.all([1, 2, 3].map(() => admin.post(KEYS, body)));
    expect(answers.map(({ status }) => status).toSorted()).toEqual([201, 409, 409]);
    expect((await listed(body.name))?.keys.length).toBe(1);
  });

  it("is the same for the same Idempotency-Key, and only for whoever asked", async () => {
    const body = { name: name(), roles: [] };
    const once = { "Idempotency-Key": "make-key" };
    const first = await admin.post(KEYS, body, once);
    const again = await admin.post(KEYS, body, once);
    expect([again.status, again.body]).toEqual([201, first.body]);
    expect(again.headers.get("Idempotency-Replayed")).toBe("true");
    expect(told(await admin.post(KEYS, { ...body, roles: [{ role_id: "r-cli" }] }, once))).toEqual([
      409,
      "idempotency_key_reused",
    ]);
    const other = await actorWith([{ role_id: "r-admin" }]);
    expect(told(await other.post(KEYS, body, once))).toEqual([409, "already_exists"]);
    const stored = await env.DB.prepare("select group_concat(answer) as a from idempotency_keys").first<string>("a");
    expect(stored).not.toContain(String(first.body.key_value));
  });

  it("of requests that race with one Idempotency-Key is one, and so is a rotation", async () => {
    const body = { name: name(), roles: [] };
    const once = { "Idempotency-Key": "raced-key" };
    const made = await Promise.all([1, 2, 3].map(() => admin.post(KEYS, body, once)));
    expect(made.map(({ status, body }) => [status, body.key_value])).toEqual(
      made.map(() => [201, made[0]?.body.key_value]),
    );
    const path = `${KEYS}/${body.name}/rotate`;
    const rotated = await Promise.all([1, 2, 3].map(() => admin.post(path, {}, once)));
    expect(rotated.map(told)).toEqual(rotated.map(() => [409, "idempotency_key_reused"]));
    const other = { "Idempotency-Key": "raced-rotation" };
    const fresh = await Promise.all([1, 2, 3].map(() => admin.post(path, {}, other)));
    expect(fresh.map(({ status, body }) => [status, body.key_value])).toEqual(
      fresh.map(() => [201, fresh[0]?.body.key_value]),
    );
    expect((await listed(body.name))?.keys.length).toBe(2);
  });

  it("takes nothing but what the caller may say", async () => {
    for (const [body, code] of [
      [{ roles: [] }, "invalid_request"],
      [{ name: "abc" }, "invalid_request"],
      [{ name: "abc", roles: [], key_value: "certctl_mine" }, "invalid_request"],
      [{ name: "abc", roles: [], actor_id: "root-admin" }, "invalid_request"],
      [{ name: "abc", roles: [], actor_type: "User" }, "invalid_request"],
      [{ name: "abc", roles: [], owner: { type: "User", id: "x" } }, "invalid_request"],
      [{ name: "abc", roles: [], created_by: "x" }, "invalid_request"],
      [{ name: "abc", roles: [{ role_id: "r-viewer", mapping_id: "grm-x" }] }, "invalid_request"],
      [{ name: "abc", roles: ["r-viewer"] }, "invalid_request"],
      [{ name: "abc", roles: [{ role_id: "r-none" }] }, "reference_not_found"],
      [{ name: "abc", roles: [{ role_id: "r-viewer", scope_type: "profile" }] }, "invalid_request"],
      [{ name: "abc", roles: [{ role_id: "r-viewer", scope_id: profile }] }, "invalid_request"],
      [
        { name: "abc", roles: [{ role_id: "r-viewer", scope_type: "issuer", scope_id: profile }] },
        "reference_not_found",
      ],
      [{ name: "abc", roles: [], expires_at: "2020-01-01T00:00:00Z" }, "invalid_request"],
      [{ name: "abc", roles: [], expires_at: "tomorrow" }, "invalid_request"],
      [{ name: "abc", roles: [], expires_at: "2030-02-31T00:00:00Z" }, "invalid_request"],
      [{ name: "abc", roles: [], expires_at: 1_900_000_000 }, "invalid_request"],
    ] as const)
      expect([body, ...told(await admin.post(KEYS, body))]).toEqual([body, 400, code]);
    expect(await listed("abc")).toBeUndefined();
  });

  it("ends at its time, not a request later", async () => {
    const soon = new Date(Date.now() + 3_600_000);
    const key = await create({ expires_at: soon.toISOString().replace(/\.\d+Z/, "+00:00") });
    expect(await works(key.key_value)).toBe(200);
    vi.setSystemTime(soon);
    expect(await works(key.key_value)).toBe(401);
  });
});

describe("nobody makes a key with more than they have", () => {
  it("neither everywhere nor in a scope; within one's own scope, one may", async () => {
    const cli = await actorWith([{ role_id: "r-cli" }]);
    const maker = await roleWith(["auth.key.create", "auth.key.rotate"]);
    const scoped = await actorWith([{ role_id: maker }, { role_id: "r-operator", ...ofProfile(profile) }]);
    const attempt = (by: Client, roles: unknown) => by.post(KEYS, { name: name(), roles });
    for (const [by, role] of [
      [cli, { role_id: "r-admin" }],
      [cli, { role_id: "r-admin", ...ofProfile(profile) }],
      [cli, { role_id: "r-agent" }],
      [cli, { role_id: await roleWith(["auth.role.assign"]) }],
      [scoped, { role_id: "r-operator" }],
      [scoped, { role_id: "r-viewer" }],
      [scoped, { role_id: "r-viewer", ...ofProfile(otherProfile) }],
      [scoped, { role_id: "r-viewer", ...ofIssuer(issuer) }],
      [scoped, { role_id: "r-admin", ...ofProfile(profile) }],
    ] as const) {
      expect([role, ...told(await attempt(by, [role]))]).toEqual([role, 403, "privilege_exceeded"]);
      expect([role, ...told(await attempt(by, [{ role_id: maker }, role]))]).toEqual([role, 403, "privilege_exceeded"]);
    }
    expect((await attempt(cli, [{ role_id: "r-viewer" }, { role_id: "r-cli" }])).status).toBe(201);
    expect((await attempt(scoped, [{ role_id: "r-viewer", ...ofProfile(profile) }])).status).toBe(201);
  });

  it("and each step needs its own permission, everywhere", async () => {
    const key = await create();
    const scoped = await actorWith([{ role_id: "r-admin", ...ofProfile(profile) }]);
    const viewer = await actorWith([{ role_id: "r-viewer" }]);
    for (const [client, code] of [
      [scoped, "out_of_scope"],
      [viewer, "forbidden"],
    ] as const)
      for (const answer of [
        await client.get(KEYS),
        await client.post(KEYS, { name: name(), roles: [] }),
        await client.post(`${KEYS}/${key.id}/rotate`, {}),
        await client.delete(`${KEYS}/${key.id}`),
        await client.post(`${KEYS}/${key.id}/roles`, { role_id: "r-viewer" }),
        await client.delete(`${KEYS}/${key.id}/roles/r-viewer`),
      ])
        expect(told(answer)).toEqual([403, code]);
    expect(told(await new Client(key.key_value).post(`${KEYS}/${key.id}/rotate`))).toEqual([403, "forbidden"]);
  });
});

describe("rotation", () => {
  it("gives a second key to the same actor; both work until the overlap ends", async () => {
    const old = await create();
    const { status, body: fresh } = await rotate(old.id, { overlap_seconds: 3600 });
    expect(status).toBe(201);
    expect(fresh).toMatchObject({ actor_id: old.actor_id, roles: old.roles, expires_at: null });
    expect(fresh.id).not.toBe(old.id);
    expect([await works(old.key_value), await works(fresh.key_value)]).toEqual([200, 200]);
    expect(await auditCount("auth.key.rotate", fresh.id)).toBe(1);
    vi.setSystemTime(Date.parse(fresh.overlap_ends_at));
    expect([await works(old.key_value), await works(fresh.key_value)]).toEqual([401, 200]);
  });

  it("overlaps for a day unless told, at most for thirty, and never makes an old key live longer", async () => {
    const old = await create({ expires_at: new Date(Date.now() + 7_200_000).toISOString() });
    const { body } = await rotate(old.actor_id);
    expect(Math.abs(Date.parse(body.overlap_ends_at) - Date.now() - DAY)).toBeLessThan(60_000);
    expect(Math.abs(Date.parse(body.expires_at ?? "") - Date.now() - 7_200_000)).toBeLessThan(60_000);
    const keys = (await listed(old.actor_id))?.keys ?? [];
    expect(keys.find(({ id }) => id === old.id)?.expires_at).toBe(old.expires_at);
    for (const overlap_seconds of [-1, 30 * 86_400 + 1, 1.5, "1", null])
      expect(told(await rotate(old.id, { overlap_seconds }))).toEqual([400, "invalid_request"]);
    expect(told(await rotate(old.id, { expires_at: "2020-01-01T00:00:00Z" }))).toEqual([400, "invalid_request"]);
    expect(told(await rotate(old.id, { roles: [{ role_id: "r-admin" }] }))).toEqual([400, "invalid_request"]);
  });

  it("without an overlap ends every other key on the very next request", async () => {
    const first = await create();
    const second = (await rotate(first.id)).body;
    expect([await works(first.key_value), await works(second.key_value)]).toEqual([200, 200]);
    const third = (await rotate(first.actor_id, { overlap_seconds: 0, expires_at: null })).body;
    expect(await Promise.all([first, second, third].map((key) => works(key.key_value)))).toEqual([401, 401, 200]);
  });

  it("of one's own key needs no more than the permission; of a stronger key it is refused, in each scope", async () => {
    const cli = await create({ roles: [{ role_id: "r-cli" }] });
    const own = new Client(cli.key_value);
    expect((await rotate(cli.id, {}, own)).status).toBe(201);
    expect((await rotate(cli.actor_id, {}, own)).status).toBe(201);
    expect((await rotate((await create()).id, {}, own)).status).toBe(201);
    const maker = await roleWith(["auth.key.rotate"]);
    const scoped = await actorWith([{ role_id: maker }, { role_id: "r-viewer", ...ofProfile(profile) }]);
    const scopedKey = await create({ roles: [{ role_id: "r-viewer", ...ofProfile(profile) }] });
    expect((await rotate(scopedKey.id, {}, scoped)).status).toBe(201);
    const agent = String((await admin.create("/api/v1/agents", { name: "rotated", hostname: "rotated" })).id);
    for (const [by, id] of [
      [own, "root-admin"],
      [own, (await create({ roles: [{ role_id: "r-admin", ...ofIssuer(issuer) }] })).id],
      [own, agent],
      [scoped, cli.id],
      [scoped, (await create()).id],
      [scoped, (await create({ roles: [{ role_id: "r-viewer", ...ofProfile(otherProfile) }] })).actor_id],
      [scoped, (await create({ roles: [{ role_id: "r-viewer", ...ofIssuer(issuer) }] })).actor_id],
    ] as const) {
      const before = (await listed(id))?.keys.length;
      expect([id, ...told(await rotate(id, { overlap_seconds: 0 }, by))]).toEqual([id, 403, "privilege_exceeded"]);
      expect((await listed(id))?.keys.length).toBe(before);
    }
  });

  it("is one for one Idempotency-Key; and there is none of what is revoked or was never there", async () => {
    const key = await create();
    const once = { "Idempotency-Key": "rotate-once" };
    const first = await admin.post(`${KEYS}/${key.id}/rotate`, {}, once);
    const again = await admin.post(`${KEYS}/${key.id}/rotate`, {}, once);
    expect(again.body).toEqual(first.body);
    expect((await listed(key.actor_id))?.keys.length).toBe(2);
    await admin.delete(`${KEYS}/${key.id}`);
    expect(told(await rotate(key.id))).toEqual([409, "key_revoked"]);
    await admin.delete(`${KEYS}/${key.actor_id}`);
    expect(told(await rotate(key.actor_id))).toEqual([409, "key_revoked"]);
    for (const id of ["ak-none", "nobody"]) expect(told(await rotate(id))).toEqual([404, "not_found"]);
  });

  it("of an agent's key by an administrator is that agent's again", async () => {
    const agent = await admin.create<Record<string, string>>("/api/v1/agents", {
      name: "renewed",
      hostname: "renewed",
    });
    const { status, body } = await rotate(String(agent.id), { overlap_seconds: 0 });
    expect(status).toBe(201);
    const work = `/api/v1/agents/${agent.id}/work`;
    expect((await new Client(String(agent.api_key)).get(work)).status).toBe(401);
    expect((await new Client(body.key_value).get(work)).status).toBe(200);
  });
});

describe("deletion", () => {
  it("of a key ends that one at once, of an actor all of its keys; again is no error", async () => {
    const first = await create();
    const second = (await rotate(first.id)).body;
    const third = (await rotate(first.id)).body;
    const status = async () => Promise.all([first, second, third].map((key) => works(key.key_value)));
    expect(await status()).toEqual([200, 200, 200]);
    expect((await admin.delete(`${KEYS}/${second.id}`)).status).toBe(204);
    expect(await status()).toEqual([200, 401, 200]);
    expect((await admin.delete(`${KEYS}/${second.id}`)).status).toBe(204);
    expect((await admin.delete(`${KEYS}/${first.actor_id}`)).status).toBe(204);
    expect(await status()).toEqual([401, 401, 401]);
    expect((await admin.delete(`${KEYS}/${first.actor_id}`)).status).toBe(204);
    for (const { id } of [first, second, third]) expect(await auditCount("auth.key.delete", id)).toBe(1);
    for (const id of ["ak-none", "nobody"])
      expect(told(await admin.delete(`${KEYS}/${id}`))).toEqual([404, "not_found"]);
  });

  it("somebody else's needs all that it holds, where it holds it; one's own needs nothing more", async () => {
    const deletes = await roleWith(["auth.key.delete"]);
    const both = await roleWith(["auth.key.delete", "team.read"]);
    const reads = await roleWith(["team.read"]);
    const scope = { scope_type: "issuer", scope_id: "iss-scope" } as const;
    const scoped = await roleWith([{ permission: "team.read", ...scope }]);
    const bare = await newActor([{ role_id: deletes }]);
    const holder = await actorWith([{ role_id: both }]);
    const victim = await newActor([{ role_id: reads }]);
    const refused = [403, "privilege_exceeded"];
    for (const id of [victim.actorId, victim.keyId, "root-admin"])
      expect([id, ...told(await bare.client.delete(`${KEYS}/${id}`))]).toEqual([id, ...refused]);
    expect(told(await holder.delete(`${KEYS}/root-admin`))).toEqual(refused);
    const inScope = await actorWith([{ role_id: deletes }, { role_id: scoped }]);
    const refusal = await inScope.delete<{ message: string }>(`${KEYS}/${victim.keyId}`);
    expect(refusal.body.message).toBe(
      `the key of "${victim.actorId}" holds team.read everywhere, which you do not hold yourself`,
    );
    expect((await victim.client.get("/api/v1/teams")).status).toBe(200);
    expect((await holder.delete(`${KEYS}/${victim.keyId}`)).status).toBe(204);
    expect((await victim.client.get("/api/v1/teams")).status).toBe(401);
    // It has ended: there is nothing more to take.
    expect((await bare.client.delete(`${KEYS}/${victim.keyId}`)).status).toBe(204);
    expect((await bare.client.delete(`${KEYS}/${(await newActor([{ role_id: scoped }])).keyId}`)).status).toBe(403);
    expect((await bare.client.delete(`${KEYS}/${bare.actorId}`)).status).toBe(204);
  });

  it("by the key itself is its last act, and a rotation that it raced leaves it no other", async () => {
    const role = await roleWith(["auth.key.rotate", "auth.key.delete"]);
    const key = await create({ roles: [{ role_id: role }] });
    const own = new Client(key.key_value);
    const [, rotated] = await Promise.all([admin.delete(`${KEYS}/${key.actor_id}`), rotate(key.id, {}, own)]);
    expect(await works(key.key_value)).toBe(401);
    // Whichever came first: what the rotation gave, if anything, is listed and can be ended.
    if (rotated.status === 201) {
      expect((await admin.delete(`${KEYS}/${key.actor_id}`)).status).toBe(204);
      expect(await works(rotated.body.key_value)).toBe(401);
    } else expect([401, 409]).toContain(rotated.status);
    const other = await create({ roles: [{ role_id: role }] });
    const itself = new Client(other.key_value);
    expect((await itself.delete(`${KEYS}/${other.id}`)).status).toBe(204);
    expect((await itself.delete(`${KEYS}/${other.id}`)).status).toBe(401);
  });
});
