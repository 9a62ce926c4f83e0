import { describe, expect, it } from "vitest";
import type { Issuer } from "../../durable-objects/issuer.ts";
import type { LedgerProblem } from "../../src/authority/ledger-inventory.ts";
import { crlKey } from "../../src/authority/ledger-places.ts";
import { factOf } from "../../src/authority/local/marks.ts";
import { NO_INVENTORY } from "../support/inventory.ts";
import { BYTES, expectOk, inside, issueOne, newRoot } from "./support.ts";

const HOUR_MS = 3_600_000;

/** A ledger whose clock goes from alarm to alarm, and what it reports. */
async function newWatched() {
  const made = await newRoot();
  let now = Date.now();
  const reports: (readonly LedgerProblem[])[] = [];
  await inside(made.stub, (issuer) => {
    issuer.clock = { now: () => new Date(now) };
    Object.assign(issuer.core, { log: { info() {}, warn() {}, error() {} } });
    issuer.core.inventory = { ...NO_INVENTORY, report: async (_, problems) => void reports.push(problems) };
  });
  /** Rings when the ledger wants it. */
  const ring = async (issuer: Issuer): Promise<void> => {
    now = Math.max(now, issuer.core.alarmAt ?? now);
    await issuer.alarm();
  };
  return { ...made, reports, ring, pass: (ms: number) => (now += ms) };
}

function unsettled(issuer: Issuer): number {
  return issuer.core.sql.exec("select 1 from entries where acknowledged = 0").toArray().length;
}

describe("what the ledger's alarm cannot do", () => {
  it("is tried again ever more seldom, every five minutes in the end, and reported until it works", async () => {
    const { id, ledger, stub, reports, ring } = await newWatched();
    const { serial } = await issueOne(ledger, "job-1");
    const before = await BYTES.head(crlKey(id, 0));
    await inside(stub, async (issuer) => {
      while (unsettled(issuer) > 0) await ring(issuer);
    });
    expectOk(await ledger.revoke([serial], null));
    await inside(stub, async (issuer) => {
      const { bytes } = issuer.core;
      const attempts: number[] = [];
      const head = () => {
        attempts.push(issuer.core.clock.now().getTime());
        return Promise.reject(new Error("the store is away"));
      };
      Object.assign(issuer.core, { bytes: { head } });
      while (attempts.length < 12) await ring(issuer);
      const waits = attempts.slice(1).map((at, i) => Math.round((at - (attempts[i] ?? 0)) / 1000));
      expect(waits).toEqual([5, 10, 20, 40, 80, 160, 300, 300, 300, 300, 300]);
      expect(reports).toHaveLength(1);
      expect(reports[0]).toMatchObject([{ task: "list:0", error: "Error: the store is away" }]);
      // Changes that come meanwhile do not hurry what fails.
      expectOk(await issuer.revoke([serial], "keyCompromise"));
      await ring(issuer);
      expect(attempts).toHaveLength(12);
      Object.assign(issuer.core, { bytes });
      while ((reports.at(-1) ?? []).length > 0) await ring(issuer);
    });
    expect(reports.at(-1)).toEqual([]);
    expect((await BYTES.head(crlKey(id, 0)))?.etag).not.toBe(before?.etag);
  });

  it("inv 6: what the inventory never takes is handed over once an hour in the end, and reported until it is taken", async () => {
    const { ledger, stub, reports, ring } = await newWatched();
    await issueOne(ledger, "job-1");
    await inside(stub, async (issuer) => {
      let hopeless = true;
      const waits: number[] = [];
      let last = issuer.core.clock.now().getTime();
      issuer.core.inventory.settle = async (_, issued) => {
        waits.push(Math.round((issuer.core.clock.now().getTime() - last) / 1000));
        last = issuer.core.clock.now().getTime();
        return hopeless ? [] : issued.map(factOf);
      };
      while (waits.length < 14) await ring(issuer);
      expect(waits.slice(1)).toEqual([5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600]);
      expect(reports.at(-1)).toMatchObject([{ task: "outbox", error: expect.stringContaining("1 entries") }]);
      hopeless = false;
      while ((reports.at(-1) ?? []).length > 0) await ring(issuer);
      expect(unsettled(issuer)).toBe(0);
    });
  });

  it("inv 6: an inventory that is away for a day gets everything within minutes of its return", async () => {
    const { ledger, stub, reports, ring } = await newWatched();
    await issueOne(ledger, "job-1");
    await inside(stub, async (issuer) => {
      let away = true;
      let calls = 0;
      const now = () => issuer.core.clock.now().getTime();
      issuer.core.inventory.settle = async (_, issued) => {
        calls++;
        if (away) throw new Error("the database is away");
        return issued.map(factOf);
      };
      for (const end = now() + 20 * HOUR_MS; now() < end; ) await ring(issuer);
      // Every five minutes: 240 in twenty hours.
      expect(calls).toBeLessThan(260);
      expect(reports.at(-1)).toMatchObject([{ task: "inventory", error: "Error: the database is away" }]);
      away = false;
      const back = now();
      while (unsettled(issuer) > 0) await ring(issuer);
      expect(now() - back).toBeLessThanOrEqual(300_000);
      expect(reports.at(-1)).toEqual([]);
    });
  });

  it("is reported again when the inventory did not hear of it", async () => {
    const { stub, reports, ring, pass } = await newWatched();
    await inside(stub, async (issuer) => {
      const { inventory } = issuer.core;
      let deaf = true;
      issuer.core.inventory = {
        ...inventory,
        report: (id, problems) => (deaf ? Promise.reject(new Error("deaf")) : inventory.report(id, problems)),
      };
      Object.assign(issuer.core, { bytes: { head: () => Promise.reject(new Error("the store is away")) } });
      issuer.core.sql.exec("update crls set due_at = 0");
      await issuer.alarm();
      pass(300_000);
      await issuer.alarm();
      expect(reports).toEqual([]);
      deaf = false;
      await ring(issuer);
      expect(reports).toMatchObject([[{ task: "list:0" }]]);
    });
  });
});
