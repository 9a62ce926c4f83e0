import { evictDurableObject, runDurableObjectAlarm } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import { crlKey } from "../../src/authority/ledger-places.ts";
import { factOf } from "../../src/authority/local/marks.ts";
import { type CrlEntry, parseCrl } from "../../src/pki/crl.ts";
import { BYTES, expectOk, inside, issueOne, newRoot, setClock } from "./support.ts";

async function listOf(ledgerId: string, shard = 0) {
  const object = await BYTES.get(crlKey(ledgerId, shard));
  if (!object) throw new Error("no list");
  return parseCrl(new Uint8Array(await object.arrayBuffer()));
}

const serials = (list: { entries: readonly CrlEntry[] }) => list.entries.map((entry) => entry.serial).sort();

describe("revoking", () => {
  it("inv 4: the very next lookup says so, the next list shows it, and neither un-shows it", async () => {
    const { id, ledger, stub } = await newRoot();
    const issued = await issueOne(ledger, "job-1");
    expect(await ledger.status(issued.serial)).toBe("good");
    expect(await ledger.status("0badc0de")).toBe("unknown");
    const result = expectOk(await ledger.revoke([issued.serial], "superseded"));
    expect(result.entries).toMatchObject([{ serial: issued.serial, changed: true, reason: "superseded" }]);
    const revoked = { reason: "superseded", revoked_at: result.entries[0]?.revoked_at };
    expect(await ledger.status(issued.serial)).toEqual(revoked);
    await setClock(stub, Date.now() + 3_000);
    await runDurableObjectAlarm(stub);
    expect((await listOf(id)).entries).toMatchObject([{ serial: issued.serial, reason: 4 }]);
    await evictDurableObject(stub);
    expect(await ledger.status(issued.serial)).toEqual(revoked);
  });

  it("inv 4: repeated, the first time and reason stand; only a hold or keyCompromise changes them", async () => {
    const { ledger } = await newRoot();
    const { serial } = await issueOne(ledger, "job-1");
    const first = expectOk(await ledger.revoke([serial], "superseded")).entries[0];
    for (const reason of ["superseded", null] as const) {
      expect(expectOk(await ledger.revoke([serial], reason)).entries).toEqual([{ ...first, changed: false }]);
    }
    for (const reason of ["unspecified", "certificateHold", "caCompromise"] as const) {
      expect(await ledger.revoke([serial], reason)).toMatchObject({ ok: false, code: "already_revoked" });
    }
    const worse = expectOk(await ledger.revoke([serial], "keyCompromise")).entries[0];
    expect(worse).toEqual({ ...first, reason: "keyCompromise", changed: true, mark: expect.anything() });
    expect(await ledger.release([serial])).toMatchObject({ ok: false, code: "not_on_hold" });
    expect(await ledger.revoke(["0badc0de"], null)).toMatchObject({
      code: "not_issued",
    });
  });

  it("inv 4: a hold can be lifted, comes off the list, and can become final", async () => {
    const { id, ledger, stub } = await newRoot();
    const a = await issueOne(ledger, "job-a");
    const b = await issueOne(ledger, "job-b", { certificate_id: "mc-b" });
    for (const { serial } of [a, b]) expectOk(await ledger.revoke([serial], "certificateHold"));
    await setClock(stub, Date.now() + 3_000);
    await runDurableObjectAlarm(stub);
    expect(serials(await listOf(id))).toEqual([a.serial, b.serial].sort());
    expectOk(await ledger.release([a.serial]));
    expectOk(await ledger.revoke([b.serial], "unspecified"));
    expect(await ledger.status(a.serial)).toBe("good");
    expect(await ledger.status(b.serial)).toMatchObject({ reason: "unspecified" });
    await setClock(stub, Date.now() + 10_000);
    await runDurableObjectAlarm(stub);
    expect((await listOf(id)).entries).toMatchObject([{ serial: b.serial, reason: 0 }]);
  });

  it("inv 4: of several, those change that may; what cannot stands in no other's way", async () => {
    const { ledger } = await newRoot();
    const [a, b] = [(await issueOne(ledger, "job-1")).serial, (await issueOne(ledger, "job-2")).serial];
    expectOk(await ledger.revoke([a], "superseded"));
    const held = expectOk(await ledger.revoke([a, b], "certificateHold"));
    expect(held.entries).toMatchObject([
      { serial: b, changed: true, reason: "certificateHold" },
      { serial: a, changed: false, reason: "superseded" },
    ]);
    expect(await ledger.release([a, b])).toMatchObject({ ok: false, code: "not_on_hold" });
    expect(expectOk(await ledger.release([b])).entries).toMatchObject([{ serial: b, revoked_at: null, changed: true }]);
  });

  it("inv 4: what has expired is not revoked any more, beside what has not", async () => {
    const { ledger, stub } = await newRoot();
    const short = await issueOne(ledger, "job-1", { ttl_seconds: 3_600 });
    const long = await issueOne(ledger, "job-2");
    await setClock(stub, Date.parse(short.not_after) + 1_000);
    expect(await ledger.revoke([short.serial], null)).toMatchObject({ ok: false, code: "expired" });
    const { entries } = expectOk(await ledger.revoke([short.serial, long.serial], null));
    expect(entries.map((entry) => entry.serial)).toEqual([long.serial]);
  });

  it("what waits to be handed over is found by its certificate: leaves that are signed", async () => {
    const { ledger, stub, ca } = await newRoot();
    const [a, b] = [await issueOne(ledger, "job-a"), await issueOne(ledger, "job-b")];
    await issueOne(ledger, "job-c", { certificate_id: "mc-other" });
    expect(await ledger.unsettled("mc-test")).toEqual([a.serial, b.serial]);
    await ledger.acknowledge([factOf(a)]);
    expect(await ledger.unsettled("mc-test")).toEqual([b.serial]);
    await inside(stub, (_, state) => void state.storage.sql.exec("update entries set state = 0 where state = 1"));
    expect(await ledger.unsettled("mc-test")).toEqual([]);
    // A record that bears the id of a CA reaches no CA.
    expect(await ledger.unsettled(ca.ca_id)).toEqual([]);
  });

  it("sets its alarm again when it was lost", async () => {
    const { ledger, stub } = await newRoot();
    await inside(stub, (_, state) => state.storage.deleteAlarm());
    await evictDurableObject(stub);
    await ledger.describe();
    await inside(stub, async (_, state) => expect(await state.storage.getAlarm()).not.toBeNull());
  });

  it("rests once its CA has ended: nothing is published and no alarm rings for it", async () => {
    const { ledger, stub } = await newRoot();
    await issueOne(ledger, "job-1");
    await setClock(stub, Date.now() + 366 * 86_400_000);
    await inside(stub, async (issuer, state) => {
      await state.storage.deleteAlarm();
      await issuer.alarm();
      expect(await state.storage.getAlarm()).toBeNull();
    });
  });

  it("inv 2: the list's number rises, also when the clock goes back and when a higher one is published already", async () => {
    const { id, ledger, stub } = await newRoot();
    const numbers = [(await listOf(id)).number ?? 0n];
    const base = Date.now();
    for (const [i, at] of [base + 10_000, base - 3_600_000, base + 20_000].entries()) {
      const { serial } = await issueOne(ledger, `job-${i}`);
      await setClock(stub, at);
      expectOk(await ledger.revoke([serial], null));
      await inside(stub, (_, state) => void state.storage.sql.exec("update crls set due_at = 0"));
      await runDurableObjectAlarm(stub);
      numbers.push((await listOf(id)).number ?? 0n);
    }
    expect(numbers).toEqual([...numbers].sort((x, y) => (x < y ? -1 : 1)));
    expect(new Set(numbers).size).toBe(4);
    // A ledger that was restored to an earlier point in time knows less than what it published.
    await inside(stub, (issuer, state) => {
      state.storage.sql.exec("update ca set crl_number = 1");
      state.storage.sql.exec("update crls set number = null, due_at = 0");
      issuer.core.ca = undefined;
      issuer.clock = { now: () => new Date(base - 7_200_000) };
    });
    await inside(stub, (issuer) => issuer.alarm());
    const [last = 0n] = numbers.slice(-1);
    expect((await listOf(id)).number).toBeGreaterThan(last);
  });

  it("no entry of a list is later than its thisUpdate, which lies back as far as that allows", async () => {
    const { id, ledger, stub } = await newRoot({ crl_shards: 2 });
    const base = Math.floor(Date.now() / 1000) * 1000 + 200;
    for (const [i, at] of [base + 10_000, base + 12_000, base + 75_000].entries()) {
      const { serial, shard } = await issueOne(ledger, `job-${i}`);
      await setClock(stub, at);
      expectOk(await ledger.revoke([serial], "certificateHold"));
      await setClock(stub, at + 25_000);
      await inside(stub, (issuer) => issuer.alarm());
      for (const list of [await listOf(id), await listOf(id, shard)]) {
        const newest = Math.max(...list.entries.map((entry) => entry.revokedAt.getTime()));
        expect(newest).toBe(at - 200);
        expect(list.thisUpdate.getTime()).toBe(newest);
      }
    }
    // A minute later nothing stands in the way of the minute that slow clocks are given.
    await setClock(stub, base + 300_000);
    await inside(stub, (issuer, state) => {
      state.storage.sql.exec("update crls set due_at = 0");
      return issuer.alarm();
    });
    expect((await listOf(id)).thisUpdate.getTime()).toBe(base + 240_000 - 200);
  });

  it("keeps an entry until a list that was made after the certificate's end has shown it", async () => {
    const { id, ledger, stub } = await newRoot();
    const issued = await issueOne(ledger, "job-1", { ttl_seconds: 3_600 });
    expectOk(await ledger.revoke([issued.serial], null));
    const end = Date.parse(issued.not_after);
    for (const [at, expected] of [
      [end - 60_000, [issued.serial]],
      [end + 120_000, [issued.serial]],
      [end + 240_000, []],
    ] as const) {
      await setClock(stub, at);
      await inside(stub, (issuer, state) => {
        state.storage.sql.exec("update crls set due_at = 0");
        return issuer.alarm();
      });
      expect(serials(await listOf(id))).toEqual(expected);
    }
    expect(await ledger.status(issued.serial)).toHaveProperty("revoked_at");
  });

  it("with partitions, a certificate's list is the one baked into it, with a critical scope of the same octets", async () => {
    const { id, ledger, stub, ca } = await newRoot({ crl_shards: 4 });
    const issued = await Promise.all(Array.from({ length: 12 }, (_, i) => issueOne(ledger, `job-${i}`)));
    expect(new Set(issued.map((one) => one.shard)).size).toBeGreaterThan(1);
    for (const { serial } of issued) expectOk(await ledger.revoke([serial], null));
    expectOk(await ledger.configure({ crl_shards: 2 }));
    await inside(stub, (issuer, state) => {
      state.storage.sql.exec("update crls set due_at = 0");
      return issuer.alarm();
    });
    expect(serials(await listOf(id))).toEqual(issued.map((one) => one.serial).sort());
    for (const shard of new Set(issued.map((one) => one.shard))) {
      const list = await listOf(id, shard);
      expect(list.distributionPoint).toBe(`http://pki.test/.well-known/pki/crl/${ca.ca_id}/${shard}`);
      expect(serials(list)).toEqual(
        issued
          .filter((one) => one.shard === shard)
          .map((one) => one.serial)
          .sort(),
      );
    }
  });
});
