import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { auditCount, Client } from "../support/api.ts";
import { makeCsr } from "../support/csr.ts";
import { addAgent, type Fleet, makeFleet } from "../support/fleet.ts";

let fleet: Fleet;
let n = 0;
const path = "/api/v1/certificates";

beforeAll(async () => {
  fleet = await makeFleet();
});

const body = (more: Record<string, unknown> = {}) => {
  n++;
  return { name: `record ${n}`, common_name: `r${n}.example.com`, ...fleet.record, ...more };
};
const one = (more: Record<string, unknown> = {}) => fleet.admin.create(path, body(more));
const at = (certificate: { id?: unknown }) => `${path}/${certificate.id}`;

describe("a certificate record", () => {
  it("is Pending and without an end when it is new", async () => {
    const sent = body({ sans: ["API.Example.com", "bücher.example", "10.0.0.1", "2001:DB8:0:0::1", "a@example.com"] });
    const answer = await fleet.admin.post(path, sent);
    expect(answer.status).toBe(201);
    expect(answer.body).toMatchObject({
      id: `mc-record-${n}`,
      common_name: sent.common_name,
      sans: ["api.example.com", "xn--bcher-kva.example", "10.0.0.1", "2001:db8::1", "a@example.com"],
      environment: "",
      target_ids: [],
      tags: {},
      certificate_profile_id: null,
      status: "Pending",
      expires_at: null,
      revoked_at: null,
    });
    expect((await fleet.admin.get(at(answer.body))).body).toEqual(answer.body);
    expect(await auditCount("certificate.create", String(answer.body.id))).toBe(1);
  });

  const refused: [string, Record<string, unknown>, string][] = [
    ["an unknown field", { wings: 2 }, "wings"],
    ["no name", { name: undefined }, "name"],
    ["no common name", { common_name: undefined }, "common_name"],
    ["a common name that is no name", { common_name: "not a host" }, "common_name"],
    ["a wildcard that is not leftmost", { sans: ["a.*.example.com"] }, "sans.0"],
    ["an absent owner", { owner_id: "o-none" }, "owner_id"],
    ["an absent team", { team_id: "t-none" }, "team_id"],
    ["an absent issuer", { issuer_id: "iss-none" }, "issuer_id"],
    ["an absent policy", { renewal_policy_id: "rp-none" }, "renewal_policy_id"],
    ["an absent profile", { certificate_profile_id: "prof-none" }, "certificate_profile_id"],
    ["an absent target", { target_ids: ["tgt-none"] }, "target_ids"],
    ["tags that are no texts", { tags: { a: 1 } }, "tags.a"],
  ];
  it.each(refused)("is refused with %s, which the message names", async (_what, more, field) => {
    const answer = await fleet.admin.post(path, body(more));
    expect(answer.status).toBe(400);
    expect(answer.body.message).toContain(field);
  });

  it("has a name of its own, also against archived ones", async () => {
    const first = await one();
    expect((await fleet.admin.delete(at(first))).status).toBe(204);
    const again = await fleet.admin.post(path, body({ name: first.name }));
    expect(again.status).toBe(409);
    expect(again.body.message).toContain("name");
  });

  it("keeps the target that it is meant for from being deleted", async () => {
    const target = await fleet.admin.create("/api/v1/targets", {
      name: "Meant for one",
      type: "NGINX",
      agent_id: fleet.agentId,
    });
    await one({ target_ids: [target.id] });
    const refused = await fleet.admin.delete(`/api/v1/targets/${target.id}`);
    expect(refused.status).toBe(409);
    expect(refused.body.message).toContain("in use by 1 certificate;");
  });

  it("inv 11: takes no server-managed field, neither new nor changed", async () => {
    const managed = {
      status: "Active",
      expires_at: "2030-01-01T00:00:00Z",
      last_renewal_at: "2030-01-01T00:00:00Z",
      revoked_at: "2020-01-01T00:00:00Z",
      revocation_reason: "keyCompromise",
      created_at: "2001-01-01T00:00:00Z",
    };
    const created = await fleet.admin.post(path, body(managed));
    expect(created.body).toMatchObject({
      status: "Pending",
      expires_at: null,
      revoked_at: null,
      last_renewal_at: null,
    });
    const changed = await fleet.admin.put(at(created.body), { ...created.body, ...managed });
    expect(changed.status).toBe(200);
    const { updated_at: _, ...same } = created.body;
    expect(changed.body).toMatchObject(same);
    expect((await fleet.admin.put(at(created.body), { status: "Broken" })).status).toBe(400);
  });

  it("keeps what an update leaves out, clears what it nulls, and maps targets", async () => {
    const record = await one({ environment: "prod", tags: { a: "b" }, target_ids: [fleet.targetId] });
    const kept = await fleet.admin.put(at(record), { environment: "dev" });
    expect(kept.body).toMatchObject({ environment: "dev", tags: { a: "b" }, target_ids: [fleet.targetId] });
    const cleared = await fleet.admin.put(at(record), { environment: null, tags: null, target_ids: null, sans: null });
    expect(cleared.body).toMatchObject({ environment: "", tags: {}, target_ids: [], sans: [] });
    const mapped = await fleet.admin.put(at(record), { target_ids: [fleet.targetId, fleet.targetId] });
    expect(mapped.body).toMatchObject({ target_ids: [fleet.targetId] });
    expect((await fleet.admin.put(at(record), { owner_id: null })).status).toBe(400);
    expect(await auditCount("certificate.update", String(record.id))).toBe(3);
  });

  it("honours If-Match, and an Idempotency-Key", async () => {
    const record = await one();
    const etag = (await fleet.admin.get(at(record))).headers.get("ETag") ?? "";
    expect((await fleet.admin.put(at(record), { environment: "x" }, { "If-Match": etag })).status).toBe(200);
    expect((await fleet.admin.put(at(record), { environment: "y" }, { "If-Match": etag })).status).toBe(412);
    expect((await fleet.admin.delete(at(record), { "If-Match": etag })).status).toBe(412);
    const sent = body();
    const key = { "Idempotency-Key": "certificate-1" };
    const [a, b] = await Promise.all([fleet.admin.post(path, sent, key), fleet.admin.post(path, sent, key)]);
    expect(a.status).toBe(201);
    expect(b.body).toEqual(a.body);
  });

  it("answers 404, 405 and 415 as every route", async () => {
    expect((await fleet.admin.get(`${path}/none`)).status).toBe(404);
    expect((await fleet.admin.put(`${path}/none`, {})).status).toBe(404);
    expect((await fleet.admin.delete(`${path}/none`)).status).toBe(404);
    expect((await fleet.admin.get(`${path}/none/versions`)).status).toBe(404);
    expect((await fleet.admin.get(`${path}/none/export/pem`)).status).toBe(404);
    expect((await fleet.admin.post(`${path}/none/export/pkcs12`)).status).toBe(404);
    expect((await fleet.admin.post(`${path}/none/renew`)).status).toBe(404);
    expect((await fleet.admin.send("PATCH", path)).status).toBe(405);
    expect((await fleet.admin.post(path, "x", { "Content-Type": "text/plain" })).status).toBe(415);
    expect((await new Client(null).get(path)).status).toBe(401);
    expect((await fleet.agent.post(path, body())).status).toBe(403);
  });
});

describe("the list", () => {
  const ids = async (query: string) => {
    const answer = await fleet.admin.get<{ data: { id: string }[]; total: number }>(`${path}?per_page=500&${query}`);
    expect(answer.status, JSON.stringify(answer.body)).toBe(200);
    expect(answer.body.total).toBe(answer.body.data.length);
    return answer.body.data.map((row) => row.id);
  };

  it("filters, sorts and pages", async () => {
    const profile = await fleet.admin.create("/api/v1/profiles", { name: "Listed" });
    const a = await one({ environment: "list", common_name: "b.list.example", certificate_profile_id: profile.id });
    const b = await one({ environment: "list", common_name: "a.list.example", target_ids: [fleet.targetId] });
    const c = await one({ environment: "list", common_name: "c.list.example" });
    await env.DB.prepare("update certificates set expires_at = '2031-05-05T00:00:00.000Z' where id = ?")
      .bind(b.id)
      .run();
    const all = [a.id, b.id, c.id];
    expect(await ids("environment=list")).toEqual(all);
    expect(await ids("environment=list&sort=-createdAt")).toEqual([...all].reverse());
    expect(await ids("environment=list&sort=createdAt&sort_desc=true")).toEqual([...all].reverse());
    expect(await ids("environment=list&sort=commonName")).toEqual([b.id, a.id, c.id]);
    expect(await ids(`profile_id=${profile.id}`)).toEqual([a.id]);
    expect(await ids(`environment=list&agent_id=${fleet.agentId}`)).toEqual([b.id]);
    expect(await ids("environment=list&agent_id=agent-none")).toEqual([]);
    expect(await ids("environment=list&expires_before=2031-05-05T02:00:00%2B01:00")).toEqual([b.id]);
    expect(await ids("environment=list&expires_after=2031-05-05T00:00:00Z")).toEqual([]);
    expect(await ids(`environment=list&status=Pending&owner_id=${fleet.record.owner_id}`)).toEqual(all);
    const page = await fleet.admin.get(`${path}?environment=list&per_page=2&page=2`);
    expect(page.body).toMatchObject({ data: [{ id: c.id }], total: 3, page: 2, per_page: 2 });
  });

  it("finds by serial, fingerprint, name and text, and what ends soon", async () => {
    const a = await one({
      common_name: "find-a.example.com",
      sans: ["www.find-a.example.com", "10.9.8.7"],
      target_ids: [],
    });
    const b = await one({ common_name: "find-b.example.com", name: "Find 100%_sure" });
    const csr_pem = await makeCsr({ commonName: "find-a.example.com" });
    const issued = await fleet.admin.post<Record<string, string>>(`${at(a)}/csr`, { csr_pem });
    expect(issued.status, JSON.stringify(issued.body)).toBe(201);
    const { serial_number = "", fingerprint_sha256 = "" } = issued.body;
    const colons = (hex: string) => hex.toUpperCase().match(/../g)?.join(":");
    for (const serial of [serial_number, serial_number.toUpperCase(), `00${serial_number}`, colons(serial_number)])
      expect(await ids(`serial_number=${serial}`)).toEqual([a.id]);
    for (const fingerprint of [fingerprint_sha256, colons(fingerprint_sha256)])
      expect(await ids(`fingerprint_sha256=${fingerprint}`)).toEqual([a.id]);
    expect(await ids("serial_number=abcdef")).toEqual([]);
    expect(await ids("san=WWW.find-a.example.com")).toEqual([a.id]);
    expect(await ids("san=10.9.8.7")).toEqual([a.id]);
    expect(await ids("san=find-a.example.com")).toEqual([a.id]);
    expect(await ids("san=example.com")).toEqual([]);
    expect(await ids("q=FIND-")).toEqual([a.id, b.id]);
    expect(await ids("q=www.find")).toEqual([a.id]);
    expect(await ids("q=100%25_s")).toEqual([b.id]);
    expect(await ids("q=%25%25")).toEqual([]);
    expect(await ids("q=find-&expiring_within=120d")).toEqual([a.id]);
    expect(await ids("q=find-&expiring_within=12h")).toEqual([]);
    await fleet.admin.put(at(a), { sans: ["only.find-a.example.com"] });
    expect(await ids("san=www.find-a.example.com")).toEqual([]);
    expect(await ids("san=only.find-a.example.com")).toEqual([a.id]);
  });

  it("sorts by every column that it shows", async () => {
    const { body } = await fleet.admin.get<{ data: Record<string, unknown>[] }>(`${path}?per_page=1`);
    const columns = Object.keys(body.data[0] ?? {}).filter((name) => !["sans", "tags", "target_ids"].includes(name));
    expect(columns.length).toBeGreaterThan(12);
    for (const column of columns) {
      const shown = await fleet.admin.get<{ data: Record<string, string | null>[] }>(
        `${path}?per_page=500&sort=-${column}`,
      );
      const values = shown.body.data.map((row) => row[column] ?? "");
      expect(values, column).toEqual([...values].sort().reverse());
    }
  });

  it.each([
    "status=Nope",
    "expires_before=yesterday",
    "sort=colour",
    "page=0",
    "per_page=501",
    "serial_number=xyz",
    "expiring_within=soon",
    "san=no%20name",
    "q=",
  ])("refuses %s", async (query) => {
    expect((await fleet.admin.get(`${path}?${query}`)).status).toBe(400);
  });
});

describe("what a certificate uses", () => {
  it("is not deleted: team, owner, policy, profile, issuer, target", async () => {
    const profile = await fleet.admin.create("/api/v1/profiles", { name: "Used" });
    const record = await one({ certificate_profile_id: profile.id, target_ids: [fleet.targetId] });
    const used = [
      `/api/v1/teams/${fleet.record.team_id}`,
      `/api/v1/owners/${fleet.record.owner_id}`,
      `/api/v1/renewal-policies/${fleet.record.renewal_policy_id}`,
      `/api/v1/profiles/${profile.id}`,
      `/api/v1/issuers/${fleet.record.issuer_id}`,
      `/api/v1/targets/${fleet.targetId}`,
    ];
    for (const use of used) expect((await fleet.admin.delete(use)).status, use).toBe(409);
    for (const use of used) expect((await fleet.admin.get(use)).status, use).toBe(200);
    expect((await fleet.admin.get(at(record))).body).toMatchObject({ target_ids: [fleet.targetId] });
  });
});

describe("renewing", () => {
  const renew = (certificate: { id?: unknown }, query = "") => fleet.admin.post(`${at(certificate)}/renew${query}`);

  it("needs a target, and an agent that is not retired", async () => {
    const bare = await renew(await one());
    expect(bare).toMatchObject({ status: 409, body: { error: "certificate_without_target" } });
    expect(bare.body.message).toContain("/csr");
    const { agentId } = await addAgent(fleet.admin, "retired-1");
    const target = await fleet.admin.create("/api/v1/targets", { name: "t", type: "NGINX", agent_id: agentId });
    await env.DB.prepare("update agents set retired_at = '2026-01-01T00:00:00.000Z' where id = ?").bind(agentId).run();
    expect((await renew(await one({ target_ids: [target.id] }))).body).toMatchObject({ error: "agents_retired" });
  });

  it("is refused while it is under way; force starts it anew", async () => {
    const record = await one({ target_ids: [fleet.targetId] });
    const first = await renew(record);
    expect(first.status).toBe(202);
    const again = await renew(record);
    expect(again.status).toBe(409);
    expect(again.body.error).toBe("renewal_in_progress");
    const forced = await renew(record, "?force=true");
    expect(forced.status).toBe(202);
    expect(forced.body.job_id).not.toBe(first.body.job_id);
    expect((await fleet.admin.get(`/api/v1/jobs/${first.body.job_id}`)).body).toMatchObject({ status: "Cancelled" });
    const open = await fleet.admin.get(`/api/v1/jobs?certificate_id=${record.id}&status=AwaitingCSR`);
    expect(open.body.total).toBe(1);
  });

  it("of racing requests one wins", async () => {
    const record = await one({ target_ids: [fleet.targetId] });
    const answers = await Promise.all(Array.from({ length: 8 }, () => renew(record)));
    expect(answers.map((answer) => answer.status).sort()).toEqual([202, 409, 409, 409, 409, 409, 409, 409]);
    expect((await fleet.admin.get(`/api/v1/jobs?certificate_id=${record.id}`)).body.total).toBe(1);
  });

  it("is refused for what is archived, and for what expired unless forced", async () => {
    const archived = await one({ target_ids: [fleet.targetId] });
    await renew(archived);
    expect((await fleet.admin.delete(at(archived))).status).toBe(204);
    expect((await fleet.admin.delete(at(archived))).status).toBe(204);
    expect((await fleet.admin.get(at(archived))).body).toMatchObject({ status: "Archived" });
    expect((await fleet.admin.get(`/api/v1/jobs?certificate_id=${archived.id}`)).body).toMatchObject({
      data: [{ status: "Cancelled" }],
    });
    for (const query of ["", "?force=true"]) {
      const answer = await renew(archived, query);
      expect(answer.status).toBe(400);
      expect(answer.body.error).toBe("certificate_archived");
    }
    expect(await auditCount("certificate.archive", String(archived.id))).toBe(1);

    const expired = await one({ target_ids: [fleet.targetId] });
    await env.DB.prepare(
      "update certificates set status = 'Expired', expires_at = '2020-01-01T00:00:00.000Z' where id = ?",
    )
      .bind(expired.id)
      .run();
    expect((await renew(expired)).body.error).toBe("certificate_expired");
    expect((await renew(expired, "?force=true")).status).toBe(202);
    expect((await fleet.admin.get(at(expired))).body).toMatchObject({ status: "RenewalInProgress" });
  });

  it("says what is wrong with the issuer", async () => {
    const issuer = await fleet.admin.create("/api/v1/issuers", {
      name: "Off",
      type: "GenericCA",
      enabled: false,
      config: { ca_common_name: "Off" },
    });
    const record = await one({ issuer_id: issuer.id, target_ids: [fleet.targetId] });
    const answer = await renew(record);
    expect(answer.status).toBe(400);
    expect(answer.body.error).toBe("issuer_disabled");
    expect((await fleet.admin.get(at(record))).body).toMatchObject({ status: "Pending" });
  });
});

describe("the list of jobs", () => {
  it("filters by certificate, status and type, and pages with a total", async () => {
    const record = await one({ target_ids: [fleet.targetId] });
    const first = await fleet.admin.post(`${at(record)}/renew`);
    const second = await fleet.admin.post(`${at(record)}/renew?force=1`);
    const list = async (query: string) =>
      (
        await fleet.admin.get<{ data: { id: string }[]; total: number }>(
          `/api/v1/jobs?certificate_id=${record.id}&${query}`,
        )
      ).body;
    expect((await list("")).data.map((job) => job.id)).toEqual([first.body.job_id, second.body.job_id]);
    expect(await list("status=Cancelled")).toMatchObject({ total: 1, data: [{ id: first.body.job_id }] });
    expect(await list("type=Renewal")).toMatchObject({ total: 0, data: [] });
    expect(await list("type=Issuance&per_page=1&page=2")).toMatchObject({
      total: 2,
      data: [{ id: second.body.job_id }],
    });
    expect((await fleet.admin.get("/api/v1/jobs?status=Done")).status).toBe(400);
    expect((await fleet.admin.get("/api/v1/jobs/job-none")).status).toBe(404);
    const shown = (await fleet.admin.get(`/api/v1/jobs/${second.body.job_id}`)).body;
    expect(shown).toMatchObject({ type: "Issuance", target_id: null, attempts: 0, max_attempts: 4, last_error: null });
    expect(shown).not.toHaveProperty("approved");
  });
});
