import { beforeAll, describe, expect, it } from "vitest";
import { actorWith, ofIssuer, ofProfile, roleWith } from "../support/actors.ts";
import { type Answer, Client } from "../support/api.ts";
import { makeCsr } from "../support/csr.ts";
import { addAgent } from "../support/fleet.ts";
import { CERTIFICATES, Places } from "../support/places.ts";

/** Other routes to a certificate, or to what belongs to one, than the one that a right is for. */

let places: Places;
let admin: Client;

beforeAll(async () => {
  places = await Places.make();
  admin = places.admin;
});

const statuses = async (answers: readonly Promise<Answer>[]) =>
  (await Promise.all(answers)).map((answer) => answer.status);

/** A certificate of the other profile whose agent has been asked for a CSR. */
async function waiting(): Promise<{ id: string; job_id: string }> {
  const id = await places.record(places.other);
  const { job_id } = (await admin.post(`${CERTIFICATES}/${id}/renew`)).body;
  return { id, job_id: String(job_id) };
}

const csrPath = () => `/api/v1/agents/${places.fleet.agentId}/csr`;

describe("issuing for one profile", () => {
  it("is for that profile by no other route: create, move, renew (CVE-2021-20179), a job of another's renewal", async () => {
    const actor = await actorWith([{ role_id: "r-operator", ...ofProfile(places.mine.profile) }]);
    const { id, job_id } = await waiting();
    const own = await places.record(places.mine);
    const csr_pem = await makeCsr();
    expect(
      await statuses([
        actor.post(CERTIFICATES, places.body(places.other)),
        actor.put(`${CERTIFICATES}/${own}`, { certificate_profile_id: places.other.profile }),
        actor.put(`${CERTIFICATES}/${own}`, { certificate_profile_id: null }),
        actor.put(`${CERTIFICATES}/${id}`, { certificate_profile_id: places.mine.profile }),
        actor.post(`${CERTIFICATES}/${id}/renew`),
        actor.post(`${CERTIFICATES}/${id}/renew`, { force: true }),
        actor.post(csrPath(), { csr_pem, job_id }),
        actor.post(csrPath(), { csr_pem, certificate_id: id }),
        actor.get(`/api/v1/jobs/${job_id}`),
      ]),
    ).toEqual(Array(9).fill(403));
    expect((await admin.get(`/api/v1/jobs/${job_id}`)).body).toMatchObject({ status: "AwaitingCSR" });
    expect((await admin.get(`${CERTIFICATES}/${own}`)).body).toMatchObject({
      certificate_profile_id: places.mine.profile,
    });
  });

  it("does not read, export, revoke (GO-2025-4181, CVE-2021-40088) or archive what is out of it, nor tell it from what is not there", async () => {
    const actor = await actorWith([{ role_id: "r-admin", ...ofProfile(places.mine.profile) }]);
    const known = await places.issued(places.other);
    const told = async (id: string) => {
      const answers = await Promise.all([
        actor.get(`${CERTIFICATES}/${id}`),
        actor.get(`${CERTIFICATES}/${id}/versions`),
        actor.get(`${CERTIFICATES}/${id}/export/pem`),
        actor.post(`${CERTIFICATES}/${id}/export/pkcs12`, { password: "x" }),
        actor.post(`${CERTIFICATES}/${id}/revoke`, { reason: "keyCompromise" }),
        actor.post(`${CERTIFICATES}/${id}/release-hold`),
        actor.delete(`${CERTIFICATES}/${id}`),
        actor.put(`${CERTIFICATES}/${id}`, { name: "mine now" }),
      ]);
      return answers.map(({ status, body }) => `${status} ${body.error} ${body.message}`);
    };
    const [of, absent] = [await told(known), await told("mc-absent")];
    expect(of).toEqual(absent);
    expect(new Set(of.map((one) => one.slice(0, 16)))).toEqual(new Set(["403 out_of_scope"]));
    expect((await admin.get(`${CERTIFICATES}/${known}`)).body).toMatchObject({ status: "Active" });
  });

  it("is not widened by a record's id in the body of another: the path decides, the place is checked", async () => {
    const actor = await actorWith([{ role_id: "r-operator", ...ofProfile(places.mine.profile) }]);
    const { id } = await waiting();
    const own = await places.record(places.mine);
    const answer = await actor.put(`${CERTIFICATES}/${own}`, { id, name: "confused" });
    expect([200, 400]).toContain(answer.status);
    expect((await admin.get(`${CERTIFICATES}/${id}`)).body.name).not.toBe("confused");
    const created = await actor.post(CERTIFICATES, { ...places.body(places.mine), id });
    expect([403, 409]).toContain(created.status);
  });
});

describe("an agent's route", () => {
  it("gives no certificate to a key that may poll but not issue: who brings a key in the agent's place, issues", async () => {
    const { id, job_id } = await waiting();
    const csr_pem = await makeCsr();
    const poller = await actorWith([{ role_id: "r-agent" }]);
    expect(await statuses([poller.post(csrPath(), { csr_pem, job_id })])).toEqual([403]);
    expect(await statuses([poller.post(csrPath(), { csr_pem, certificate_id: id })])).toEqual([403]);
    const scoped = await actorWith([
      { role_id: "r-agent" },
      { role_id: "r-operator", ...ofProfile(places.mine.profile) },
    ]);
    expect(await statuses([scoped.post(csrPath(), { csr_pem, job_id })])).toEqual([403]);
    expect((await admin.get(`/api/v1/jobs/${job_id}`)).body).toMatchObject({ status: "AwaitingCSR" });
    await places.sign(job_id);
  });

  it("is one agent's: another's job, certificate and CSR are refused, and a role makes an agent no more than an agent", async () => {
    const { id, job_id } = await waiting();
    const other = await addAgent(admin, "escalating");
    await admin.post(`/api/v1/agents/${other.agentId}/roles`, { role_id: "r-admin" });
    const csr_pem = await makeCsr();
    const own = `/api/v1/agents/${other.agentId}`;
    expect(
      await statuses([
        other.agent.post(csrPath(), { csr_pem, job_id }),
        other.agent.post(`${own}/csr`, { csr_pem, job_id }),
        other.agent.post(`${own}/csr`, { csr_pem, certificate_id: id }),
        other.agent.get(`${own}/certificates/${id}`),
        other.agent.get(`/api/v1/agents/${places.fleet.agentId}/work`),
        other.agent.get(CERTIFICATES),
        other.agent.get("/api/v1/teams"),
        other.agent.post("/api/v1/auth/keys", { name: "mine", roles: [{ role_id: "r-admin" }] }),
        other.agent.post("/api/v1/agents", { name: "second", hostname: "second.example" }),
        other.agent.post(`${CERTIFICATES}/${id}/renew`),
        other.agent.post(`${CERTIFICATES}/${id}/revoke`, { reason: "superseded" }),
      ]),
    ).toEqual(Array(11).fill(403));
  });

  it("signs for the record's names, whatever the CSR asks for (the extra name of CVE-2022-34831)", async () => {
    const { job_id } = await waiting();
    const csr_pem = await makeCsr({ sans: ["evil.example.com"] });
    const answer = await places.fleet.agent.post(csrPath(), { csr_pem, job_id });
    expect(answer).toMatchObject({ status: 400, body: { message: expect.stringContaining("evil.example.com") } });
  });
});

describe("mass assignment", () => {
  it("inv 11: server-managed fields of a certificate, an agent and a job are never taken from a body", async () => {
    const managed = {
      status: "Active",
      revoked_at: "2020-01-01T00:00:00Z",
      expires_at: "2099-01-01T00:00:00Z",
      created_at: "2020-01-01T00:00:00Z",
    };
    const made = await admin.post(CERTIFICATES, { ...places.body(places.mine), ...managed });
    expect(made.status).toBe(201);
    expect(made.body).toMatchObject({ status: "Pending", revoked_at: null, expires_at: null });
    const put = await admin.put(`${CERTIFICATES}/${made.body.id}`, managed);
    expect(put.body).toMatchObject({ status: "Pending", revoked_at: null, expires_at: null });
    const agent = await admin.post("/api/v1/agents", {
      name: "assigned",
      hostname: "a.example",
      status: "Online",
      last_heartbeat_at: "2099-01-01T00:00:00Z",
    });
    expect(agent.body).toMatchObject({ status: "Offline", last_heartbeat_at: null });
  });

  it("no field of a body says who acts or what they may", async () => {
    const writer = await actorWith([{ role_id: await roleWith(["team.edit", "team.read"]) }]);
    for (const field of ["actor_id", "actor_type", "roles", "permissions", "is_admin", "tenant_id", "created_by"]) {
      const answer = await writer.post("/api/v1/teams", { name: `T ${field}`, [field]: "r-admin" });
      expect(answer, field).toMatchObject({ status: 400, body: { message: expect.stringContaining(field) } });
    }
    expect((await writer.get("/api/v1/auth/me")).body).toMatchObject({ admin: false });
  });
});

describe("a right over an issuer", () => {
  it("is for that issuer: not for another's CAs, by path or by the parent in the body", async () => {
    const actor = await actorWith([{ role_id: "r-admin", ...ofIssuer(places.mine.issuer) }]);
    const foreignCa = await places.ca(places.other.issuer);
    const path = (issuer: string) => `/api/v1/issuers/${issuer}/intermediates`;
    expect(
      await statuses([
        actor.post(path(places.other.issuer), { name: "sub" }),
        actor.get(path(places.other.issuer)),
        actor.get(`/api/v1/intermediates/${foreignCa}`),
        actor.post(`/api/v1/intermediates/${foreignCa}/retire`, { confirm: true, reason: "superseded" }),
        actor.put(`/api/v1/issuers/${places.other.issuer}`, { name: "mine" }),
        actor.delete(`/api/v1/issuers/${places.other.issuer}`),
        actor.post(`/api/v1/issuers/${places.other.issuer}/test`),
      ]),
    ).toEqual(Array(7).fill(403));
    const confused = await actor.post(path(places.mine.issuer), { name: "sub", parent_ca_id: foreignCa });
    expect([400, 403, 404]).toContain(confused.status);
    expect((await admin.get(`/api/v1/intermediates/${foreignCa}`)).body).toMatchObject({ state: "active" });
  });

  it("an issuer's private key and secrets are in no answer (CVE-2021-40086)", async () => {
    const answer = await admin.get(`/api/v1/issuers/${places.mine.issuer}`);
    expect(JSON.stringify(answer.body)).not.toMatch(/PRIVATE KEY|sealed/);
    expect((await new Client(null).get(`/api/v1/issuers/${places.mine.issuer}`)).status).toBe(401);
  });
});
