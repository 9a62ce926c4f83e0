import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { BUILTIN_ROLES, PERMISSION_LIST } from "../../src/identity/permissions.ts";
import { actorWith, newActor, ofIssuer, ofProfile, roleWith } from "../support/actors.ts";
import { auditCount, type Client } from "../support/api.ts";
import { Keys, told } from "../support/keys.ts";

const ROLES = "/api/v1/auth/roles";

let admin: Client;
let profile: string;
let otherProfile: string;
let issuer: string;
let n = 0;

const newRole = async (by = admin) => (await by.create(ROLES, { name: `role ${++n}` })).id ?? "";
const permissionsOf = async (id: string) =>
  (await admin.get<{ permissions: Record<string, string>[] }>(`${ROLES}/${id}`)).body.permissions.map(
    ({ permission, scope_type, scope_id }) => [permission, scope_type, scope_id],
  );

beforeAll(async () => {
  ({ admin, profile, otherProfile, issuer } = await Keys.make());
});

describe("the catalogue", () => {
  it("is shown whole to anybody who is authenticated, and to nobody else", async () => {
    const nobody = await actorWith([]);
    const { status, body } = await nobody.get("/api/v1/auth/permissions");
    expect(status).toBe(200);
    expect(body).toEqual({ permissions: PERMISSION_LIST });
    const names = PERMISSION_LIST.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(["auth.user.read", "auth.user.deactivate", "cert.bulk_revoke"]));
  });
});

describe("built-in roles", () => {
  it("come first and show what they may do", async () => {
    const id = await newRole();
    const { body } = await admin.get<{ roles: { id: string; builtin: boolean }[] }>(ROLES);
    expect(body.roles.slice(0, 7).map((role) => role.id)).toEqual(BUILTIN_ROLES.map((role) => role.id));
    expect(body.roles.find((role) => role.id === id)).toMatchObject({ builtin: false, tenant_id: "t-default" });
    const auditor = await admin.get(`${ROLES}/r-auditor`);
    expect(auditor.body).toMatchObject({
      role: { id: "r-auditor", builtin: true },
      permissions: [
        { role_id: "r-auditor", permission_id: "p-audit-read", permission: "audit.read", scope_type: "global" },
        { permission: "audit.export" },
        { permission: "auth.user.read" },
      ],
    });
  });

  it("cannot be renamed, emptied, extended or deleted by anybody", async () => {
    for (const { id } of BUILTIN_ROLES) {
      const refused = [
        await admin.put(`${ROLES}/${id}`, { name: "mine" }),
        await admin.delete(`${ROLES}/${id}`),
        await admin.post(`${ROLES}/${id}/permissions`, { permission: "cert.read" }),
        await admin.delete(`${ROLES}/${id}/permissions/cert.read`),
      ];
      expect(refused.map(told)).toEqual(refused.map(() => [409, "builtin_role"]));
    }
  });
});

describe("a role of one's own", () => {
  it("is made, renamed, described and deleted, each with its audit event", async () => {
    const made = await admin.post(ROLES, { name: "Web team", description: "TLS for the web" });
    expect(made.status).toBe(201);
    const id = String(made.body.id);
    expect(id).toMatch(/^r-[0-9a-v]{26}$/);
    expect(made.body).toMatchObject({ name: "Web team", description: "TLS for the web", builtin: false });
    const renamed = await admin.put(
      `${ROLES}/${id}`,
      { name: "Web people" },
      { "If-Match": made.headers.get("ETag") ?? "" },
    );
    expect([renamed.status, renamed.body.name, renamed.body.description]).toEqual([
      200,
      "Web people",
      "TLS for the web",
    ]);
    const cleared = await admin.put(`${ROLES}/${id}`, { ...renamed.body, description: null });
    expect([cleared.status, cleared.body.description]).toEqual([200, ""]);
    const stale = await admin.put(`${ROLES}/${id}`, { name: "x" }, { "If-Match": made.headers.get("ETag") ?? "" });
    expect(told(stale)).toEqual([412, "precondition_failed"]);
    expect((await admin.delete(`${ROLES}/${id}`)).status).toBe(204);
    for (const gone of [
      await admin.get(`${ROLES}/${id}`),
      await admin.put(`${ROLES}/${id}`, { name: "x" }),
      await admin.delete(`${ROLES}/${id}`),
      await admin.post(`${ROLES}/${id}/permissions`, { permission: "cert.read" }),
      await admin.delete(`${ROLES}/${id}/permissions/cert.read`),
    ])
      expect(told(gone)).toEqual([404, "not_found"]);
    for (const action of ["auth.role.create", "auth.role.delete"]) expect(await auditCount(action, id)).toBe(1);
    expect(await auditCount("auth.role.update", id)).toBe(2);
  });

  it("has a name that no other role has, the built-in ones' names and ids included", async () => {
    await admin.create(ROLES, { name: "Taken" });
    const other = await newRole();
    for (const name of ["Taken", "Administrator", "administrator", "r-admin", "R-ADMIN"]) {
      expect([name, ...told(await admin.post(ROLES, { name }))]).toEqual([name, 409, "already_exists"]);
      expect([name, ...told(await admin.put(`${ROLES}/${other}`, { name }))]).toEqual([name, 409, "already_exists"]);
    }
  });

  it("has a name without what is not seen, so that none looks like another's", async () => {
    const other = await newRole();
    for (const hidden of ["\u200b", "\u202e", "\u2066", "\ufeff", "\u00ad"]) {
      for (const answer of [
        await admin.post(ROLES, { name: `Administrator${hidden}` }),
        await admin.put(`${ROLES}/${other}`, { name: `${hidden}Administrator` }),
      ]) {
        expect(told(answer)).toEqual([400, "invalid_request"]);
        expect(answer.body.message).toContain("name");
      }
    }
  });

  it("takes no field that is not its own, and no server-managed one", async () => {
    for (const body of [
      { name: "x", permissions: ["cert.read"] },
      { name: "x", id: "r-mine" },
      { name: "x", builtin: true },
      { name: "x", tenant_id: "t-other" },
      { name: "" },
      { name: "x\u0000" },
      { description: "x" },
    ])
      expect(told(await admin.post(ROLES, body))).toEqual([400, "invalid_request"]);
    const id = await newRole();
    const kept = await admin.put(`${ROLES}/${id}`, {
      tenant_id: "t-other",
      builtin: true,
      created_at: "2020-01-01T00:00:00Z",
    });
    expect(kept.body).toMatchObject({ tenant_id: "t-default", builtin: false });
    expect(kept.body.created_at).not.toBe("2020-01-01T00:00:00Z");
    expect(told(await admin.put(`${ROLES}/${id}`, { permissions: [] }))).toEqual([400, "invalid_request"]);
  });

  it("is made once for one Idempotency-Key", async () => {
    const key = { "Idempotency-Key": "role-once" };
    const first = await admin.post(ROLES, { name: "Once" }, key);
    const again = await admin.post(ROLES, { name: "Once" }, key);
    expect([again.status, again.body]).toEqual([201, first.body]);
    expect(told(await admin.post(ROLES, { name: "Twice" }, key))).toEqual([409, "idempotency_key_reused"]);
  });

  it("of two who make it at the same moment has one maker", async () => {
    const answers = await Promise.all([1, 2, 3].map(() => admin.post(ROLES, { name: "Raced" })));
    expect(answers.map(({ status }) => status).toSorted()).toEqual([201, 409, 409]);
  });

  it("stays while somebody holds it or a mapping names it; an expired grant is none", async () => {
    const id = await newRole();
    const { actorId } = await newActor([{ role_id: id }]);
    expect(told(await admin.delete(`${ROLES}/${id}`))).toEqual([409, "role_in_use"]);
    await env.DB.prepare("update actor_roles set expires_at = '2020-01-01T00:00:00.000Z' where actor_id = ?")
      .bind(actorId)
      .run();
    await env.DB.prepare(
      "insert into oidc_providers select 'op-x', 't-default', 'x', 'https://x.test', 'c', '', 'https://y.test/cb', 'groups', 'string-array', 0, '[]', '[]', 300, 3600, 1, '', ''",
    ).run();
    await env.DB.prepare(
      "insert into oidc_group_mappings (id, tenant_id, provider_id, group_name, role_id, scope_type, scope_id, created_by, created_at) values ('grm-x', 't-default', 'op-x', 'g', ?, 'global', '', 'test', '')",
    )
      .bind(id)
      .run();
    expect(told(await admin.delete(`${ROLES}/${id}`))).toEqual([409, "role_in_use"]);
    await env.DB.prepare("delete from oidc_group_mappings where id = 'grm-x'").run();
    expect((await admin.delete(`${ROLES}/${id}`)).status).toBe(204);
    const left = await env.DB.prepare("select count(*) as n from actor_roles where role_id = ?")
      .bind(id)
      .first<{ n: number }>();
    expect(left?.n).toBe(0);
  });
});

describe("a role's permissions", () => {
  it("are given by name or id, in each scope, once however often; and hold on the very next request", async () => {
    const id = await newRole();
    const holder = await actorWith([{ role_id: id }]);
    const path = `${ROLES}/${id}/permissions`;
    expect((await holder.get(ROLES)).status).toBe(403);
    for (const body of [
      { permission: "auth.role.list" },
      { permission: "p-auth-role-list" },
      { permission: "auth.role.list", scope_type: "global", scope_id: null },
      { permission: "cert.read", scope_type: "profile", scope_id: profile },
      { permission: "p-cert-read", scope_type: "issuer", scope_id: issuer },
      { permission: "auth.user.read" },
    ])
      expect([body, (await admin.post(path, body)).status]).toEqual([body, 204]);
    expect(await permissionsOf(id)).toEqual([
      ["auth.role.list", "global", undefined],
      ["auth.user.read", "global", undefined],
      ["cert.read", "issuer", issuer],
      ["cert.read", "profile", profile],
    ]);
    expect(await auditCount("auth.role.permission_add", id)).toBe(4);
    expect((await holder.get(ROLES)).status).toBe(200);
    expect((await admin.delete(`${path}/p-auth-role-list`)).status).toBe(204);
    expect((await holder.get(ROLES)).status).toBe(403);
  });

  it("are taken from the scope that is named, else from everywhere: 404 where the role has not got it", async () => {
    const id = await newRole();
    const path = `${ROLES}/${id}/permissions`;
    await admin.post(path, { permission: "cert.read", scope_type: "profile", scope_id: profile });
    expect(told(await admin.delete(`${path}/cert.read`))).toEqual([404, "not_found"]);
    const scoped = `${path}/cert.read?scope_type=profile&scope_id=`;
    expect(told(await admin.delete(`${scoped}${otherProfile}`))).toEqual([404, "not_found"]);
    expect(told(await admin.delete(`${path}/cert.read?scope_type=profile`))).toEqual([400, "invalid_request"]);
    expect(told(await admin.delete(`${path}/cert.read?scope_id=${profile}`))).toEqual([400, "invalid_request"]);
    expect((await admin.delete(`${scoped}${profile}`)).status).toBe(204);
    expect(told(await admin.delete(`${scoped}${profile}`))).toEqual([404, "not_found"]);
    expect(told(await admin.delete(`${path}/no.such`))).toEqual([404, "not_found"]);
  });

  it("must be of the catalogue, their scope must exist and be told exactly when there is one", async () => {
    const path = `${ROLES}/${await newRole()}/permissions`;
    for (const [body, code] of [
      [{ permission: "cert.everything" }, "invalid_request"],
      [{ permission: "*" }, "invalid_request"],
      [{ permission: "cert.read", scope_type: "profile" }, "invalid_request"],
      [{ permission: "cert.read", scope_type: "issuer", scope_id: "" }, "invalid_request"],
      [{ permission: "cert.read", scope_id: profile }, "invalid_request"],
      [{ permission: "cert.read", scope_type: "global", scope_id: profile }, "invalid_request"],
      [{ permission: "cert.read", scope_type: "team", scope_id: "t-x" }, "invalid_request"],
      [{ permission: "cert.read", scope_type: "profile", scope_id: "prof-none" }, "reference_not_found"],
      [{ permission: "cert.read", scope_type: "issuer", scope_id: profile }, "reference_not_found"],
      [{ permission: "cert.read", granted_by: "root" }, "invalid_request"],
    ] as const)
      expect([body, ...told(await admin.post(path, body))]).toEqual([body, 400, code]);
  });
});

describe("who edits roles gains nothing by it", () => {
  it("neither on a role that the caller holds nor on another, in no scope but its own", async () => {
    const editor = await roleWith(["auth.role.edit", { permission: "cert.read", ...ofProfile(profile) }]);
    const client = await actorWith([{ role_id: editor }]);
    const other = await newRole();
    for (const id of [editor, other]) {
      for (const body of [
        { permission: "auth.role.assign" },
        { permission: "cert.read" },
        { permission: "cert.read", ...ofProfile(otherProfile) },
        { permission: "cert.read", ...ofIssuer(issuer) },
        { permission: "cert.issue", ...ofProfile(profile) },
      ])
        expect([body, ...told(await client.post(`${ROLES}/${id}/permissions`, body))]).toEqual([
          body,
          403,
          "privilege_exceeded",
        ]);
    }
    for (const body of [{ permission: "auth.role.edit" }, { permission: "cert.read", ...ofProfile(profile) }])
      expect((await client.post(`${ROLES}/${other}/permissions`, body)).status).toBe(204);
    expect((await permissionsOf(editor)).length).toBe(2);
  });

  it("and each step needs its own permission, everywhere", async () => {
    const id = await newRole();
    const scoped = await actorWith([{ role_id: "r-admin", ...ofProfile(profile) }]);
    const reader = await actorWith([{ role_id: await roleWith(["auth.role.list"]) }]);
    expect((await reader.get(`${ROLES}/${id}`)).status).toBe(200);
    for (const [client, code] of [
      [scoped, "out_of_scope"],
      [reader, "forbidden"],
    ] as const) {
      for (const answer of [
        await client.post(ROLES, { name: "x" }),
        await client.put(`${ROLES}/${id}`, { name: "x" }),
        await client.delete(`${ROLES}/${id}`),
        await client.post(`${ROLES}/${id}/permissions`, { permission: "auth.role.list" }),
        await client.delete(`${ROLES}/${id}/permissions/cert.read`),
      ])
        expect(told(answer)).toEqual([403, code]);
    }
    expect((await scoped.get(ROLES)).status).toBe(403);
  });
});
