import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { authorityRoutes } from "../../src/authority/api.ts";
import { fleetRoutes } from "../../src/fleet/api.ts";
import { inventoryRoutes } from "../../src/inventory/api.ts";
import { lifecycleRoutes } from "../../src/lifecycle/api.ts";
import { actorWith, type InScope, newActor, ofIssuer, ofProfile, roleWith, ungrant } from "../support/actors.ts";
import type { Client } from "../support/api.ts";
import { makeCsr } from "../support/csr.ts";
import { type Fleet, makeFleet } from "../support/fleet.ts";

/** Two profiles, two issuers: `mine` is what a scoped actor is for, `other` is what it must not reach. */
interface Place {
  readonly profile: string;
  readonly issuer: string;
}

const certificates = "/api/v1/certificates";
let fleet: Fleet;
let mine: Place;
let other: Place;
/** One of each kind at the other place. */
let foreign: Readonly<Record<Kind, string>>;
let n = 0;

const admin = () => fleet.admin;

beforeAll(async () => {
  fleet = await makeFleet();
  mine = { profile: await newProfile("mine"), issuer: fleet.issuerId };
  other = { profile: await newProfile("other"), issuer: await newIssuer("other") };
  const certificate = await issued(other);
  const job = await jobOf(certificate);
  foreign = { certificate, job, profile: other.profile, issuer: other.issuer, ca: await newCa(other.issuer) };
});

async function newProfile(name: string): Promise<string> {
  return String((await admin().create("/api/v1/profiles", { name: `${name} ${++n}` })).id);
}

async function newIssuer(name: string): Promise<string> {
  const config = { ca_common_name: `${name} ${++n}` };
  return String((await admin().create("/api/v1/issuers", { name: `${name} ${n}`, type: "GenericCA", config })).id);
}

async function newCa(issuer: string): Promise<string> {
  return String((await admin().create(`/api/v1/issuers/${issuer}/intermediates`, { name: `below ${++n}` })).id);
}

const body = (place: Partial<Place>, more: Record<string, unknown> = {}) => ({
  ...fleet.record,
  name: `scoped ${++n}`,
  common_name: `s${n}.example.com`,
  issuer_id: place.issuer ?? mine.issuer,
  certificate_profile_id: place.profile ?? null,
  target_ids: [fleet.targetId],
  ...more,
});

async function record(place: Partial<Place>): Promise<string> {
  return String((await admin().create(certificates, body(place))).id);
}

/** A certificate with one version. */
async function issued(place: Partial<Place>): Promise<string> {
  const id = await record(place);
  const { job_id } = (await admin().post(`${certificates}/${id}/renew`)).body;
  const signed = await fleet.agent.post(`/api/v1/agents/${fleet.agentId}/csr`, { csr_pem: await makeCsr(), job_id });
  expect(signed.status, JSON.stringify(signed.body)).toBe(202);
  return id;
}

async function jobOf(certificate: string): Promise<string> {
  const list = await admin().get<{ data: { id: string }[] }>(`/api/v1/jobs?certificate_id=${certificate}`);
  return String(list.body.data[0]?.id);
}

/** The administrator's role in a scope: every permission there is, there alone. */
const adminOf = (scope: InScope) => actorWith([{ role_id: "r-admin", ...scope }]);

type Kind = "certificate" | "job" | "profile" | "issuer" | "ca";

/** A fresh object of a kind with the actors who reach it by their scope. */
const FRESH: Record<Kind, () => Promise<{ id: string; scopes: InScope[] }>> = {
  certificate: async () => ({ id: await issued(mine), scopes: [ofProfile(mine.profile), ofIssuer(mine.issuer)] }),
  job: async () => ({ id: await jobOf(await issued(mine)), scopes: [ofProfile(mine.profile), ofIssuer(mine.issuer)] }),
  profile: async () => {
    const id = await newProfile("fresh");
    return { id, scopes: [ofProfile(id)] };
  },
  issuer: async () => {
    const id = await newIssuer("fresh");
    return { id, scopes: [ofIssuer(id)] };
  },
  ca: async () => {
    const issuer = await newIssuer("fresh");
    return { id: await newCa(issuer), scopes: [ofIssuer(issuer)] };
  },
};

/** Routes of one object: operation, method, path, body, kind, status in scope. */
const SINGLE: readonly (readonly [string, string, string, unknown, Kind, number])[] = [
  ["getCertificate", "GET", `${certificates}/{id}`, undefined, "certificate", 200],
  ["updateCertificate", "PUT", `${certificates}/{id}`, { environment: "e" }, "certificate", 200],
  ["listCertificateVersions", "GET", `${certificates}/{id}/versions`, undefined, "certificate", 200],
  ["exportCertificatePEM", "GET", `${certificates}/{id}/export/pem`, undefined, "certificate", 200],
  ["exportCertificatePKCS12", "POST", `${certificates}/{id}/export/pkcs12`, {}, "certificate", 200],
  ["archiveCertificate", "DELETE", `${certificates}/{id}`, undefined, "certificate", 204],
  ["triggerRenewal", "POST", `${certificates}/{id}/renew`, { force: true }, "certificate", 202],
  ["revokeCertificate", "POST", `${certificates}/{id}/revoke`, { reason: "superseded" }, "certificate", 200],
  ["getJob", "GET", "/api/v1/jobs/{id}", undefined, "job", 200],
  ["getProfile", "GET", "/api/v1/profiles/{id}", undefined, "profile", 200],
  ["updateProfile", "PUT", "/api/v1/profiles/{id}", { description: "d" }, "profile", 200],
  ["deleteProfile", "DELETE", "/api/v1/profiles/{id}", undefined, "profile", 204],
  ["getIssuer", "GET", "/api/v1/issuers/{id}", undefined, "issuer", 200],
  ["updateIssuer", "PUT", "/api/v1/issuers/{id}", { enabled: false }, "issuer", 200],
  ["deleteIssuer", "DELETE", "/api/v1/issuers/{id}", undefined, "issuer", 204],
  ["testIssuerConnection", "POST", "/api/v1/issuers/{id}/test", undefined, "issuer", 200],
  ["createIntermediateCA", "POST", "/api/v1/issuers/{id}/intermediates", { name: "below" }, "issuer", 201],
  ["listIntermediateCAs", "GET", "/api/v1/issuers/{id}/intermediates", undefined, "issuer", 200],
  ["getIntermediateCA", "GET", "/api/v1/intermediates/{id}", undefined, "ca", 200],
  ["retireIntermediateCA", "POST", "/api/v1/intermediates/{id}/retire", {}, "ca", 200],
];

/** Routes of what has no profile and no issuer: operation, method, path. */
const GLOBAL: readonly (readonly [string, string, string])[] = [
  ...(
    [
      ["Team", "Teams", "teams"],
      ["Owner", "Owners", "owners"],
      ["RenewalPolicy", "RenewalPolicies", "renewal-policies"],
      ["Target", "Targets", "targets"],
    ] as const
  ).flatMap(([one, many, path]) => [
    [`list${many}`, "GET", `/api/v1/${path}`] as const,
    [`create${one}`, "POST", `/api/v1/${path}`] as const,
    [`get${one}`, "GET", `/api/v1/${path}/{id}`] as const,
    [`update${one}`, "PUT", `/api/v1/${path}/{id}`] as const,
    [`delete${one}`, "DELETE", `/api/v1/${path}/{id}`] as const,
  ]),
  ["testTargetConnection", "POST", "/api/v1/targets/{id}/test"],
  ["createProfile", "POST", "/api/v1/profiles"],
  ["createIssuer", "POST", "/api/v1/issuers"],
];

/** Routes that have a test of their own below. */
const ELSEWHERE = [
  "listCertificates",
  "createCertificate",
  "releaseCertificateHold",
  "listJobs",
  "listProfiles",
  "listIssuers",
  "listCRLCache",
];

const inWings = [...inventoryRoutes, ...authorityRoutes, ...lifecycleRoutes, ...fleetRoutes];

/** Agents have neither profile nor issuer: whatever route they come to have, none knows scopes. */
const ofAgents = (path: string) => /^\/api\/v1\/agent/.test(path);

it("has a row for every route of the four wings, and a rule in the route for every row", () => {
  const rows = [...SINGLE, ...GLOBAL].map(([operation]) => operation).concat(ELSEWHERE);
  const wings = inWings.filter(({ path }) => !ofAgents(path)).map((route) => route.operationId);
  expect([...rows].sort()).toEqual([...wings].sort());
  const ruled = inWings.filter((route) => route.scope !== null).map((route) => route.operationId);
  expect(ruled.sort()).toEqual([...SINGLE.map(([operation]) => operation), ...ELSEWHERE].sort());
});

const at = (path: string, id: string) => path.replace("{id}", id);
const told = ({ status, body }: { status: number; body: Record<string, unknown> }) => ({
  status,
  error: body.error,
  message: body.message,
});

describe("a route of one object", () => {
  it.each(SINGLE)("%s: in scope, out of scope, absent", async (_operation, method, path, sent, kind, status) => {
    const absent = await admin().send(method, at(path, "none"), sent);
    expect(absent.status, JSON.stringify(absent.body)).toBe(404);
    const { scopes } = await FRESH[kind]();
    for (const [i] of scopes.entries()) {
      const fresh = await FRESH[kind]();
      const scope = fresh.scopes[i] as InScope;
      const actor = await adminOf(scope);
      const away = await actor.send(method, at(path, foreign[kind]), sent);
      expect(told(away)).toMatchObject({ status: 403, error: "out_of_scope" });
      expect(told(await actor.send(method, at(path, "none"), sent))).toEqual(told(away));
      // Neither the state of the thing nor a body that is wrong makes a difference.
      expect(told(await actor.send(method, at(path, foreign[kind]), sent, { "If-Match": '"x"' }))).toEqual(told(away));
      if (method !== "GET")
        expect(told(await actor.send(method, at(path, foreign[kind]), { x: 1 }))).toEqual(told(away));
      const there = await actor.send(method, at(path, fresh.id), sent);
      expect(there.status, JSON.stringify(there.body)).toBe(status);
    }
    expect((await admin().send("GET", at(GET_OF[kind], foreign[kind]))).status).toBe(200);
  });

  it.each(GLOBAL)("%s: only by a right that holds everywhere", async (_operation, method, path) => {
    const present = { targets: fleet.targetId, teams: fleet.record.team_id, owners: fleet.record.owner_id };
    const kind = (path.split("/")[3] ?? "") as keyof typeof present;
    const id = present[kind] ?? String(fleet.record.renewal_policy_id);
    for (const scope of [ofProfile(mine.profile), ofIssuer(mine.issuer)]) {
      const actor = await adminOf(scope);
      const sent = method === "POST" || method === "PUT" ? {} : undefined;
      const answer = await actor.send(method, at(path, id), sent);
      expect(told(answer)).toMatchObject({ status: 403, error: "out_of_scope" });
      expect(told(await actor.send(method, at(path, "none"), sent))).toEqual(told(answer));
    }
  });

  it("of agents and their work is no way round: neither work, CSR nor pick-up knows scopes", async () => {
    const certificate = await record(mine);
    const { job_id } = (await admin().post(`${certificates}/${certificate}/renew`)).body;
    const agent = `/api/v1/agents/${fleet.agentId}`;
    for (const scope of [ofProfile(mine.profile), ofIssuer(mine.issuer)]) {
      const actor = await adminOf(scope);
      const csr = { csr_pem: await makeCsr(), job_id };
      for (const answer of [
        await actor.get("/api/v1/agents"),
        await actor.post("/api/v1/agents", { name: "x", hostname: "x" }),
        await actor.get(agent),
        await actor.get("/api/v1/agents/none"),
        await actor.post(`${agent}/heartbeat`, {}),
        await actor.get(`${agent}/work`),
        await actor.post(`${agent}/csr`, csr),
        await actor.get(`${agent}/certificates/${certificate}`),
      ])
        expect(told(answer)).toMatchObject({ status: 403, error: "out_of_scope" });
    }
    expect((await admin().get(`/api/v1/jobs/${job_id}`)).body).toMatchObject({ status: "AwaitingCSR" });
  });

  it("does not mistake a profile's id for an issuer's, nor the body's id for the path's", async () => {
    const id = `twin-${++n}`;
    await admin().create("/api/v1/profiles", { id, name: id });
    await admin().create("/api/v1/issuers", { id, name: id, type: "GenericCA", config: {} });
    const ofTheProfile = await adminOf(ofProfile(id));
    expect((await ofTheProfile.get(`/api/v1/profiles/${id}`)).status).toBe(200);
    expect((await ofTheProfile.get(`/api/v1/issuers/${id}`)).status).toBe(403);
    const ofTheIssuer = await adminOf(ofIssuer(id));
    expect((await ofTheIssuer.get(`/api/v1/profiles/${id}`)).status).toBe(403);
    expect((await ofTheIssuer.get(`/api/v1/issuers/${id}`)).status).toBe(200);

    const actor = await adminOf(ofProfile(mine.profile));
    const certificate = await record(mine);
    const before = (await admin().get(`${certificates}/${foreign.certificate}`)).body;
    const sent = { id: foreign.certificate, environment: "confused" };
    expect((await actor.put(`${certificates}/${certificate}`, sent)).body).toMatchObject({ id: certificate });
    expect((await actor.put(`${certificates}/${foreign.certificate}`, { ...sent, id: certificate })).status).toBe(403);
    expect((await admin().get(`${certificates}/${foreign.certificate}`)).body).toEqual(before);
  });
});

const GET_OF: Record<Kind, string> = {
  certificate: `${certificates}/{id}`,
  job: "/api/v1/jobs/{id}",
  profile: "/api/v1/profiles/{id}",
  issuer: "/api/v1/issuers/{id}",
  ca: "/api/v1/intermediates/{id}",
};

interface List {
  readonly data: readonly { readonly id: string }[];
  readonly total: number;
}

const list = async (actor: Client, path: string) => {
  const answer = await actor.get<List>(path);
  expect(answer.status, `${path}: ${JSON.stringify(answer.body)}`).toBe(200);
  return { ids: answer.body.data.map((row) => row.id), total: answer.body.total };
};

describe("a list", () => {
  it("of certificates, its total, filters, orders and pages know what the actor may see and nothing else", async () => {
    const place: Place = { profile: await newProfile("listed"), issuer: await newIssuer("listed") };
    const a = await record({ ...place, issuer: other.issuer });
    const b = await record({ ...place, profile: other.profile });
    const both = await record(place);
    const bare = String((await admin().create(certificates, { ...body(place), certificate_profile_id: null })).id);
    await record(other);

    const byProfile = await adminOf(ofProfile(place.profile));
    const byIssuer = await adminOf(ofIssuer(place.issuer));
    const byBoth = await actorWith([
      { role_id: "r-viewer", ...ofProfile(place.profile) },
      { role_id: "r-viewer", ...ofIssuer(place.issuer) },
    ]);
    expect(await list(byProfile, certificates)).toEqual({ ids: [a, both], total: 2 });
    expect(await list(byIssuer, certificates)).toEqual({ ids: [b, both, bare], total: 3 });
    expect(await list(byBoth, certificates)).toEqual({ ids: [a, b, both, bare], total: 4 });

    expect(await list(byProfile, `${certificates}?issuer_id=${other.issuer}`)).toEqual({ ids: [a], total: 1 });
    expect(await list(byProfile, `${certificates}?profile_id=${other.profile}`)).toEqual({ ids: [], total: 0 });
    expect(await list(byIssuer, `${certificates}?issuer_id=${other.issuer}`)).toEqual({ ids: [], total: 0 });
    expect(await list(byIssuer, `${certificates}?owner_id=${fleet.record.owner_id}&agent_id=${fleet.agentId}`)).toEqual(
      {
        ids: [b, both, bare],
        total: 3,
      },
    );
    for (const sort of ["name", "commonName", "createdAt", "status"]) {
      const up = (await list(byBoth, `${certificates}?sort=${sort}`)).ids;
      const down = (await list(byBoth, `${certificates}?sort=-${sort}`)).ids;
      expect([...up].sort(), sort).toEqual([a, b, both, bare].sort());
      expect(down, sort).toEqual([...up].reverse());
    }
    const pages = await Promise.all([1, 2, 3].map((page) => list(byIssuer, `${certificates}?per_page=1&page=${page}`)));
    expect(pages).toEqual([b, both, bare].map((id) => ({ ids: [id], total: 3 })));
    expect(await list(byIssuer, `${certificates}?per_page=2&page=3`)).toEqual({ ids: [], total: 3 });
  });

  it("of many scopes shows each row once", async () => {
    const places = await Promise.all([1, 2, 3].map(async () => ({ profile: await newProfile("many") })));
    const ids = [];
    for (const place of places) ids.push(await record(place));
    const actor = await actorWith([
      ...places.map((place) => ({ role_id: "r-viewer", ...ofProfile(place.profile) })),
      { role_id: "r-operator", ...ofProfile(places[0]?.profile ?? "") },
    ]);
    expect(await list(actor, certificates)).toEqual({ ids, total: 3 });
  });

  it("of jobs goes by their certificates", async () => {
    const place = { profile: await newProfile("jobs"), issuer: await newIssuer("jobs") };
    const certificate = await issued(place);
    const job = await jobOf(certificate);
    for (const scope of [ofProfile(place.profile), ofIssuer(place.issuer)]) {
      const actor = await adminOf(scope);
      expect(await list(actor, "/api/v1/jobs")).toEqual({ ids: [job], total: 1 });
      expect(await list(actor, `/api/v1/jobs?certificate_id=${certificate}`)).toEqual({ ids: [job], total: 1 });
      expect(await list(actor, `/api/v1/jobs?certificate_id=${foreign.certificate}`)).toEqual({ ids: [], total: 0 });
      expect(await list(actor, "/api/v1/jobs?certificate_id=none")).toEqual({ ids: [], total: 0 });
    }
  });

  it("of profiles and of issuers shows those of the scope; the other kind's scope shows none", async () => {
    const byProfile = await adminOf(ofProfile(mine.profile));
    const byIssuer = await adminOf(ofIssuer(mine.issuer));
    expect(await list(byProfile, "/api/v1/profiles")).toEqual({ ids: [mine.profile], total: 1 });
    expect(await list(byProfile, "/api/v1/issuers")).toEqual({ ids: [], total: 0 });
    expect(await list(byIssuer, "/api/v1/issuers")).toEqual({ ids: [mine.issuer], total: 1 });
    expect(await list(byIssuer, "/api/v1/profiles")).toEqual({ ids: [], total: 0 });
  });

  it("of revocation lists shows those of the scope's issuer", async () => {
    interface Cache {
      readonly cache_rows: readonly { readonly issuer_id: string }[];
      readonly row_count: number;
    }
    const cache = async (scope: InScope) => {
      const { status, body } = await (await adminOf(scope)).get<Cache>("/api/v1/admin/crl/cache");
      expect(status).toBe(200);
      expect(body.row_count).toBe(body.cache_rows.length);
      return new Set(body.cache_rows.map((row) => row.issuer_id));
    };
    expect(await cache(ofIssuer(mine.issuer))).toEqual(new Set([mine.issuer]));
    expect(await cache(ofProfile(mine.profile))).toEqual(new Set());
  });

  it("is refused to who holds the right nowhere", async () => {
    const actor = await actorWith([{ role_id: "r-auditor", ...ofProfile(mine.profile) }]);
    for (const path of [certificates, "/api/v1/jobs", "/api/v1/profiles", "/api/v1/issuers", "/api/v1/admin/crl/cache"])
      expect(told(await actor.get(path))).toMatchObject({ status: 403, error: "forbidden" });
  });
});

describe("creating a certificate", () => {
  it("needs the right for the body's profile or issuer, before anything is looked up", async () => {
    const byProfile = await adminOf(ofProfile(mine.profile));
    const byIssuer = await adminOf(ofIssuer(mine.issuer));
    expect((await byProfile.post(certificates, body(mine))).status).toBe(201);
    expect((await byIssuer.post(certificates, body(mine))).status).toBe(201);
    expect((await byIssuer.post(certificates, body({ issuer: mine.issuer }))).status).toBe(201);

    const refused = await byProfile.post(certificates, body(other));
    expect(told(refused)).toMatchObject({ status: 403, error: "out_of_scope" });
    const tries = [
      body({ issuer: other.issuer }),
      body({ ...other, profile: "prof-none" }),
      body(other, { owner_id: "o-none" }),
      body(other, { target_ids: ["tgt-none"] }),
      body(other, { id: foreign.certificate }),
      body({ profile: other.profile }),
    ];
    for (const sent of tries) expect(told(await byProfile.post(certificates, sent))).toEqual(told(refused));
    for (const sent of [
      body(other),
      body({ issuer: "iss-none" }),
      body({ issuer: other.issuer, profile: mine.profile }),
    ])
      expect(told(await byIssuer.post(certificates, sent))).toEqual(told(refused));
    expect((await byProfile.post(certificates, body(mine, { target_ids: ["tgt-none"] }))).status).toBe(400);
  });

  it("tells that a name is taken, and repeats an answer only to who asked", async () => {
    const actor = await adminOf(ofProfile(mine.profile));
    const { name } = (await admin().get(`${certificates}/${foreign.certificate}`)).body;
    const taken = await actor.post(certificates, body(mine, { name }));
    expect(told(taken)).toMatchObject({ status: 409, error: "already_exists" });

    const key = { "Idempotency-Key": `theirs-${++n}` };
    const sent = body(other);
    expect((await admin().post(certificates, sent, key)).status).toBe(201);
    const replayed = await actor.post(certificates, sent, key);
    expect(told(replayed)).toMatchObject({ status: 403, error: "out_of_scope" });
    expect(replayed.headers.get("Idempotency-Replayed")).toBeNull();
  });
});

describe("moving a certificate", () => {
  const move = async (actor: Client, id: string, to: Record<string, unknown>) => actor.put(`${certificates}/${id}`, to);

  it("needs the right where it is and where it goes", async () => {
    const inMine = await adminOf(ofProfile(mine.profile));
    const inBoth = await actorWith([
      { role_id: "r-operator", ...ofProfile(mine.profile) },
      { role_id: "r-operator", ...ofProfile(other.profile) },
    ]);
    const id = await record(mine);
    const away = { certificate_profile_id: other.profile };
    const refused = await move(inMine, id, away);
    expect(told(refused)).toMatchObject({ status: 403, error: "out_of_scope" });
    expect(told(await move(inMine, id, { certificate_profile_id: "prof-none" }))).toEqual(told(refused));
    expect(told(await move(inMine, id, { certificate_profile_id: null }))).toEqual(told(refused));
    expect(told(await move(inBoth, id, { certificate_profile_id: null }))).toEqual(told(refused));
    expect((await admin().get(`${certificates}/${id}`)).body).toMatchObject({ certificate_profile_id: mine.profile });

    const theirs = await record(other);
    expect(told(await move(inMine, theirs, { certificate_profile_id: mine.profile }))).toEqual(told(refused));
    expect((await move(inBoth, id, away)).body).toMatchObject(away);
    expect((await inMine.get(`${certificates}/${id}`)).status).toBe(403);
    expect((await move(admin(), id, { certificate_profile_id: null })).status).toBe(200);
    expect((await move(inBoth, id, away)).status).toBe(403);
  });

  it("between issuers likewise; the profile's holder keeps it at any issuer", async () => {
    const byIssuer = await adminOf(ofIssuer(mine.issuer));
    const id = await record(mine);
    expect((await move(byIssuer, id, { issuer_id: other.issuer })).status).toBe(403);
    expect((await move(byIssuer, id, { issuer_id: "iss-none" })).status).toBe(403);
    const byProfile = await adminOf(ofProfile(mine.profile));
    expect((await move(byProfile, id, { issuer_id: other.issuer })).status).toBe(200);
    expect((await byIssuer.get(`${certificates}/${id}`)).status).toBe(403);
    expect((await byProfile.get(`${certificates}/${id}`)).status).toBe(200);
  });

  it("does not have an open job signed where the mover may not issue", async () => {
    const id = await record(mine);
    const editor = await actorWith([
      { role_id: "r-operator", ...ofProfile(mine.profile) },
      { role_id: await roleWith(["cert.edit", "cert.read"]), ...ofProfile(other.profile) },
    ]);
    const { job_id } = (await editor.post(`${certificates}/${id}/renew`)).body;
    const away = { certificate_profile_id: other.profile };
    expect(told(await move(editor, id, away))).toMatchObject({ status: 409, error: "renewal_in_progress" });
    const csr = { csr_pem: await makeCsr(), job_id };
    expect((await fleet.agent.post(`/api/v1/agents/${fleet.agentId}/csr`, csr)).status).toBe(202);
    expect((await move(editor, id, away)).status).toBe(200);
    expect((await editor.post(`${certificates}/${id}/renew`)).status).toBe(403);
  });

  it("is judged by the record that is written, however many race", async () => {
    const id = await record(mine);
    const inMine = await adminOf(ofProfile(mine.profile));
    const answers = await Promise.all([
      move(admin(), id, { certificate_profile_id: other.profile }),
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

describe("a certificate that lists no profile, or a policy that does", () => {
  it("without a profile is out of every profile's scope, and within its issuer's", async () => {
    const id = await record({ issuer: mine.issuer });
    expect((await (await adminOf(ofProfile(mine.profile))).get(`${certificates}/${id}`)).status).toBe(403);
    expect((await (await adminOf(ofProfile(""))).get(`${certificates}/${id}`)).status).toBe(403);
    expect((await (await adminOf(ofIssuer(mine.issuer))).get(`${certificates}/${id}`)).status).toBe(200);
  });

  it("gets nothing from its renewal policy's profile", async () => {
    const wide = await admin().create("/api/v1/profiles", { name: `wide ${++n}`, allowed_ekus: ["codeSigning"] });
    const policy = await admin().create("/api/v1/renewal-policies", {
      name: `wide ${n}`,
      certificate_profile_id: wide.id,
    });
    const actor = await adminOf(ofProfile(mine.profile));
    const made = await actor.create(certificates, body(mine, { renewal_policy_id: policy.id }));
    expect(made).toMatchObject({ certificate_profile_id: mine.profile });
    const { job_id } = (await actor.post(`${certificates}/${made.id}/renew`)).body;
    const csr = { csr_pem: await makeCsr(), job_id };
    expect((await fleet.agent.post(`/api/v1/agents/${fleet.agentId}/csr`, csr)).status).toBe(202);
    const signed = await env.DB.prepare("select json_extract(approved, '$.ekus') as ekus from jobs where id = ?")
      .bind(job_id)
      .first<{ ekus: string }>();
    expect(signed?.ekus).toBe('["serverAuth"]');
    expect((await (await adminOf(ofProfile(String(wide.id)))).get(`${certificates}/${made.id}`)).status).toBe(403);
  });
});

describe("lifting a hold", () => {
  const hold = async (place: Partial<Place>) => {
    const id = await issued(place);
    const held = await admin().post(`${certificates}/${id}/revoke`, { reason: "certificateHold" });
    expect(held.status).toBe(200);
    return id;
  };
  const release = (actor: Client, id: string) => actor.post(`${certificates}/${id}/release-hold`);

  it("needs cert.revoke there and issuer.edit on the issuer", async () => {
    const id = await hold(mine);
    const byProfile = await adminOf(ofProfile(mine.profile));
    expect(told(await release(byProfile, id))).toMatchObject({ status: 403, error: "out_of_scope" });
    expect(told(await release(byProfile, "none"))).toMatchObject({ status: 403, error: "out_of_scope" });
    expect((await release(admin(), "none")).status).toBe(404);
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
    expect((await actor.put(`${certificates}/${id}`, { issuer_id: other.issuer })).status).toBe(200);
    expect((await release(actor, id)).status).toBe(403);
    expect((await admin().get(`${certificates}/${id}`)).body).toMatchObject({ revocation_reason: "certificateHold" });
    expect((await release(admin(), id)).status).toBe(200);
  });
});

describe("what a grant amounts to", () => {
  const reads = async (actor: Client) =>
    Promise.all([
      actor.get(`${certificates}/${await record(mine)}`),
      actor.get(`${certificates}/${foreign.certificate}`),
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
    expect((await actor.post(`${certificates}/${foreign.certificate}/revoke`)).status).toBe(403);
    expect((await actor.post(`${certificates}/${foreign.certificate}/renew`)).status).toBe(403);
    expect((await actor.post(`${certificates}/${foreign.certificate}/export/pkcs12`, {})).status).toBe(200);
    const writer = await actorWith([{ role_id: "r-viewer" }, { role_id: "r-operator", ...ofProfile(mine.profile) }]);
    expect((await writer.get(`${certificates}/none`)).status).toBe(404);
    expect((await writer.put(`${certificates}/none`, {})).status).toBe(403);
    expect((await writer.put(`${certificates}/${foreign.certificate}`, {})).status).toBe(403);
  });

  it("ends with the grant, also for answers that were given before", async () => {
    const { client, actorId } = await newActor([{ role_id: "r-operator", ...ofProfile(mine.profile) }]);
    const key = { "Idempotency-Key": `mine-${++n}` };
    const sent = body(mine);
    const made = await client.post(certificates, sent, key);
    expect((await client.post(certificates, sent, key)).body).toEqual(made.body);
    await ungrant(actorId);
    expect((await client.get(`${certificates}/${made.body.id}`)).status).toBe(403);
    expect((await client.post(certificates, sent, key)).status).toBe(403);
  });
});
