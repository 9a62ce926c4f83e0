import { runInDurableObject } from "cloudflare:test";
import { env, exports } from "cloudflare:workers";
import { afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { fromHex, toHex } from "../../src/pki/bytes.ts";
import { taggedSerial } from "../../src/pki/certificate.ts";
import { actorWith, newActor, roleWith } from "../support/actors.ts";
import { auditCount, type Client } from "../support/api.ts";
import { makeCsr } from "../support/csr.ts";
import { type Fleet, makeFleet } from "../support/fleet.ts";
import { importedIssuer, randomSerialNumber } from "../support/outside-ca.ts";
import { ocspStatus, publishedCrl } from "../support/public-pki.ts";

const YESTERDAY = new Date(Date.now() - 86_400_000).toISOString();
const NDJSON = { "Content-Type": "application/x-ndjson" };
let fleet: Fleet;
let api: Client;

beforeAll(async () => {
  fleet = await makeFleet();
  api = fleet.admin;
});

afterEach(() => {
  vi.useRealTimers();
});

const serial = () => toHex(randomSerialNumber());
const lines = (...of: unknown[]) => of.map((one) => (typeof one === "string" ? one : JSON.stringify(one))).join("\n");
const send = (id: string, kind: "issued" | "revocations", text: string, by = api) =>
  by.post(`/api/v1/issuers/${id}/${kind}`, text, NDJSON);
const revoke = (id: string, body: Record<string, unknown>, by = api) =>
  by.post(`/api/v1/issuers/${id}/revoke-serial`, body);

interface CaRow {
  readonly ledger_id: string;
  readonly serial_key: string | null;
}

async function rowOf(caId: string): Promise<CaRow> {
  const row = await env.DB.prepare("select ledger_id, serial_key from certificate_authorities where ca_id = ?")
    .bind(caId)
    .first<CaRow>();
  if (!row) throw new Error(`no CA ${caId}`);
  return row;
}

/** What OCSP says once the answers that were in memory are over (docs/revocation.md). */
const becomes = (id: string, one: string, status: string) =>
  expect.poll(() => ocspStatus(id, one), { timeout: 30_000, interval: 200 }).toBe(status);

async function importsOf(caId: string): Promise<number | undefined> {
  const { ISSUER } = env as unknown as { ISSUER: DurableObjectNamespace };
  return runInDurableObject(ISSUER.getByName((await rowOf(caId)).ledger_id), (_, state) => {
    return state.storage.sql.exec<{ imports: number }>("select imports from serial_key").one().imports;
  });
}

describe("lines of what a CA issued before", () => {
  it("are taken in batches; what is wrong is told by its line, and all may be sent again", async () => {
    const { id } = await importedIssuer(api, { revoked: 0 });
    const serials = Array.from({ length: 5_000 }, serial);
    expect(await ocspStatus(id, serials[0] ?? "")).toBe("unknown");
    const text = lines(
      ...serials.map((one) => ({ serial: one, not_before: YESTERDAY, names: ["a.example"] })),
      "",
      "{",
      { serial: "zz" },
      { serial_number: serials[0], colour: 1 },
      { not_before: YESTERDAY },
      "x".repeat(70_000),
    );
    const first = await send(id, "issued", text);
    expect(first, JSON.stringify(first.body)).toMatchObject({
      status: 200,
      body: {
        lines: 5_005,
        added: 5_000,
        revoked: 0,
        known: 0,
        failed: 5,
        errors: [
          { line: 5_002, message: expect.stringContaining("is not JSON") },
          { line: 5_003, message: "serial: must be a serial number in hex" },
          { line: 5_004, message: "colour: is not a field of an entry" },
          { line: 5_005, message: "serial_number: is missing" },
          { line: 5_006, message: expect.stringContaining("longer than") },
        ],
      },
    });
    for (const one of [serials[0], serials[2_500], serials[4_999]]) await becomes(id, one ?? "", "good");
    expect(await ocspStatus(id, serial())).toBe("unknown");
    expect((await send(id, "issued", text)).body).toMatchObject({ added: 0, known: 5_000, failed: 5 });
    expect(await auditCount("issuer.import_begun", id)).toBe(2);
    expect(await auditCount("issuer.import", id)).toBe(2);
  });

  it("stand for revocations too: of known and unknown serials, the first date stays", async () => {
    const { id } = await importedIssuer(api, { revoked: 0 });
    const [good, alone, held] = [serial(), serial(), serial()];
    await send(id, "issued", lines({ serial: good }, { serial: held }));
    const body = lines(
      { serial: good, revoked_at: YESTERDAY, reason: "superseded" },
      { serial_number: alone, revoked_at: YESTERDAY },
      { serial_number: held, revoked_at: YESTERDAY, reason: "certificateHold" },
      { serial_number: serial(), revoked_at: new Date(Date.now() + 3_600_000).toISOString() },
    );
    expect((await send(id, "revocations", body)).body).toMatchObject({
      added: 1,
      revoked: 2,
      failed: 1,
      errors: [{ line: 4, message: "revoked_at: lies in the future" }],
    });
    expect(await ocspStatus(id, good)).toBe("revoked 4");
    expect(await ocspStatus(id, alone)).toBe("revoked 0");
    expect(await ocspStatus(id, held)).toBe("revoked 6");
    const later = lines(
      { serial: good, revoked_at: YESTERDAY, reason: "cessationOfOperation" },
      { serial: held, revoked_at: YESTERDAY, reason: "superseded" },
    );
    expect((await send(id, "revocations", later)).body).toMatchObject({ revoked: 1, known: 1 });
    await becomes(id, held, "revoked 4");
    await expect.poll(async () => (await publishedCrl(id)).entryCount, { timeout: 30_000, interval: 200 }).toBe(3);
  });

  it("inv 7: stop when whoever sends them may no more; what was taken stays", async () => {
    const { id } = await importedIssuer(api, { revoked: 0 });
    const { client, actorId } = await newActor([{ role_id: "r-admin" }]);
    const serials = Array.from({ length: 4_000 }, serial);
    const text = (from: number) => lines(...serials.slice(from, from + 2_000).map((one) => ({ serial: one })), "");
    const body = new TransformStream<Uint8Array, Uint8Array>();
    const writer = body.writable.getWriter();
    const headers = { Authorization: `Bearer ${client.key}`, ...NDJSON };
    const init = { method: "POST", headers, body: body.readable, duplex: "half" };
    const url = `http://localhost/api/v1/issuers/${id}/issued`;
    const pending = exports.default.fetch(new Request(url, init as RequestInit));
    await writer.write(new TextEncoder().encode(text(0)));
    await becomes(id, serials[0] ?? "", "good");
    expect((await api.delete(`/api/v1/auth/keys/${actorId}`)).status).toBe(204);
    vi.setSystemTime(Date.now() + 2_000);
    await writer.write(new TextEncoder().encode(text(2_000)));
    await writer.close();
    expect((await pending).status).toBe(401);
    vi.useRealTimers();
    expect(await ocspStatus(id, serials[1_999] ?? "")).toBe("good");
    expect(await ocspStatus(id, serials[3_999] ?? "")).toBe("unknown");
    expect(await auditCount("issuer.import", id)).toBe(1);
  });

  it("open a CA whose serials all carried the tag so far", async () => {
    const id = fleet.issuerId;
    expect((await rowOf(id)).serial_key).not.toBeNull();
    expect(await importsOf(id)).toBe(0);
    const one = serial();
    expect(await ocspStatus(id, one)).toBe("unknown");
    expect((await send(id, "issued", lines({ serial: one }))).body).toMatchObject({ added: 1 });
    expect((await rowOf(id)).serial_key).toBeNull();
    expect(await importsOf(id)).toBe(1);
    await becomes(id, one, "good");
    expect(await ocspStatus(id, serial())).toBe("unknown");
  });

  it("need the right type, issuer, CA and permissions", async () => {
    const { id } = await importedIssuer(api, { revoked: 0 });
    const path = `/api/v1/issuers/${id}/issued`;
    expect((await api.post(path, { serial: "0a" })).status).toBe(415);
    expect((await send("absent-0", "issued", "")).status).toBe(404);
    expect((await api.post(`${path}?ca_id=absent-0`, "{}", NDJSON)).status).toBe(400);
    const editor = await actorWith([{ role_id: await roleWith(["issuer.edit"]) }]);
    expect((await send(id, "issued", lines({ serial: "0a" }), editor)).status).toBe(200);
    const revoked = lines({ serial: "0a", revoked_at: YESTERDAY });
    expect((await send(id, "revocations", revoked, editor)).status).toBe(403);
    const waiting = await api.create<{ id: string }>("/api/v1/issuers", {
      name: "Waiting",
      type: "GenericCA",
      config: { subordinate: true, ca_common_name: "Waiting" },
    });
    expect((await send(waiting.id, "issued", lines({ serial: "0a" }))).status).toBe(409);
  });
});

describe("revoking by serial", () => {
  it("reaches what was brought in, and what a CA with a past never told of", async () => {
    const { id } = await importedIssuer(api, { revoked: 0 });
    const [known, unknown] = [serial(), serial()];
    await send(id, "issued", lines({ serial: known, names: ["a.example"], subject: "CN=a.example" }));
    const spelled = known.match(/../g)?.join(":").toUpperCase();
    const first = await revoke(id, { serial_number: spelled, reason: "keyCompromise" });
    expect(first).toMatchObject({
      status: 200,
      body: {
        status: "revoked",
        ca_id: id,
        serial_number: known,
        reason: "keyCompromise",
        certificate_id: null,
        names: ["a.example"],
        subject: "CN=a.example",
      },
    });
    const again = await revoke(id, { serial_number: known });
    expect(again.body.revoked_at).toBe(first.body.revoked_at);
    expect(await revoke(id, { serial_number: known, reason: "superseded" })).toMatchObject({
      status: 400,
      body: { error: "already_revoked" },
    });
    expect((await revoke(id, { serial_number: unknown, reason: "superseded" })).status).toBe(200);
    expect(await ocspStatus(id, known)).toBe("revoked 1");
    expect(await ocspStatus(id, unknown)).toBe("revoked 4");
    expect(await auditCount("issuer.revoke_serial", id)).toBe(3);
    await expect.poll(async () => (await publishedCrl(id)).entryCount, { timeout: 30_000, interval: 200 }).toBe(2);
  });

  it("is a 404 for what a CA made here never issued, but not for a tag of its own that it lost", async () => {
    const made = await api.create<{ id: string }>("/api/v1/issuers", { name: "No Past", type: "GenericCA" });
    expect(await revoke(made.id, { serial_number: serial() })).toMatchObject({
      status: 404,
      body: { error: "not_issued" },
    });
    const key = fromHex((await rowOf(made.id)).serial_key ?? "");
    const lost = toHex(taggedSerial((length) => crypto.getRandomValues(new Uint8Array(length)), key));
    expect((await revoke(made.id, { serial_number: lost })).status).toBe(200);
    expect(await ocspStatus(made.id, lost)).toBe("revoked 0");
    expect((await rowOf(made.id)).serial_key).not.toBeNull();
  });

  it("is the record's revocation where there is one, and finds the CA below by the tag", async () => {
    const made = await api.create<{ id: string }>("/api/v1/issuers", { name: "With Records", type: "GenericCA" });
    const below = await api.create<{ id: string; serial_number: string }>(`/api/v1/issuers/${made.id}/intermediates`, {
      name: "Signs Leaves",
    });
    await api.put(`/api/v1/issuers/${made.id}`, { config: { issuing_ca_id: below.id } });
    const record = await api.create<{ id: string }>("/api/v1/certificates", {
      ...fleet.record,
      name: "by serial",
      common_name: "serial.example.com",
      sans: [],
      issuer_id: made.id,
      target_ids: [fleet.targetId],
    });
    await api.post(`/api/v1/certificates/${record.id}/renew`);
    const csr_pem = await makeCsr({ commonName: "serial.example.com" });
    await fleet.agent.post(`/api/v1/agents/${fleet.agentId}/csr`, { certificate_id: record.id, csr_pem });
    const versions = await api.get<{ data: { serial_number: string }[] }>(`/api/v1/certificates/${record.id}/versions`);
    const issued = versions.body.data[0]?.serial_number ?? "";
    expect(await revoke(made.id, { serial_number: issued, reason: "superseded" })).toMatchObject({
      status: 200,
      body: { ca_id: below.id, certificate_id: record.id },
    });
    expect((await api.get(`/api/v1/certificates/${record.id}`)).body).toMatchObject({ status: "Revoked" });
    expect(await ocspStatus(below.id, issued)).toBe("revoked 4");
    expect(await revoke(made.id, { serial_number: below.serial_number })).toMatchObject({
      status: 400,
      body: { message: expect.stringContaining("retire it") },
    });
  });

  it("needs cert.revoke and issuer.edit, and a serial", async () => {
    const { id } = await importedIssuer(api, { revoked: 0 });
    for (const permission of ["cert.revoke", "issuer.edit"]) {
      const actor = await actorWith([{ role_id: await roleWith([permission]) }]);
      expect((await revoke(id, { serial_number: "0a" }, actor)).status, permission).toBe(403);
    }
    expect((await revoke(id, { serial_number: "not hex" })).status).toBe(400);
    expect((await revoke(id, { serial_number: `1${"0".repeat(40)}` })).status).toBe(400);
    expect((await revoke(id, { serial_number: "0a", ca_id: "absent-0" })).status).toBe(400);
  });
});
