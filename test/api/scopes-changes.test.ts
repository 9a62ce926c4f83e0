import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { updateCertificate } from "../../src/inventory/certificates/certificates.ts";
import { archiveCertificate, triggerRenewal } from "../../src/lifecycle/renewal.ts";
import { parseCertificate } from "../../src/pki/certificate.ts";
import { certificatesFromPem } from "../../src/pki/pem.ts";
import { actorWith, newActor, ofIssuer, ofProfile, roleWith, ungrant } from "../support/actors.ts";
import { auditCount, type Client } from "../support/api.ts";
import { newUser } from "../support/browser.ts";
import { contextAhead } from "../support/context.ts";
import { makeCsr } from "../support/csr.ts";
import type { Fleet } from "../support/fleet.ts";
import { adminOf, CERTIFICATES, type Place, Places, told } from "../support/places.ts";

let places: Places;
let fleet: Fleet;
let mine: Place;
let other: Place;
let foreign: { readonly certificate: string };

beforeAll(async () => {
  places = await Places.make();
  ({ fleet, mine, other } = places);
  foreign = { certificate: await places.foreign("certificate") };
});

describe("creating a certificate", () => {
  it("needs the right for the body's profile or issuer, before anything is looked up", async () => {
    const byProfile = await adminOf(ofProfile(mine.profile));
    const byIssuer = await adminOf(ofIssuer(mine.issuer));
    expect((await byProfile.post(CERTIFICATES, places.body(mine))).status).toBe(201);
    expect((await byIssuer.post(CERTIFICATES, places.body(mine))).status).toBe(201);
    expect((await byIssuer.post(CERTIFICATES, places.body({ issuer: mine.issuer }))).status).toBe(201);

    const refused = await byProfile.post(CERTIFICATES, places.body(other));
    expect(told(refused)).toMatchObject({ status: 403, error: "out_of_scope" });
    const tries = [
      places.body({ issuer: other.issuer }),
      places.body({ ...other, profile: "prof-none" }),
      places.body(other, { owner_id: "o-none" }),
      places.body(other, { target_ids: ["tgt-none"] }),
      places.body(other, { id: foreign.certificate }),
      places.body({ profile: other.profile }),
    ];
    for (const sent of tries) expect(told(await byProfile.post(CERTIFICATES, sent))).toEqual(told(refused));
    for (const sent of [
      places.body(other),
      places.body({ issuer: "iss-none" }),
      places.body({ issuer: other.issuer, profile: mine.profile }),
    ])
      expect(told(await byIssuer.post(CERTIFICATES, sent))).toEqual(told(refused));
    expect((await byProfile.post(CERTIFICATES, places.body(mine, { target_ids: ["tgt-none"] }))).status).toBe(400);
  });

  it("tells that a name is taken, and repeats an answer only to who asked", async () => {
    const actor = await adminOf(ofProfile(mine.profile));
    const { name } = (await places.admin.get(`${CERTIFICATES}/${foreign.certificate}`)).body;
    const taken = await actor.post(CERTIFICATES, places.body(mine, { name }));
    expect(told(taken)).toMatchObject({ status: 409, error: "already_exists" });

    const key = { "Idempotency-Key": `theirs-${places.next()}` };
    const sent = places.body(other);
    expect((await places.admin.post(CERTIFICATES, sent, key)).status).toBe(201);
    const replayed = await actor.post(CERTIFICATES, sent, key);
    expect(told(replayed)).toMatchObject({ status: 403, error: "out_of_scope" });
    expect(replayed.headers.get("Idempotency-Replayed")).toBeNull();
  });
});

describe("moving a certificate", () => {
  const move = async (actor: Client, id: string, to: Record<string, unknown>) => actor.put(`${CERTIFICATES}/${id}`, to);

  it("needs the right where it is and where it goes", async () => {
    const inMine = await adminOf(ofProfile(mine.profile));
    const inBoth = await actorWith([
      { role_id: "r-operator", ...ofProfile(mine.profile) },
      { role_id: "r-operator", ...ofProfile(other.profile) },
    ]);
    const id = await places.record(mine);
    const away = { certificate_profile_id: other.profile };
    const refused = await move(inMine, id, away);
    expect(told(refused)).toMatchObject({ status: 403, error: "out_of_scope" });
    expect(told(await move(inMine, id, { certificate_profile_id: "prof-none" }))).toEqual(told(refused));
    expect(told(await move(inMine, id, { certificate_profile_id: null }))).toEqual(told(refused));
    expect(told(await move(inBoth, id, { certificate_profile_id: null }))).toEqual(told(refused));
    expect((await places.admin.get(`${CERTIFICATES}/${id}`)).body).toMatchObject({
      certificate_profile_id: mine.profile,
    });

    const theirs = await places.record(other);
    expect(told(await move(inMine, theirs, { certificate_profile_id: mine.profile }))).toEqual(told(refused));
    expect((await move(inBoth, id, away)).body).toMatchObject(away);
    expect((await inMine.get(`${CERTIFICATES}/${id}`)).status).toBe(403);
    expect((await move(places.admin, id, { certificate_profile_id: null })).status).toBe(200);
    expect((await move(inBoth, id, away)).status).toBe(403);
  });

  it("between issuers likewise; the profile's holder keeps it at any issuer", async () => {
    const byIssuer = await adminOf(ofIssuer(mine.issuer));
    const id = await places.record(mine);
    expect((await move(byIssuer, id, { issuer_id: other.issuer })).status).toBe(403);
    expect((await move(byIssuer, id, { issuer_id: "iss-none" })).status).toBe(403);
    const byProfile = await adminOf(ofProfile(mine.profile));
    expect((await move(byProfile, id, { issuer_id: other.issuer })).status).toBe(200);
    expect((await byIssuer.get(`${CERTIFICATES}/${id}`)).status).toBe(403);
    expect((await byProfile.get(`${CERTIFICATES}/${id}`)).status).toBe(200);
  });

  it("does not have an open job signed where the mover may not issue", async () => {
    const id = await places.record(mine);
    const editor = await actorWith([
      { role_id: "r-operator", ...ofProfile(mine.profile) },
      { role_id: await roleWith(["cert.edit", "cert.read"]), ...ofProfile(other.profile) },
    ]);
    const { job_id } = (await editor.post(`${CERTIFICATES}/${id}/renew`)).body;
    const away = { certificate_profile_id: other.profile };
    expect(told(await move(editor, id, away))).toMatchObject({ status: 409, error: "renewal_in_progress" });
    const csr = { csr_pem: await makeCsr(), job_id };
    expect((await fleet.agent.post(`/api/v1/agents/${fleet.agentId}/csr`, csr)).status).toBe(202);
    expect((await move(editor, id, away)).status).toBe(200);
    expect((await editor.post(`${CERTIFICATES}/${id}/renew`)).status).toBe(403);
  });

  it("is judged by the record that is written, however many race", async () => {
    const id = await places.record(mine);
    const inMine = await adminOf(ofProfile(mine.profile));
    const answers = await Promise.all([
      move(places.admin, id, { certificate_profile_id: other.profile }),
      ...Array.from({ length: 6 }, (_, i) => move(inMine, id, { environment: `race ${i}` })),
    ]);
    expect(answers[0]?.status).toBe(200);
    const rows = await env.DB.prepare(
      "select actor, json_extract(details, '$.fields') as fields from audit_events where resource_id = ? order by seq",
    )
      .bind(id)
      .all<{ actor: string; fields: string }>();
    const moved = rows.results.findIndex((row) => /certificate_profile_id/.test(String(row.fields)));
    expect(rows.results.slice(moved + 1)).toEqual([]);
    for (const { status } of answers.slice(1)) expect([200, 403, 409]).toContain(status);
  });
});

describe("the rules themselves", () => {
  it("judge the record that they write: it may have moved since the door looked", async () => {
    const id = await places.record(other);
    const permissions = ["cert.edit", "cert.issue", "cert.delete"].map((permission) => ({
      permission,
      scope_type: "profile" as const,
      scope_id: mine.profile,
    }));
    const actor = { id: "late", type: "APIKey" as const, tenant_id: "t-default", roles: [], permissions };
    const ctx = { ...contextAhead(), actor };
    const refused = expect.objectContaining({ status: 403, code: "out_of_scope" });
    await expect(updateCertificate(ctx, id, { environment: "late" }, null)).rejects.toEqual(refused);
    await expect(updateCertificate(ctx, id, { certificate_profile_id: mine.profile }, null)).rejects.toEqual(refused);
    await expect(triggerRenewal(ctx, id, true)).rejects.toEqual(refused);
    await expect(archiveCertificate(ctx, id, null)).rejects.toEqual(refused);
    expect((await places.admin.get(`${CERTIFICATES}/${id}`)).body).toMatchObject({
      environment: "",
      status: "Pending",
      certificate_profile_id: other.profile,
    });
  });
});

describe("a certificate that lists no profile, or a policy that does", () => {
  it("without a profile is out of every profile's scope, and within its issuer's", async () => {
    const id = await places.record({ issuer: mine.issuer });
    expect((await (await adminOf(ofProfile(mine.profile))).get(`${CERTIFICATES}/${id}`)).status).toBe(403);
    expect((await (await adminOf(ofProfile(""))).get(`${CERTIFICATES}/${id}`)).status).toBe(403);
    expect((await (await adminOf(ofIssuer(mine.issuer))).get(`${CERTIFICATES}/${id}`)).status).toBe(200);
  });

  it("gets nothing from its renewal policy's profile", async () => {
    const wide = await places.profile("wide", { allowed_ekus: ["codeSigning"] });
    const policy = await places.admin.create("/api/v1/renewal-policies", {
      name: `wide ${places.next()}`,
      certificate_profile_id: wide,
    });
    const actor = await adminOf(ofProfile(mine.profile));
    const made = await actor.create(CERTIFICATES, places.body(mine, { renewal_policy_id: policy.id }));
    expect(made).toMatchObject({ certificate_profile_id: mine.profile });
    const { job_id } = (await actor.post(`${CERTIFICATES}/${made.id}/renew`)).body;
    const csr = { csr_pem: await makeCsr(), job_id };
    expect((await fleet.agent.post(`/api/v1/agents/${fleet.agentId}/csr`, csr)).status).toBe(202);
    const { cert_pem } = (await places.admin.get(`${CERTIFICATES}/${made.id}/export/pem`)).body;
    const [leaf] = certificatesFromPem(String(cert_pem)).map(parseCertificate);
    expect(leaf?.extendedKeyUsage).toEqual(["serverAuth"]);
    expect((await (await adminOf(ofProfile(wide))).get(`${CERTIFICATES}/${made.id}`)).status).toBe(403);
  });
});

describe("lifting a hold", () => {
  const hold = async (place: Partial<Place>) => {
    const id = await places.issued(place);
    const held = await places.admin.post(`${CERTIFICATES}/${id}/revoke`, { reason: "certificateHold" });
    expect(held.status).toBe(200);
    return id;
  };
  const release = (actor: Client, id: string) => actor.post(`${CERTIFICATES}/${id}/release-hold`);

  it("needs cert.revoke there and issuer.edit on the issuer", async () => {
    const id = await hold(mine);
    const byProfile = await adminOf(ofProfile(mine.profile));
    expect(told(await release(byProfile, id))).toMatchObject({ status: 403, error: "out_of_scope" });
    expect(told(await release(byProfile, "none"))).toMatchObject({ status: 403, error: "out_of_scope" });
    expect((await release(places.admin, "none")).status).toBe(404);
    const revoker = await roleWith(["cert.revoke"]);
    const onlyRevokes = await actorWith([{ role_id: revoker, ...ofIssuer(mine.issuer) }]);
    expect(told(await release(onlyRevokes, id))).toMatchObject({ status: 403, error: "forbidden" });
    const elsewhere = await actorWith([
      { role_id: revoker, ...ofIssuer(mine.issuer) },
      { role_id: "r-operator", ...ofIssuer(other.issuer) },
    ]);
    expect((await release(elsewhere, id)).status).toBe(403);
    expect((await release(await adminOf(ofIssuer(mine.issuer)), foreign.certificate)).status).toBe(403);
    expect((await release(await adminOf(ofIssuer(mine.issuer)), id)).status).toBe(200);
  });

  it("is not had by moving the certificate to an issuer of one's own", async () => {
    const id = await hold(mine);
    const actor = await actorWith([
      { role_id: "r-operator", ...ofProfile(mine.profile) },
      { role_id: "r-admin", ...ofIssuer(other.issuer) },
    ]);
    expect((await actor.put(`${CERTIFICATES}/${id}`, { issuer_id: other.issuer })).status).toBe(200);
    expect((await release(actor, id)).status).toBe(403);
    expect((await places.admin.get(`${CERTIFICATES}/${id}`)).body).toMatchObject({
      revocation_reason: "certificateHold",
    });
    expect((await release(places.admin, id)).status).toBe(200);
  });
});

describe("what a grant amounts to", () => {
  const reads = async (actor: Client) =>
    Promise.all([
      actor.get(`${CERTIFICATES}/${await places.record(mine)}`),
      actor.get(`${CERTIFICATES}/${foreign.certificate}`),
    ]).then((answers) => answers.map(({ status }) => status));

  it("is the narrower of the role's scope and the grant's; of two scopes what they share", async () => {
    const scoped = await roleWith([{ permission: "cert.read", ...ofProfile(mine.profile) }]);
    const whole = await roleWith(["cert.read"]);
    expect(await reads(await actorWith([{ role_id: scoped }]))).toEqual([200, 403]);
    expect(await reads(await actorWith([{ role_id: whole, ...ofProfile(mine.profile) }]))).toEqual([200, 403]);
    expect(await reads(await actorWith([{ role_id: scoped, ...ofProfile(mine.profile) }]))).toEqual([200, 403]);
    expect(await reads(await actorWith([{ role_id: scoped, ...ofProfile(other.profile) }]))).toEqual([403, 403]);
    expect(await reads(await actorWith([{ role_id: scoped, ...ofIssuer(mine.issuer) }]))).toEqual([403, 403]);
    expect(await reads(await actorWith([{ role_id: whole }]))).toEqual([200, 200]);
  });

  it("is each permission in its own scope", async () => {
    const actor = await actorWith([
      { role_id: "r-viewer", ...ofProfile(other.profile) },
      { role_id: "r-operator", ...ofProfile(mine.profile) },
    ]);
    expect(await reads(actor)).toEqual([200, 200]);
    expect((await actor.post(`${CERTIFICATES}/${foreign.certificate}/revoke`)).status).toBe(403);
    expect((await actor.post(`${CERTIFICATES}/${foreign.certificate}/renew`)).status).toBe(403);
    expect((await actor.post(`${CERTIFICATES}/${foreign.certificate}/export/pkcs12`, {})).status).toBe(200);
    const writer = await actorWith([{ role_id: "r-viewer" }, { role_id: "r-operator", ...ofProfile(mine.profile) }]);
    expect((await writer.get(`${CERTIFICATES}/none`)).status).toBe(404);
    expect((await writer.put(`${CERTIFICATES}/none`, {})).status).toBe(403);
    expect((await writer.put(`${CERTIFICATES}/${foreign.certificate}`, {})).status).toBe(403);
  });

  it.each(["profile", "issuer"] as const)("ends with the %s: another one of its id is nobody's", async (type) => {
    const id = `short-${type}-${places.next()}`;
    const path = `/api/v1/${type}s`;
    const sent = type === "profile" ? { id, name: id } : { id, name: id, type: "GenericCA" };
    const role = await roleWith([{ permission: `${type}.read`, scope_type: type, scope_id: id }]);
    await places.admin.create(path, sent);
    const { client, actorId } = await newActor([{ role_id: "r-viewer", scope_type: type, scope_id: id }]);
    const byRole = await actorWith([{ role_id: role }]);
    expect((await places.admin.delete(`${path}/${id}`)).status).toBe(204);
    expect(await auditCount("auth.scope.end", id)).toBe(1);
    const shown = { permission: `${type}.read`, scope_type: type, scope_id: id };
    expect(
      (await byRole.get<{ effective_permissions: unknown[] }>("/api/v1/auth/me")).body.effective_permissions,
    ).toEqual(expect.not.arrayContaining([expect.objectContaining(shown)]));
    await places.admin.create(path, sent);
    expect((await client.get(`${path}/${id}`)).status).toBe(403);
    expect((await byRole.get(`${path}/${id}`)).status).toBe(403);
    const left = await env.DB.prepare("select count(*) as n from actor_roles where actor_id = ?").bind(actorId).first();
    expect(left).toEqual({ n: 0 });
  });

  it.each(["profile", "issuer"] as const)(
    "of a role or a group mapping does not end with the %s unseen",
    async (type) => {
      const id = `unseen-${type}-${places.next()}`;
      await places.admin.create(
        `/api/v1/${type}s`,
        type === "profile" ? { id, name: id } : { id, name: id, type: "GenericCA" },
      );
      const role = await roleWith([{ permission: `${type}.read`, scope_type: type, scope_id: id }]);
      const { provider_id } = await newUser();
      await env.DB.prepare(
        `insert into oidc_group_mappings (id, tenant_id, provider_id, group_name, role_id, scope_type, scope_id, created_by, created_at)
       values (?, 't-default', ?, 'ops', 'r-viewer', ?, ?, 'root-admin', '2026-01-01T00:00:00.000Z')`,
      )
        .bind(`grm-${id}`, provider_id, type, id)
        .run();
      expect((await places.admin.delete(`/api/v1/${type}s/${id}`)).status).toBe(204);
      const event = await env.DB.prepare("select details from audit_events where action = ? and resource_id = ?")
        .bind("auth.scope.end", id)
        .first<{ details: string }>();
      expect(JSON.parse(event?.details ?? "{}")).toEqual({
        scope_type: type,
        scope_id: id,
        count: 0,
        grants: [],
        permission_count: 1,
        permissions: [{ role_id: role, permission: `${type}.read` }],
        mapping_count: 1,
        mappings: [{ id: `grm-${id}`, provider_id, group_name: "ops", role_id: "r-viewer" }],
      });
    },
  );

  it("ends with the grant, also for answers that were given before", async () => {
    const { client, actorId } = await newActor([{ role_id: "r-operator", ...ofProfile(mine.profile) }]);
    const key = { "Idempotency-Key": `mine-${places.next()}` };
    const sent = places.body(mine);
    const made = await client.post(CERTIFICATES, sent, key);
    expect((await client.post(CERTIFICATES, sent, key)).body).toEqual(made.body);
    await ungrant(actorId);
    expect((await client.get(`${CERTIFICATES}/${made.body.id}`)).status).toBe(403);
    expect((await client.post(CERTIFICATES, sent, key)).status).toBe(403);
  });
});
