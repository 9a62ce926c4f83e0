import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { type Issued, ledgerOf } from "../../src/authority/ledger.ts";
import { certificateOf, findCaOfLedger } from "../../src/authority/local/ca.ts";
import { certify } from "../../src/authority/orders.ts";
import { revokeCertificate } from "../../src/authority/revocation.ts";
import { settleIssuance } from "../../src/lifecycle/issuance.ts";
import { findJob } from "../../src/lifecycle/jobs.ts";
import { parseCertificate } from "../../src/pki/certificate.ts";
import { parseCsr } from "../../src/pki/csr.ts";
import { contextAhead, interrupted } from "../support/context.ts";
import { makeCsr } from "../support/csr.ts";
import { type Fleet, issueFor, makeFleet } from "../support/fleet.ts";
import { ledgerIdOf } from "../support/ledgers.ts";
import { ledgerStub } from "../support/rewind.ts";

/** A revocation names the serials that the inventory knows: what is being signed meanwhile is revoked when it is settled. */

let fleet: Fleet;
let ledgerId: string;

beforeAll(async () => {
  fleet = await makeFleet();
  ledgerId = await ledgerIdOf(fleet.issuerId);
});

const read = async (id: string) => (await fleet.admin.get(`/api/v1/certificates/${id}`)).body;
const revoke = (id: string, reason: string) => fleet.admin.post(`/api/v1/certificates/${id}/revoke`, { reason });
const statusesOf = (...serials: string[]) =>
  Promise.all(serials.map((serial) => ledgerOf(contextAhead(), ledgerId).status(serial)));

async function versions(id: string) {
  const { body } = await fleet.admin.get<{ data: { serial_number: string; revocation_reason: string | null }[] }>(
    `/api/v1/certificates/${id}/versions`,
  );
  return new Map(body.data.map((row) => [row.serial_number, row.revocation_reason]));
}

/** A certificate with one version, and its renewal signed by the ledger for a caller that has not written it down yet. */
async function signing(name: string) {
  const { id, serial } = await issueFor(fleet, name);
  const { body } = await fleet.admin.post<{ job_id: string }>(`/api/v1/certificates/${id}/renew`);
  const common_name = `${name}.example.test`;
  const csr_pem = await makeCsr({ commonName: common_name });
  const [issued] = await ledgerOf(contextAhead(), ledgerId).issue([
    {
      request_id: body.job_id,
      certificate_id: id,
      subject: { common_name },
      sans: [{ type: "dns", value: common_name }],
      spki: parseCsr(csr_pem).publicKey.spki,
      ekus: ["serverAuth"],
      must_staple: false,
      ttl_seconds: 86_400,
      settle: { job_id: body.job_id, csr_pem, key_algorithm: "ECDSA", key_size: 256 },
    },
  ]);
  if (!issued?.ok) throw new Error(`not issued: ${JSON.stringify(issued)}`);
  return { id, first: serial, issued };
}

/** Its caller writes it down after all. */
async function settle(issued: Issued, ctx = contextAhead()): Promise<void> {
  const ca = await findCaOfLedger(ctx, ledgerId);
  if (!ca) throw new Error("no CA");
  await settleIssuance(ctx, await certify(ctx, ca, issued, certificateOf(ctx, issued)));
}

/** The ledger's alarm, late enough for everything that nobody acknowledged. */
async function handOver(): Promise<void> {
  await runInDurableObject(ledgerStub(ledgerId), async (issuer) => {
    issuer.clock = { now: () => new Date(Date.now() + 60_000) };
    await issuer.alarm();
    await issuer.alarm();
    issuer.clock = { now: () => new Date() };
  });
}

describe("inv 4: a certificate that is revoked while its renewal is on its way", () => {
  it("signed, and settled by its caller after that", async () => {
    const { id, first, issued } = await signing("race-settle");
    expect((await revoke(id, "superseded")).status).toBe(200);
    await settle(issued);
    expect(await statusesOf(first, issued.serial)).toMatchObject([{ reason: "superseded" }, { reason: "superseded" }]);
    expect(await versions(id)).toEqual(new Map([first, issued.serial].map((serial) => [serial, "superseded"])));
    expect(await read(id)).toMatchObject({ status: "Revoked" });
  });

  it("revoked between what its caller reads and writes", async () => {
    const { id, first, issued } = await signing("race-read");
    await settle(
      issued,
      interrupted(async () => expect((await revoke(id, "superseded")).status).toBe(200)),
    );
    expect(await statusesOf(first, issued.serial)).toMatchObject([{ reason: "superseded" }, { reason: "superseded" }]);
    expect(await versions(id)).toEqual(new Map([first, issued.serial].map((serial) => [serial, "superseded"])));
    expect(await read(id)).toMatchObject({ status: "Revoked", revocation_reason: "superseded" });
  });

  it("signed, and its caller dies: the outbox settles and revokes it", async () => {
    const { id, first, issued } = await signing("race-crash");
    expect((await revoke(id, "superseded")).status).toBe(200);
    await handOver();
    expect(await statusesOf(first, issued.serial)).toMatchObject([{ reason: "superseded" }, { reason: "superseded" }]);
    expect((await versions(id)).get(issued.serial)).toBe("superseded");
    expect(await read(id)).toMatchObject({ status: "Revoked" });
  });

  it("reserved, and the ledger dies before it signs: the alarm signs it, and it is revoked", async () => {
    const { id, issued } = await signing("race-reserved");
    await runInDurableObject(ledgerStub(ledgerId), (_, { storage }) => {
      const { tbs } = parseCertificate(issued.der);
      const reserved = "update entries set state = 0, acknowledged = 0, der = null, tbs = ? where serial = ?";
      storage.sql.exec(reserved, tbs, issued.serial);
    });
    expect((await revoke(id, "superseded")).status).toBe(200);
    expect(await statusesOf(issued.serial)).toEqual(["unknown"]);
    await handOver();
    expect(await statusesOf(issued.serial)).toMatchObject([{ reason: "superseded" }]);
    expect((await versions(id)).get(issued.serial)).toBe("superseded");
  });

  it("settled between the ledger's answer and the batch of the revocation", async () => {
    const { id, first, issued } = await signing("race-between");
    const ctx = contextAhead();
    // The ledger has revoked what was named; before the inventory knows, the renewal is written down.
    const slow = new Proxy(ledgerOf(ctx, ledgerId), {
      get: (real, method) =>
        method === "revoke"
          ? async (...args: Parameters<typeof real.revoke>) => {
              const answer = await real.revoke(...args);
              if (args[0].includes(first)) await settle(issued);
              return answer;
            }
          : Reflect.get(real, method),
    });
    const ISSUER = { getByName: () => slow } as unknown as DurableObjectNamespace;
    await revokeCertificate({ ...ctx, bindings: { ...ctx.bindings, ISSUER } }, id, "superseded");
    expect(await statusesOf(first, issued.serial)).toMatchObject([{ reason: "superseded" }, { reason: "superseded" }]);
    expect((await versions(id)).get(issued.serial)).toBe("superseded");
  });
});

it("inv 4: a revocation that a renewal has followed neither changes nor keeps a hold from being lifted", async () => {
  const { id, serial: first } = await issueFor(fleet, "followed");
  expect((await revoke(id, "superseded")).status).toBe(200);
  // The renewal comes in a later second.
  const earlier = new Date(Math.floor(Date.now() / 1000) * 1000 - 60_000).toISOString();
  await env.DB.prepare("update certificate_versions set revoked_at = ? where serial_number = ?")
    .bind(earlier, first)
    .run();
  const { body } = await fleet.admin.post<{ job_id: string }>(`/api/v1/certificates/${id}/renew`);
  const csr_pem = await makeCsr({ commonName: "followed.example.test" });
  const answer = await fleet.agent.post(`/api/v1/agents/${fleet.agentId}/csr`, { csr_pem, job_id: body.job_id });
  expect(answer.status, JSON.stringify(answer.body)).toBe(202);
  expect((await findJob(contextAhead(), body.job_id))?.status).toBe("Completed");
  const second = [...(await versions(id)).keys()].find((serial) => serial !== first) ?? "";
  expect((await revoke(id, "certificateHold")).status).toBe(200);
  expect(await statusesOf(first, second)).toMatchObject([{ reason: "superseded" }, { reason: "certificateHold" }]);
  expect((await fleet.admin.post(`/api/v1/certificates/${id}/release-hold`)).status).toBe(200);
  expect(await statusesOf(first, second)).toMatchObject([{ reason: "superseded" }, "good"]);
  expect((await revoke(id, "keyCompromise")).status).toBe(200);
  expect(await statusesOf(first, second)).toMatchObject([{ reason: "superseded" }, { reason: "keyCompromise" }]);
  expect(await fleet.admin.post(`/api/v1/certificates/${id}/release-hold`)).toMatchObject({ status: 409 });
});
