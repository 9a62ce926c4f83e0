import { beforeAll, describe, expect, it } from "vitest";
import { authorityRoutes } from "../../src/authority/api.ts";
import { fleetRoutes } from "../../src/fleet/api.ts";
import { inventoryRoutes } from "../../src/inventory/api.ts";
import { lifecycleRoutes } from "../../src/lifecycle/api.ts";
import { type InScope, ofIssuer, ofProfile } from "../support/actors.ts";
import { makeCsr } from "../support/csr.ts";
import type { Fleet } from "../support/fleet.ts";
import { adminOf, CERTIFICATES, type Kind, type Place, Places, told } from "../support/places.ts";

let places: Places;
let fleet: Fleet;
let mine: Place;
let other: Place;
/** One of each kind at the other place. */
let foreign: Readonly<Record<Kind, string>>;

beforeAll(async () => {
  places = await Places.make();
  ({ fleet, mine, other } = places);
  const { profile, issuer } = other;
  const certificate = await places.foreign("certificate");
  foreign = { certificate, job: await places.jobOf(certificate), profile, issuer, ca: await places.foreign("ca") };
});

/** Routes of one object: operation, method, path, body, kind, status in scope. */
const SINGLE: readonly (readonly [string, string, string, unknown, Kind, number])[] = [
  ["getCertificate", "GET", `${CERTIFICATES}/{id}`, undefined, "certificate", 200],
  ["updateCertificate", "PUT", `${CERTIFICATES}/{id}`, { environment: "e" }, "certificate", 200],
  ["listCertificateVersions", "GET", `${CERTIFICATES}/{id}/versions`, undefined, "certificate", 200],
  ["exportCertificatePEM", "GET", `${CERTIFICATES}/{id}/export/pem`, undefined, "certificate", 200],
  ["exportCertificatePKCS12", "POST", `${CERTIFICATES}/{id}/export/pkcs12`, {}, "certificate", 200],
  ["archiveCertificate", "DELETE", `${CERTIFICATES}/{id}`, undefined, "certificate", 204],
  ["triggerRenewal", "POST", `${CERTIFICATES}/{id}/renew`, { force: true }, "certificate", 202],
  ["revokeCertificate", "POST", `${CERTIFICATES}/{id}/revoke`, { reason: "superseded" }, "certificate", 200],
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

/** Routes of one object that refuse what they are sent here, by whoever is let in: operation, method, path, body, kind, status. */
const REFUSING: typeof SINGLE = [
  ["certifyCertificateCSR", "POST", `${CERTIFICATES}/{id}/csr`, { csr_pem: "none" }, "certificate", 400],
  ["importIssued", "POST", "/api/v1/issuers/{id}/issued", {}, "issuer", 415],
  ["importRevocations", "POST", "/api/v1/issuers/{id}/revocations", {}, "issuer", 415],
  ["revokeSerial", "POST", "/api/v1/issuers/{id}/revoke-serial", {}, "issuer", 400],
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
  ...REFUSING.map(([operation]) => operation),
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

describe("a route of one object", () => {
  it.each(REFUSING)("%s: lets nobody in from out of scope", async (_operation, method, path, sent, kind, status) => {
    const fresh = await places.fresh(kind);
    for (const scope of fresh.scopes) {
      const actor = await adminOf(scope);
      const away = await actor.send(method, at(path, foreign[kind]), sent);
      expect(told(away)).toMatchObject({ status: 403, error: "out_of_scope" });
      expect((await actor.send(method, at(path, fresh.id), sent)).status).toBe(status);
    }
  });

  it.each(SINGLE)("%s: in scope, out of scope, absent", async (_operation, method, path, sent, kind, status) => {
    const absent = await places.admin.send(method, at(path, "none"), sent);
    expect(absent.status, JSON.stringify(absent.body)).toBe(404);
    const { scopes } = await places.fresh(kind);
    for (const [i] of scopes.entries()) {
      const fresh = await places.fresh(kind);
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
    expect((await places.admin.send("GET", at(GET_OF[kind], foreign[kind]))).status).toBe(200);
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
    const certificate = await places.record(mine);
    const { job_id } = (await places.admin.post(`${CERTIFICATES}/${certificate}/renew`)).body;
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
    expect((await places.admin.get(`/api/v1/jobs/${job_id}`)).body).toMatchObject({ status: "AwaitingCSR" });
  });

  it("is refused likewise for a profile or issuer of one's own scope that is gone", async () => {
    for (const kind of ["profile", "issuer"] as const) {
      const { id, scopes } = await places.fresh(kind);
      const actor = await adminOf(scopes[0] as InScope);
      expect((await actor.delete(at(GET_OF[kind], id))).status).toBe(204);
      const absent = await actor.get(at(GET_OF[kind], id));
      // The right has ended with the scope: nothing is left that could be out of it.
      expect(told(absent)).toMatchObject({ status: 403, error: "forbidden" });
      expect(told(await actor.get(at(GET_OF[kind], foreign[kind])))).toEqual(told(absent));
    }
  });

  it("does not mistake a profile's id for an issuer's, nor the body's id for the path's", async () => {
    const id = `twin-${places.next()}`;
    await places.admin.create("/api/v1/profiles", { id, name: id });
    await places.admin.create("/api/v1/issuers", { id, name: id, type: "GenericCA", config: {} });
    const ofTheProfile = await adminOf(ofProfile(id));
    expect((await ofTheProfile.get(`/api/v1/profiles/${id}`)).status).toBe(200);
    expect((await ofTheProfile.get(`/api/v1/issuers/${id}`)).status).toBe(403);
    const ofTheIssuer = await adminOf(ofIssuer(id));
    expect((await ofTheIssuer.get(`/api/v1/profiles/${id}`)).status).toBe(403);
    expect((await ofTheIssuer.get(`/api/v1/issuers/${id}`)).status).toBe(200);

    const actor = await adminOf(ofProfile(mine.profile));
    const certificate = await places.record(mine);
    const before = (await places.admin.get(`${CERTIFICATES}/${foreign.certificate}`)).body;
    const sent = { id: foreign.certificate, environment: "confused" };
    expect((await actor.put(`${CERTIFICATES}/${certificate}`, sent)).body).toMatchObject({ id: certificate });
    expect((await actor.put(`${CERTIFICATES}/${foreign.certificate}`, { ...sent, id: certificate })).status).toBe(403);
    expect((await places.admin.get(`${CERTIFICATES}/${foreign.certificate}`)).body).toEqual(before);
  });
});

const GET_OF: Record<Kind, string> = {
  certificate: `${CERTIFICATES}/{id}`,
  job: "/api/v1/jobs/{id}",
  profile: "/api/v1/profiles/{id}",
  issuer: "/api/v1/issuers/{id}",
  ca: "/api/v1/intermediates/{id}",
};
