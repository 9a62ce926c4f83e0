import { env } from "cloudflare:workers";
import { beforeAll, expect, it } from "vitest";
import { toHex } from "../../src/pki/bytes.ts";
import { administrator, type Client } from "../support/api.ts";
import { importedIssuer, randomSerialNumber } from "../support/outside-ca.ts";
import { ocspStatus } from "../support/public-pki.ts";
import { ledgerStub, rewindDatabase, rewindLedger, saveDatabase, saveLedger } from "../support/rewind.ts";

/** What was brought in is in no inventory, and yet a restore loses none of it. */

const YESTERDAY = new Date(Date.now() - 86_400_000).toISOString();
let api: Client;

beforeAll(async () => {
  api = await administrator();
});

const serial = () => toHex(randomSerialNumber());

async function send(id: string, kind: "issued" | "revocations", ...lines: unknown[]) {
  const text = lines.map((line) => JSON.stringify(line)).join("\n");
  const answer = await api.post(`/api/v1/issuers/${id}/${kind}`, text, { "Content-Type": "application/x-ndjson" });
  expect(answer, JSON.stringify(answer.body)).toMatchObject({ status: 200, body: { failed: 0 } });
}

async function revoke(id: string, serial_number: string): Promise<void> {
  const answer = await api.post(`/api/v1/issuers/${id}/revoke-serial`, { serial_number, reason: "superseded" });
  expect(answer, JSON.stringify(answer.body)).toMatchObject({ status: 200 });
}

async function ledgerIdOf(caId: string): Promise<string> {
  const row = await env.DB.prepare("select ledger_id from certificate_authorities where ca_id = ?")
    .bind(caId)
    .first<{ ledger_id: string }>();
  return row?.ledger_id ?? "";
}

const becomes = (id: string, one: string, status: string) =>
  expect.poll(() => ocspStatus(id, one), { timeout: 30_000, interval: 200 }).toBe(status);

it("inv 4: a ledger that was restored takes back what was brought in and revoked by serial since", async () => {
  const { id } = await importedIssuer(api, { revoked: 0 });
  const ledgerId = await ledgerIdOf(id);
  const [before, good, revoked, later, unknown] = [serial(), serial(), serial(), serial(), serial()];
  await send(id, "issued", { serial: before });
  const saved = await saveLedger(ledgerId);
  await send(id, "issued", { serial: good }, { serial: later });
  await send(id, "revocations", { serial: revoked, revoked_at: YESTERDAY, reason: "keyCompromise" });
  for (const one of [before, later, unknown]) await revoke(id, one);
  await rewindLedger(ledgerId, saved);
  for (const one of [before, later, unknown]) await becomes(id, one, "revoked 4");
  await becomes(id, revoked, "revoked 1");
  await becomes(id, good, "good");
  expect(await ocspStatus(id, serial())).toBe("unknown");
});

it("a database that was restored learns again that serials may come without a tag", async () => {
  const { id } = await api.create<{ id: string }>("/api/v1/issuers", { name: "Opened", type: "GenericCA" });
  const ledgerId = await ledgerIdOf(id);
  await send(id, "issued", { serial: serial() });
  const keyOf = () =>
    env.DB.prepare("select serial_key from certificate_authorities where ca_id = ?").bind(id).first("serial_key");
  const saved = await saveDatabase();
  for (const row of saved.get("certificate_authorities") ?? []) if (row.ca_id === id) row.serial_key = "00";
  for (const row of saved.get("ledger_marks") ?? []) if (row.ledger_id === ledgerId) row.seq = 1;
  await expect
    .poll(async () => (await ledgerStub(ledgerId).attune()) as unknown, { timeout: 10_000 })
    .toEqual({ ok: true, waiting: 0 });
  await rewindDatabase(saved);
  expect(await keyOf()).toBe("00");
  await ledgerStub(ledgerId).attune();
  await expect.poll(keyOf, { timeout: 30_000, interval: 200 }).toBeNull();
});
