import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { createIssuer } from "../../src/authority/issuers/issuers.ts";
import { ledgerOf } from "../../src/authority/ledger.ts";
import { crlPrefix } from "../../src/authority/ledger-places.ts";
import { genericCaConfig } from "../../src/authority/local/config.ts";
import { endLedgers, recordLedgers } from "../../src/authority/local/ledgers.ts";
import type { Bindings } from "../../src/platform/context.ts";
import { administrator, type Client } from "../support/api.ts";
import { contextAhead } from "../support/context.ts";
import { ledgerIdOf } from "../support/ledgers.ts";

const bindings = env as unknown as Bindings;
const HOUR = 3_600;

let api: Client;

beforeAll(async () => {
  api = await administrator();
});

async function ledgersOnRecord(): Promise<string[]> {
  const { results } = await bindings.DB.prepare("select id from ledgers order by created_at, id").all<{ id: string }>();
  return results.map((row) => row.id);
}

async function lists(id: string): Promise<number> {
  return (await bindings.BYTES.list({ prefix: crlPrefix(id) })).objects.length;
}

async function sweep(seconds: number): Promise<void> {
  let cursor: string | null = null;
  do cursor = await endLedgers(contextAhead(seconds), cursor);
  while (cursor !== null);
}

function newIssuer(name: string) {
  return api.post<{ id: string }>("/api/v1/issuers", { name, type: "GenericCA" });
}

describe("the ledgers that a sweep ends", () => {
  it("are those of a deleted issuer, its intermediates' among them, and no other", async () => {
    const [kept, gone] = [(await newIssuer("Kept")).body.id, (await newIssuer("Gone")).body.id];
    const below = await api.create<{ id: string }>(`/api/v1/issuers/${gone}/intermediates`, { name: "Below Gone" });
    const ids = await Promise.all([kept, gone, below.id].map(ledgerIdOf));
    const [keptId = "", goneId = "", belowId = ""] = ids;
    await sweep(2 * HOUR);
    expect(await ledgersOnRecord()).toEqual(expect.arrayContaining(ids));
    await api.post(`/api/v1/intermediates/${below.id}/retire`);
    await api.post(`/api/v1/intermediates/${below.id}/retire`, { confirm: true });
    expect((await api.delete(`/api/v1/issuers/${gone}`)).status).toBe(204);
    await sweep(2 * HOUR);
    // The CA below has signed nothing; the one above has signed it, and answers for it as long as it is valid.
    expect(await lists(belowId)).toBe(0);
    expect(await lists(goneId)).toBe(1);
    expect(await ledgersOnRecord()).toEqual(expect.arrayContaining([keptId, goneId]));
    expect(await ledgersOnRecord()).not.toContain(belowId);
    const { ends_at } = (await ledgerOf({ bindings }, goneId).end()) as { ends_at: string };
    const seconds = (Date.parse(ends_at) - Date.now()) / 1000;
    const row = await bindings.DB.prepare("select ending_at from ledgers where id = ?").bind(goneId).first();
    expect(row).toEqual({ ending_at: ends_at });
    // The sweep asks again then, and not before: what the ledger answers goes by its own clock.
    await sweep(seconds - 60);
    expect(await bindings.DB.prepare("select ending_at from ledgers where id = ?").bind(goneId).first()).toEqual(row);
    expect(await lists(keptId)).toBe(1);
    expect((await ledgerOf({ bindings }, keptId).describe())?.state).toBe("active");
    const { results } = await bindings.DB.prepare(
      "select resource_id from audit_events where action = 'ledger.end'",
    ).all();
    expect(results).toEqual([{ resource_id: belowId }]);
  });

  it("are those of creations that lost a race or died", async () => {
    const before = await ledgersOnRecord();
    const answers = await Promise.all([newIssuer("Twice"), newIssuer("Twice")]);
    expect(answers.map((answer) => answer.status).sort()).toEqual([201, 409]);
    const winner = await ledgerIdOf(answers.find((answer) => answer.status === 201)?.body.id ?? "");
    // As one that dies after its key was made: the rows never come.
    const dead = "led-deadwhilebeingmade";
    await bindings.DB.prepare("insert into ledgers (id, created_at) values (?, ?)")
      .bind(dead, new Date().toISOString())
      .run();
    await ledgerOf({ bindings }, dead).createRoot({
      ledger_id: dead,
      ca_id: "iss-dead",
      crl_shards: 1,
      pss: false,
      subject: { common_name: "Dead" },
      algorithm: "ECDSA-P256",
      ttl_seconds: 86_400,
      path_len: 0,
    });
    expect(await lists(dead)).toBe(1);
    const begun = (await ledgersOnRecord()).filter((id) => !before.includes(id) && id !== winner);
    await sweep(60);
    expect(await ledgersOnRecord()).toEqual(expect.arrayContaining(begun));
    await sweep(2 * HOUR);
    const left = await ledgersOnRecord();
    expect(left.filter((id) => begun.includes(id))).toEqual([]);
    expect(left).toContain(winner);
    expect(await Promise.all([...begun, winner].map(lists))).toEqual([...begun.map(() => 0), 1]);
  });

  it("are given up for good: a creation that comes back too late is refused", async () => {
    const ctx = contextAhead();
    let ledgerId = "";
    const getByName = (id: string) => {
      ledgerId = id;
      const ledger = ledgerOf({ bindings }, id);
      const createRoot: typeof ledger.createRoot = async (request) => {
        const answer = await ledger.createRoot(request);
        await sweep(2 * HOUR);
        return answer;
      };
      return { createRoot };
    };
    const late = { ...ctx, bindings: { ...ctx.bindings, ISSUER: { getByName } as unknown as DurableObjectNamespace } };
    const config = genericCaConfig.parse({});
    const creation = createIssuer(late, { id: undefined, name: "Late", type: "GenericCA", config, enabled: true });
    await expect(creation).rejects.toMatchObject({ status: 409 });
    expect((await api.get("/api/v1/issuers/iss-late")).status).toBe(404);
    expect(await lists(ledgerId)).toBe(0);
    expect(await ledgersOnRecord()).not.toContain(ledgerId);
  });

  it("are also those that only the object store knows", async () => {
    const { id } = (await newIssuer("Unknown")).body;
    const ledgerId = await ledgerIdOf(id);
    await bindings.DB.prepare("delete from ledgers where id = ?").bind(ledgerId).run();
    expect((await api.delete(`/api/v1/issuers/${id}`)).status).toBe(204);
    await sweep(2 * HOUR);
    expect(await lists(ledgerId)).toBe(1);
    let cursor: string | null = null;
    do cursor = await recordLedgers(contextAhead(), cursor);
    while (cursor !== null);
    expect(await ledgersOnRecord()).toContain(ledgerId);
    await sweep(2 * HOUR);
    expect(await lists(ledgerId)).toBe(0);
    expect(await ledgersOnRecord()).not.toContain(ledgerId);
  });

  it("are none while the database gets back what it lost in a restore", async () => {
    const { id } = (await newIssuer("Restored")).body;
    const ledgerId = await ledgerIdOf(id);
    expect((await api.delete(`/api/v1/issuers/${id}`)).status).toBe(204);
    await bindings.DB.prepare(
      "insert into inventory_state (id, beat, recovering_since) values (1, 1, '2026-01-01T00:00:00.000Z')",
    ).run();
    await sweep(2 * HOUR);
    expect(await lists(ledgerId)).toBe(1);
    await bindings.DB.prepare("update inventory_state set recovering_since = null").run();
    await sweep(2 * HOUR);
    expect(await lists(ledgerId)).toBe(0);
  });
});
