import { env } from "cloudflare:workers";
import { X509Certificate } from "node:crypto";
import { beforeAll, describe, expect, it } from "vitest";
import { parseCertificate } from "../../src/pki/certificate.ts";
import { parseSpki } from "../../src/pki/keys.ts";
import { certificatesFromPem } from "../../src/pki/pem.ts";
import { parseRsaPublicKey } from "../../src/pki/spki.ts";
import { auditCount } from "../support/api.ts";
import { Certificates } from "../support/certificates.ts";
import { makeCsr, microsoftExtras, newKey, RSA_WITHOUT_NULL, rsaSpki } from "../support/csr.ts";
import { addAgent, type Fleet, makeFleet } from "../support/fleet.ts";

let fleet: Fleet;
let certificates: Certificates;

beforeAll(async () => {
  fleet = await makeFleet();
  certificates = new Certificates(fleet, "host");
});

async function issued(more: Record<string, unknown> = {}) {
  const record = await certificates.record(more);
  return { ...record, ...(await certificates.issue(record)) };
}

describe("the main flow", () => {
  it("goes from a record to a certificate that is stored, picked up and exported", async () => {
    const { id, common_name } = await certificates.record();
    expect(await certificates.read(id)).toMatchObject({
      status: "Pending",
      expires_at: null,
      target_ids: [fleet.targetId],
    });
    expect((await fleet.admin.get(`/api/v1/certificates/${id}/export/pem`)).status).toBe(404);
    const pickup = `/api/v1/agents/${fleet.agentId}/certificates/${id}`;
    expect((await fleet.agent.get(pickup)).status).toBe(404);

    const { job_id, job_ids } = await certificates.trigger(id);
    expect(job_ids).toEqual([job_id]);
    expect(await certificates.read(id)).toMatchObject({ status: "RenewalInProgress" });
    expect(await certificates.job(job_id)).toMatchObject({
      type: "Issuance",
      status: "AwaitingCSR",
      agent_id: fleet.agentId,
    });
    const work = await fleet.agent.get<{ jobs: { id: string }[]; count: number }>(
      `/api/v1/agents/${fleet.agentId}/work`,
    );
    expect(work.body.jobs.find((item) => item.id === job_id)).toMatchObject({
      certificate_id: id,
      common_name,
      sans: [common_name, "10.0.0.1"],
      status: "AwaitingCSR",
    });

    const csr_pem = await makeCsr({ commonName: common_name, sans: [common_name] });
    const answer = await certificates.submit({ csr_pem, certificate_id: id, future_field: true });
    expect(answer.status, JSON.stringify(answer.body)).toBe(202);
    expect(answer.body).toMatchObject({ status: "csr_signed", job_id });

    const chain = String((await fleet.agent.get(pickup)).body.certificate_pem);
    const blocks = chain.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n/g) ?? [];
    expect(blocks).toHaveLength(2);
    const [leaf, root] = blocks.map((pem) => new X509Certificate(pem));
    if (!leaf || !root) throw new Error("no chain");
    expect(leaf.subjectAltName).toBe(`DNS:${common_name}, IP Address:10.0.0.1`);
    expect(leaf.verify(root.publicKey)).toBe(true);

    const after = await certificates.read(id);
    expect(after).toMatchObject({
      status: "Active",
      expires_at: new Date(leaf.validTo).toISOString(),
      revoked_at: null,
    });
    expect(await certificates.job(job_id)).toMatchObject({
      status: "Completed",
      version_id: answer.body.version_id,
      attempts: 1,
    });
    const versions = await fleet.admin.get<{ data: Record<string, unknown>[] }>(`/api/v1/certificates/${id}/versions`);
    expect(versions.body).toMatchObject({ total: 1 });
    expect(versions.body.data[0]).toMatchObject({
      id: answer.body.version_id,
      serial_number: leaf.serialNumber.toLowerCase(),
      fingerprint_sha256: leaf.fingerprint256.replaceAll(":", "").toLowerCase(),
      pem_chain: chain,
      csr_pem,
      key_algorithm: "ECDSA",
      key_size: 256,
      agent_id: fleet.agentId,
      job_id,
      current: true,
      revoked_at: null,
    });
    expect(await auditCount("certificate.issue", id)).toBe(1);

    const pem = (await fleet.admin.get(`/api/v1/certificates/${id}/export/pem`)).body;
    expect(pem).toEqual({ cert_pem: blocks[0], chain_pem: blocks[1], full_pem: chain });
    const file = await fleet.admin.get(`/api/v1/certificates/${id}/export/pem?download=true`);
    expect(file.headers.get("Content-Type")).toBe("application/x-pem-file");
    expect(file.headers.get("Content-Disposition")).toBe(`attachment; filename="${id}.pem"`);
    expect(file.body.text).toBe(chain);
    const store = await fleet.admin.post(`/api/v1/certificates/${id}/export/pkcs12`, { password: "changeit" });
    expect(store.status).toBe(200);
    expect(store.headers.get("Content-Type")).toBe("application/x-pkcs12");
    expect(await auditCount("certificate.export", id)).toBe(3);
  });

  it("renews: a new version is current, the older one stays", async () => {
    const { id, common_name, version_id } = await issued();
    const { job_id } = await certificates.trigger(id);
    expect(await certificates.job(job_id)).toMatchObject({ type: "Renewal" });
    const answer = await certificates.submit({ csr_pem: await makeCsr({ commonName: common_name }), job_id });
    expect(answer.status).toBe(202);
    const versions = await fleet.admin.get<{ data: Record<string, unknown>[] }>(`/api/v1/certificates/${id}/versions`);
    expect(versions.body.data.map((version) => [version.id, version.current])).toEqual([
      [answer.body.version_id, true],
      [version_id, false],
    ]);
  });

  it("makes one job for each agent; a version belongs to the agent that holds its key", async () => {
    const other = await addAgent(fleet.admin, "web-2");
    const target = await fleet.admin.create("/api/v1/targets", {
      name: "nginx",
      type: "NGINX",
      agent_id: other.agentId,
    });
    const { id, common_name } = await certificates.record({ target_ids: [fleet.targetId, target.id] });
    const { job_ids } = await certificates.trigger(id);
    expect(job_ids).toHaveLength(2);
    const first = await certificates.submit({
      csr_pem: await makeCsr({ commonName: common_name }),
      certificate_id: id,
    });
    expect(first.status).toBe(202);
    expect(await certificates.read(id)).toMatchObject({ status: "RenewalInProgress" });
    expect((await other.agent.get(`/api/v1/agents/${other.agentId}/certificates/${id}`)).status).toBe(404);
    const theirs = await other.agent.post(`/api/v1/agents/${other.agentId}/csr`, {
      csr_pem: await makeCsr({ commonName: common_name }),
      certificate_id: id,
    });
    expect(theirs.status).toBe(202);
    expect(await certificates.read(id)).toMatchObject({ status: "Active" });
    const versions = await fleet.admin.get<{ data: Record<string, unknown>[] }>(`/api/v1/certificates/${id}/versions`);
    expect(versions.body.data.map((version) => version.current)).toEqual([true, true]);
  });
});

describe("inv 8: a CSR is checked, not trusted", () => {
  const cases: [string, (cn: string) => Promise<string>, string][] = [
    ["a name beyond the record", (cn) => makeCsr({ commonName: cn, sans: ["evil.example.net"] }), "evil.example.net"],
    ["a CN beyond the record", () => makeCsr({ commonName: "evil.example.net" }), "evil.example.net"],
    ["CA:TRUE", (cn) => makeCsr({ commonName: cn, ca: true }), "CA:TRUE"],
    ["another extended key usage", (cn) => makeCsr({ commonName: cn, eku: "1.3.6.1.5.5.7.3.3" }), "codeSigning"],
    ["a signature by another key", (cn) => makeCsr({ commonName: cn, forged: true }), "proof of possession"],
    ["no PEM", async () => "hello", "csr_pem"],
    [
      "broken DER",
      async () => "-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n",
      "csr_pem",
    ],
  ];

  it.each(cases)("refuses %s, names it, and changes nothing", async (_what, make, named) => {
    const { id, common_name } = await certificates.record();
    const { job_id } = await certificates.trigger(id);
    const answer = await certificates.submit({ csr_pem: await make(common_name), job_id });
    expect(answer.status).toBe(400);
    expect(answer.body.message).toContain(named);
    expect(await certificates.job(job_id)).toMatchObject({ status: "AwaitingCSR", attempts: 0 });
    expect((await certificates.submit({ csr_pem: await makeCsr({ commonName: common_name }), job_id })).status).toBe(
      202,
    );
  });

  it("takes what IIS and certreq send, copies none of it and says what came to nothing", async () => {
    const { id, common_name } = await certificates.record();
    const { job_id } = await certificates.trigger(id);
    const csr_pem = await makeCsr({ commonName: common_name, sans: [common_name], ...microsoftExtras() });
    const answer = await certificates.submit({ csr_pem, job_id });
    const ignored = expect.arrayContaining(["extension sMIMECapabilities (1.2.840.113549.1.9.15)"]);
    expect(answer, JSON.stringify(answer.body)).toMatchObject({ status: 202, body: { ignored } });
    expect(await certificates.submit({ csr_pem, job_id })).toMatchObject({ status: 202, body: { ignored } });
    const { body } = await fleet.agent.get(`/api/v1/agents/${fleet.agentId}/certificates/${id}`);
    const leaf = parseCertificate(certificatesFromPem(String(body.certificate_pem))[0] ?? new Uint8Array(0));
    const copied = ["1.2.840.113549.1.9.15", "1.3.6.1.4.1.311.21.7", "2.16.840.1.113730.1.13"];
    expect(leaf.extensions.filter(({ oid }) => copied.includes(oid))).toEqual([]);
    expect(leaf.keyUsage).toEqual(["digitalSignature"]);
  });

  it("names an RSA exponent that it cannot use, and takes RSA without NULL parameters", async () => {
    const { id, common_name } = await certificates.record();
    const { job_id } = await certificates.trigger(id);
    const key = await newKey("RSA-2048");
    const { modulus } = parseRsaPublicKey(parseSpki(key.spki).keyBits);
    const odd = await makeCsr({ key, commonName: common_name, spki: rsaSpki(modulus, 65_539) });
    const refused = await certificates.submit({ csr_pem: odd, job_id });
    expect(refused).toMatchObject({ status: 400, body: { message: expect.stringContaining("exponent 65539") } });
    const csr_pem = await makeCsr({ key, commonName: common_name, signatureAlgorithm: RSA_WITHOUT_NULL });
    expect((await certificates.submit({ csr_pem, job_id })).status).toBe(202);
  });

  it("takes a common name however it is spelled", async () => {
    const { id } = await certificates.record({
      common_name: "bücher.example",
      sans: ["2001:db8::1", "*.bücher.example"],
    });
    const { job_id } = await certificates.trigger(id);
    const foreign = await certificates.submit({ csr_pem: await makeCsr({ commonName: "bucher.example" }), job_id });
    expect(foreign).toMatchObject({ status: 400, body: { error: "name_not_in_record" } });
    const csr_pem = await makeCsr({ commonName: "BÜCHER.example", sans: ["2001:DB8:0:0::1"] });
    expect((await certificates.submit({ csr_pem, job_id })).status).toBe(202);
  });

  it("holds key and lifetime to the profile", async () => {
    const profile = await fleet.admin.create("/api/v1/profiles", {
      name: "Strict",
      allowed_key_algorithms: [{ algorithm: "ECDSA", min_size: 384 }],
      max_ttl_seconds: 7200,
      required_san_patterns: ["[a-z0-9-]+\\.example\\.com", "10\\..*"],
    });
    const { id, common_name } = await certificates.record({ certificate_profile_id: profile.id });
    const { job_id } = await certificates.trigger(id);
    const weak = await certificates.submit({ csr_pem: await makeCsr({ commonName: common_name }), job_id });
    expect(weak.status).toBe(400);
    expect(weak.body.message).toContain("384");
    const key = await newKey("ECDSA-P384");
    expect(
      (await certificates.submit({ csr_pem: await makeCsr({ key, commonName: common_name }), job_id })).status,
    ).toBe(202);
    const { expires_at, status } = await certificates.read(id);
    expect(status).toBe("Active");
    expect(Date.parse(String(expires_at))).toBeLessThanOrEqual(Date.now() + 7_200_000);
  });
});

describe("inv 6: one job, one certificate", () => {
  it("answers 200 concurrent submissions of one CSR alike and signs once", async () => {
    const { id, common_name } = await certificates.record();
    const { job_id } = await certificates.trigger(id);
    const csr_pem = await makeCsr({ commonName: common_name });
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, i) =>
        certificates.submit(i % 2 ? { csr_pem, job_id } : { csr_pem, certificate_id: id }),
      ),
    );
    expect(new Set(answers.map((answer) => `${answer.status} ${JSON.stringify(answer.body)}`)).size).toBe(1);
    expect(answers[0]?.status).toBe(202);
    const rows = await env.DB.prepare("select count(*) as n from certificate_versions where certificate_id = ?")
      .bind(id)
      .first<{ n: number }>();
    expect(rows?.n).toBe(1);
  }, 240_000);

  it("answers the same key and names again alike, and another key with 409", async () => {
    const { csr_pem, job_id, version_id, common_name } = await issued();
    expect(await certificates.submit({ csr_pem, job_id })).toMatchObject({ status: 202, body: { job_id, version_id } });
    const other = await certificates.submit({ csr_pem: await makeCsr({ commonName: common_name }), job_id });
    expect(other.status).toBe(409);
    expect(other.body.error).toBe("another_csr");
  });

  it("two keys race for one job: one is signed, the other is a 409", async () => {
    const { id, common_name } = await certificates.record();
    const { job_id } = await certificates.trigger(id);
    const csrs = await Promise.all([1, 2].map(() => makeCsr({ commonName: common_name })));
    const answers = await Promise.all(csrs.map((csr_pem) => certificates.submit({ csr_pem, job_id })));
    expect(answers.map((answer) => answer.status).sort()).toEqual([202, 409]);
  });

  it("inv 2: gives 200 jobs at once 200 serials", async () => {
    const jobs = await Promise.all(
      Array.from({ length: 200 }, async () => {
        const certificate = await certificates.record();
        return { ...certificate, job_id: (await certificates.trigger(certificate.id)).job_id };
      }),
    );
    const key = await newKey();
    const answers = await Promise.all(
      jobs.map(async ({ common_name, job_id }) =>
        certificates.submit({ csr_pem: await makeCsr({ key, commonName: common_name }), job_id }),
      ),
    );
    expect(new Set(answers.map((answer) => answer.status))).toEqual(new Set([202]));
    const ids = JSON.stringify(jobs.map(({ id }) => id));
    const row = await env.DB.prepare(
      "select count(distinct serial_number) as n from certificate_versions where certificate_id in (select value from json_each(?))",
    )
      .bind(ids)
      .first<{ n: number }>();
    expect(row?.n).toBe(200);
  }, 240_000);
});
