import { evictDurableObject, runDurableObjectAlarm } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import { crlPrefix } from "../../src/authority/ledger-places.ts";
import { NO_INVENTORY } from "../support/inventory.ts";
import { BYTES, expectOk, inside, issueOne, leafRequest, newLedger, newRoot, setClock } from "./support.ts";

const HOUR_MS = 3_600_000;

async function lists(id: string): Promise<string[]> {
  return (await BYTES.list({ prefix: crlPrefix(id) })).objects.map((object) => object.key);
}

/** What is left of an object: its tables and its alarm. */
function rest(stub: Parameters<typeof inside>[0]) {
  return inside(stub, async (_, { storage }) => ({
    tables: storage.sql.exec("select name from sqlite_master where name not like '\\_cf%' escape '\\'").toArray(),
    alarm: await storage.getAlarm(),
  }));
}

describe("a ledger that nobody has a CA of", () => {
  it("inv 4: signs no more, publishes until its last certificate has expired, and leaves nothing behind", async () => {
    const { id, ledger, stub } = await newRoot({ crl_shards: 2 });
    const issued = await issueOne(ledger, "job-1", { ttl_seconds: 7_200 });
    await inside(stub, (issuer) => {
      issuer.core.inventory = NO_INVENTORY;
    });
    expect(await ledger.end()).toEqual({ ok: true, ends_at: issued.not_after });
    expect((await ledger.issue([await leafRequest("job-2")]))[0]).toMatchObject({ ok: false, code: "ca_not_active" });
    expectOk(await ledger.revoke([issued.serial], "superseded"));
    await setClock(stub, Date.now() + 25_000);
    // Once for what its own alarm may be at, once for the rest.
    for (let i = 0; i < 2; i++) await inside(stub, (issuer) => issuer.alarm());
    expect((await ledger.crls()).filter((list) => list.entries === 1)).toHaveLength(2);
    expect(await lists(id)).toHaveLength(3);

    await setClock(stub, Date.parse(issued.not_after) - 1);
    expect(await ledger.end()).toMatchObject({ ends_at: issued.not_after });
    await setClock(stub, Date.parse(issued.not_after));
    expect(await ledger.end()).toEqual({ ok: true, ends_at: null });
    expect(await rest(stub)).toEqual({ tables: [], alarm: null });
    expect(await lists(id)).toEqual([]);
    // An alarm that was on its way finds nothing to do, and brings nothing back.
    await inside(stub, (issuer) => issuer.alarm());
    expect(await runDurableObjectAlarm(stub)).toBe(false);
    expect(await lists(id)).toEqual([]);
    await evictDurableObject(stub);
    expect(await ledger.end()).toEqual({ ok: true, ends_at: null });
    expect((await rest(stub)).tables).toEqual([]);
  });

  it("ends at once when it signed nothing, and when it was never made", async () => {
    const { id, ledger, stub } = await newRoot();
    expect(await lists(id)).toHaveLength(1);
    expect(await ledger.end()).toEqual({ ok: true, ends_at: null });
    expect(await lists(id)).toEqual([]);
    expect(await rest(stub)).toEqual({ tables: [], alarm: null });
    const never = newLedger();
    expect(await never.ledger.end()).toEqual({ ok: true, ends_at: null });
    expect(await rest(never.stub)).toEqual({ tables: [], alarm: null });
  });

  it("ends while a list is built, and publishes none after that", async () => {
    const { id, ledger, stub } = await newRoot({ crl_shards: 8 });
    await inside(stub, async (issuer, state) => {
      state.storage.sql.exec("update crls set due_at = 0");
      await Promise.all([issuer.alarm(), issuer.end()]);
    });
    expect(await lists(id)).toEqual([]);
    expect(await rest(stub)).toEqual({ tables: [], alarm: null });
    expect(await ledger.end()).toMatchObject({ ends_at: null });
  });

  it("goes on when the inventory has the CA all the same, or cannot be asked", async () => {
    const { id, ledger, stub } = await newRoot();
    await inside(stub, (issuer) => {
      issuer.core.inventory = { ...NO_INVENTORY, ca: async () => ({ state: "active", chain: [] }) };
    });
    expect(await ledger.end()).toMatchObject({ ok: false, code: "ca_exists" });
    await inside(stub, async (issuer) => {
      issuer.core.inventory = { ...NO_INVENTORY, ca: () => Promise.reject(new Error("away")) };
      await expect(issuer.end()).rejects.toThrow("away");
    });
    expect((await ledger.describe())?.state).toBe("active");
    expect(await lists(id)).toHaveLength(1);
    await setClock(stub, Date.now() + 13 * HOUR_MS);
    expect(await runDurableObjectAlarm(stub)).toBe(true);
    expect((await ledger.crls())[0]?.last_error).toBeNull();
  });
});
