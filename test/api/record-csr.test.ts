import { beforeAll, describe, expect, it } from "vitest";
import { auditCount } from "../support/api.ts";
import { makeCsr } from "../support/csr.ts";
import { type Fleet, makeFleet } from "../support/fleet.ts";

/** Certificates without a target: whoever may issue brings the CSR. */

let fleet: Fleet;
let n = 0;

beforeAll(async () => {
  fleet = await makeFleet();
});

async function record(more: Record<string, unknown> = {}): Promise<{ id: string; common_name: string }> {
  const common_name = `alone-${++n}.example.com`;
  const body = { name: `alone ${n}`, common_name, ...fleet.record, ...more };
  return { id: String((await fleet.admin.create("/api/v1/certificates", body)).id), common_name };
}

const send = (id: string, csr_pem: string) =>
  fleet.admin.post(`/api/v1/certificates/${id}/csr`, {
    csr_pem,
  });
const read = async (id: string) => (await fleet.admin.get(`/api/v1/certificates/${id}`)).body;

describe("a CSR for a certificate without a target", () => {
  it("is signed and answers the version; renewing says to send one", async () => {
    const { id, common_name } = await record();
    const renewed = await fleet.admin.post(`/api/v1/certificates/${id}/renew`);
    expect(renewed).toMatchObject({ status: 409, body: { error: "certificate_without_target" } });
    const answer = await send(id, await makeCsr({ commonName: common_name }));
    expect(answer.status, JSON.stringify(answer.body)).toBe(201);
    expect(answer.body).toMatchObject({
      id: answer.body.version_id,
      certificate_id: id,
      agent_id: null,
      job_id: answer.body.job_id,
      current: true,
    });
    expect(await read(id)).toMatchObject({ status: "Active" });
    expect(await auditCount("certificate.issue", id)).toBe(1);
  });

  it("again, also at once: the version that it has; after a revocation or with another key a new one", async () => {
    const { id, common_name } = await record();
    const csr = await makeCsr({ commonName: common_name });
    const answers = await Promise.all(Array.from({ length: 8 }, () => send(id, csr)));
    const signed = answers.filter(({ status }) => status === 201);
    expect(answers.every(({ status }) => status === 201 || status === 409 || status === 503)).toBe(true);
    expect(new Set(signed.map(({ body }) => body.version_id)).size).toBe(1);
    expect((await send(id, csr)).body.version_id).toBe(signed[0]?.body.version_id);
    const other = await send(id, await makeCsr({ commonName: common_name }));
    expect(other.status, JSON.stringify(other.body)).toBe(201);
    expect(other.body.version_id).not.toBe(signed[0]?.body.version_id);
    expect((await fleet.admin.post(`/api/v1/certificates/${id}/revoke`, { reason: "superseded" })).status).toBe(200);
    const healed = await send(id, csr);
    expect(healed.status, JSON.stringify(healed.body)).toBe(201);
    expect(await read(id)).toMatchObject({ status: "Active", revoked_at: null });
    const { body } = await fleet.admin.get(`/api/v1/certificates/${id}/versions`);
    expect(body).toMatchObject({ total: 3 });
  });

  it("tells what of it was ignored", async () => {
    const { id, common_name } = await record();
    const answer = await send(id, await makeCsr({ commonName: common_name, extension: "2.16.840.1.113730.1.13" }));
    expect(answer.status, JSON.stringify(answer.body)).toBe(201);
    expect(answer.body.ignored).toEqual([expect.stringContaining("2.16.840.1.113730.1.13")]);
  });

  it("is refused where agents make the key, for other names, and for an archived record", async () => {
    const mapped = await record({ target_ids: [fleet.targetId] });
    const csr = await makeCsr({ commonName: mapped.common_name });
    expect(await send(mapped.id, csr)).toMatchObject({ status: 409, body: { error: "certificate_has_targets" } });
    const bare = await record();
    expect(await send(bare.id, csr)).toMatchObject({ status: 400, body: { error: "name_not_in_record" } });
    expect(await send(bare.id, "no PEM")).toMatchObject({ status: 400, body: { error: "csr_invalid" } });
    expect(await read(bare.id)).toMatchObject({ status: "Pending" });
    expect((await fleet.admin.delete(`/api/v1/certificates/${bare.id}`)).status).toBe(204);
    expect(await send(bare.id, await makeCsr({ commonName: bare.common_name }))).toMatchObject({
      status: 409,
      body: { error: "certificate_archived" },
    });
  });
});
