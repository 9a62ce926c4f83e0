import { afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { forgetActors } from "../../src/identity/actors.ts";
import { newActor, ofIssuer, ofProfile, roleWith } from "../support/actors.ts";
import { auditCount, Client } from "../support/api.ts";
import { KEYS, Keys, told } from "../support/keys.ts";

let keys: Keys;
let admin: Client;
let profile: string;
let otherProfile: string;
let issuer: string;

const create = (body: Record<string, unknown> = {}, by = admin) => keys.create(body, by);
const listed = (actor_id: string) => keys.listed(actor_id);

beforeAll(async () => {
  keys = await Keys.make();
  ({ admin, profile, otherProfile, issuer } = keys);
});

afterEach(() => {
  vi.useRealTimers();
});

describe("the roles of a key", () => {
  it("are given and taken by actor id or key id, and hold on the very next request", async () => {
    const key = await create({ roles: [] });
    const client = new Client(key.key_value);
    expect((await client.get("/api/v1/certificates")).status).toBe(403);
    expect((await admin.post(`${KEYS}/${key.id}/roles`, { role_id: "r-viewer" })).status).toBe(204);
    expect((await client.get("/api/v1/certificates")).status).toBe(200);
    expect((await admin.post(`${KEYS}/${key.actor_id}/roles`, { role_id: "r-viewer" })).status).toBe(204);
    expect((await listed(key.actor_id))?.roles.length).toBe(1);
    expect((await admin.delete(`${KEYS}/${key.actor_id}/roles/r-viewer`)).status).toBe(204);
    expect((await client.get("/api/v1/certificates")).status).toBe(403);
    expect(told(await admin.delete(`${KEYS}/${key.actor_id}/roles/r-viewer`))).toEqual([404, "not_found"]);
    expect(await auditCount("auth.grant.create", key.actor_id)).toBe(2);
    expect(await auditCount("auth.grant.revoke", key.actor_id)).toBe(1);
  });

  it("have a scope and an end; given again the end changes; past it the role is not held", async () => {
    const key = await create({ roles: [] });
    const client = new Client(key.key_value);
    const path = `${KEYS}/${key.id}/roles`;
    const first = new Date(Date.now() + 3_600_000).toISOString();
    const later = new Date(Date.now() + 7_200_000).toISOString();
    const role = { role_id: "r-viewer", scope_type: "profile", scope_id: profile };
    for (const expires_at of [first, later]) {
      expect((await admin.post(path, { ...role, expires_at })).status).toBe(204);
      expect((await listed(key.actor_id))?.roles).toEqual([{ ...role, expires_at }]);
    }
    expect((await client.get(`/api/v1/profiles/${profile}`)).status).toBe(200);
    expect(told(await client.get(`/api/v1/profiles/${otherProfile}`))).toEqual([403, "out_of_scope"]);
    expect(told(await client.get("/api/v1/profiles/prof-absent"))).toEqual([403, "out_of_scope"]);
    vi.setSystemTime(Date.parse(later));
    expect((await client.get(`/api/v1/profiles/${profile}`)).status).toBe(403);
    vi.useRealTimers();
    forgetActors();
    expect((await admin.post(path, role)).status).toBe(204);
    expect((await listed(key.actor_id))?.roles).toEqual([{ ...role, expires_at: null }]);
  });

  it("end in no year that has five digits: its text would sort before now", async () => {
    const { actorId } = await newActor([]);
    for (const expires_at of ["9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59.999-00:01"]) {
      const answer = await admin.post(`${KEYS}/${actorId}/roles`, { role_id: "r-viewer", expires_at });
      expect([answer.status, answer.body.message]).toEqual([400, expect.stringContaining("expires_at")]);
      const key = await admin.post(KEYS, { name: `late-${crypto.randomUUID().slice(0, 8)}`, roles: [], expires_at });
      expect([key.status, key.body.message]).toEqual([400, expect.stringContaining("expires_at")]);
    }
    const list = await admin.get("/api/v1/certificates?expires_before=9999-12-31T23%3A59%3A59-12%3A00");
    expect([list.status, list.body.message]).toEqual([400, expect.stringContaining("expires_before")]);
    const last = "9999-12-31T23:59:59Z";
    expect((await admin.post(`${KEYS}/${actorId}/roles`, { role_id: "r-viewer", expires_at: last })).status).toBe(204);
  });

  it("are taken in the scope that is named, else in every scope", async () => {
    const key = await create({
      roles: [
        { role_id: "r-viewer" },
        { role_id: "r-viewer", ...ofProfile(profile) },
        { role_id: "r-viewer", ...ofProfile(otherProfile) },
        { role_id: "r-viewer", ...ofIssuer(issuer) },
      ],
    });
    const path = `${KEYS}/${key.id}/roles/r-viewer`;
    const left = async () => new Set((await listed(key.actor_id))?.roles.map(({ scope_id }) => scope_id));
    expect((await admin.delete(`${path}?scope_type=profile&scope_id=${profile}`)).status).toBe(204);
    expect(await left()).toEqual(new Set([undefined, otherProfile, issuer]));
    expect(told(await admin.delete(`${path}?scope_type=profile&scope_id=${profile}`))).toEqual([404, "not_found"]);
    expect(told(await admin.delete(`${path}?scope_type=profile`))).toEqual([400, "invalid_request"]);
    expect((await admin.delete(`${path}?scope_type=global`)).status).toBe(204);
    expect(await left()).toEqual(new Set([otherProfile, issuer]));
    expect((await admin.delete(path)).status).toBe(204);
    expect(await left()).toEqual(new Set());
  });

  it("are not given beyond one's own, not even to oneself", async () => {
    const assigner = await roleWith(["auth.role.assign"]);
    const { client, actorId } = await newActor([
      { role_id: assigner },
      { role_id: "r-operator", ...ofProfile(profile) },
    ]);
    const victim = await create({ roles: [] });
    for (const id of [actorId, victim.id]) {
      for (const role of [
        { role_id: "r-admin" },
        { role_id: "r-viewer" },
        { role_id: "r-viewer", ...ofProfile(otherProfile) },
        { role_id: "r-viewer", ...ofIssuer(issuer) },
        { role_id: "r-admin", ...ofProfile(profile) },
      ])
        expect([role, ...told(await client.post(`${KEYS}/${id}/roles`, role))]).toEqual([
          role,
          403,
          "privilege_exceeded",
        ]);
      expect((await client.post(`${KEYS}/${id}/roles`, { role_id: "r-viewer", ...ofProfile(profile) })).status).toBe(
        204,
      );
    }
    expect(told(await client.delete(`${KEYS}/${victim.id}/roles/r-viewer`))).toEqual([403, "forbidden"]);
  });

  it("are not given to who is not there, nor to the demo mode's actor, nor with other fields", async () => {
    const key = await create();
    for (const id of ["ak-none", "nobody"]) {
      expect(told(await admin.post(`${KEYS}/${id}/roles`, { role_id: "r-viewer" }))).toEqual([404, "not_found"]);
      expect(told(await admin.delete(`${KEYS}/${id}/roles/r-viewer`))).toEqual([404, "not_found"]);
    }
    expect(told(await admin.post(`${KEYS}/${key.id}/roles`, { role_id: "r-none" }))).toEqual([404, "not_found"]);
    expect(told(await admin.delete(`${KEYS}/${key.id}/roles/r-none`))).toEqual([404, "not_found"]);
    expect(told(await admin.post(`${KEYS}/actor-demo-anon/roles`, { role_id: "r-viewer" }))).toEqual([
      409,
      "demo_actor",
    ]);
    expect(told(await admin.delete(`${KEYS}/actor-demo-anon/roles/r-admin`))).toEqual([409, "demo_actor"]);
    for (const body of [
      {},
      { role_id: "r-viewer", actor_type: "User" },
      { role_id: "r-viewer", granted_by: "root-admin" },
      { role_id: "r-viewer", mapping_id: "grm-x" },
      { role_id: "r-viewer", tenant_id: "t-other" },
      { role_id: "r-viewer", expires_at: "2020-01-01T00:00:00Z" },
      { role_id: "r-viewer", scope_type: "profile" },
    ])
      expect([body, ...told(await admin.post(`${KEYS}/${key.id}/roles`, body))]).toEqual([
        body,
        400,
        "invalid_request",
      ]);
  });

  it("do not outlive a profile that goes at the same moment", async () => {
    for (let round = 0; round < 4; round++) {
      const key = await create({ roles: [] });
      const id = String((await admin.create("/api/v1/profiles", { name: `going ${round}` })).id);
      const role = `/api/v1/auth/roles/${await roleWith([])}`;
      const [given, permitted, deleted] = await Promise.all([
        admin.post(`${KEYS}/${key.id}/roles`, { role_id: "r-viewer", ...ofProfile(id) }),
        admin.post(`${role}/permissions`, { permission: "cert.read", ...ofProfile(id) }),
        admin.delete(`/api/v1/profiles/${id}`),
      ]);
      expect(deleted.status).toBe(204);
      for (const { status } of [given, permitted]) expect([204, 400]).toContain(status);
      expect((await listed(key.actor_id))?.roles ?? []).toEqual([]);
      expect((await admin.get(role)).body.permissions).toEqual([]);
    }
  });

  it("do not come of a role that goes at the same moment", async () => {
    for (let round = 0; round < 4; round++) {
      const key = await create({ roles: [] });
      const role = await roleWith(["cert.read"]);
      const [given, deleted] = await Promise.all([
        admin.post(`${KEYS}/${key.id}/roles`, { role_id: role }),
        admin.delete(`/api/v1/auth/roles/${role}`),
      ]);
      const held = ((await listed(key.actor_id))?.role_ids ?? []).includes(role);
      expect([
        [204, 409, true],
        [404, 204, false],
      ]).toContainEqual([given.status, deleted.status, held]);
    }
  });
});
