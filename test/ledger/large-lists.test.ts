import { describe, expect, it } from "vitest";
import type { Issuer } from "../../durable-objects/issuer.ts";
import { crlKey } from "../../src/authority/ledger-places.ts";
import { type CrlEntry, encodeCrlEntry, parseCrl } from "../../src/pki/crl.ts";
import { BYTES, expectOk, inside, issueOne, newRoot, setClock } from "./support.ts";

const MANY = 40_000;

/** Puts many revoked certificates on the complete list of a ledger and on one of its partitions. */
function fill(state: DurableObjectState, shard: number): void {
  const { sql } = state.storage;
  const length = encodeCrlEntry(serialOf(0), new Date(), 4).length;
  state.storage.transactionSync(() => {
    for (let i = 0; i < MANY; i++) {
      sql.exec(
        "insert into crl_entries (serial, shard, not_after, entry) values (?, ?, ?, ?)",
        serialOf(i),
        shard,
        Date.now() + 86_400_000,
        encodeCrlEntry(serialOf(i), new Date(), 4),
      );
    }
  });
  sql.exec(
    "update crls set live_entries = live_entries + ?, live_bytes = live_bytes + ? where shard in (0, ?)",
    MANY,
    MANY * length,
    shard,
  );
}

const serialOf = (i: number) => `5a${i.toString(16).padStart(32, "0")}`;

async function listOf(ledgerId: string, shard: number) {
  const object = await BYTES.get(crlKey(ledgerId, shard));
  const { number, entries } = parseCrl(new Uint8Array((await object?.arrayBuffer()) ?? new ArrayBuffer(0)));
  return { number, entries };
}

/** The reason on a list, or null when it is not on it. */
function reasonOf(list: { entries: readonly CrlEntry[] }, serial: string): number | null {
  return list.entries.find((entry) => entry.serial === serial)?.reason ?? null;
}

/** Runs the alarm with a change in each pause that the build makes for others; answers how many there were. */
async function alarmWhile(issuer: Issuer, change: () => unknown): Promise<number> {
  let done = false;
  let changes = 0;
  const alarm = issuer.alarm().finally(() => {
    done = true;
  });
  while (!done) {
    await new Promise((resolve) => setImmediate(resolve));
    if (!done) change();
    changes++;
  }
  await alarm;
  return changes;
}

/** A ledger with partitions whose certificates are on hold, on lists that take a while to build. */
async function newLarge() {
  const made = await newRoot({ crl_shards: 2 });
  const issued = await Promise.all(
    ["mc-a", "mc-b", "mc-c"].map((certificate_id) =>
      issueOne(made.ledger, `job-${certificate_id}`, { certificate_id }),
    ),
  );
  const [a, b, c] = issued.map((one) => one.serial) as [string, string, string];
  const shard = issued[0]?.shard ?? 1;
  await inside(made.stub, async (issuer, state) => {
    state.storage.sql.exec("update entries set shard = ? where kind = 'leaf'", shard);
    await issuer.revoke([a, b], "certificateHold");
    fill(state, shard);
  });
  return { ...made, a, b, c, shard };
}

describe("lists of many entries", () => {
  it("inv 4: go out however much changes while they are built, and the next ones show it", async () => {
    const { id, ledger, stub, a, b, c, shard } = await newLarge();
    const before = await listOf(id, 0);
    let at = Date.now() + 25_000;
    await setClock(stub, at);
    await inside(stub, async (issuer) => {
      let step = 0;
      // A hold is lifted and comes back again and again; one becomes final, and one comes that was not there.
      const changes = await alarmWhile(issuer, async () => {
        step++;
        if (step === 2) await issuer.revoke([b], "keyCompromise");
        if (step === 3) await issuer.revoke([c], "superseded");
        await (step % 2 === 1 ? issuer.release([a]) : issuer.revoke([a], "certificateHold"));
      });
      expect(changes).toBeGreaterThan(4);
      expect(await issuer.revoke([a], "certificateHold")).toMatchObject({ ok: true });
    });
    const during = await Promise.all([listOf(id, 0), listOf(id, shard)]);
    expect(during[0]?.number).toBeGreaterThan(before.number ?? 0n);
    // The list that was begun first shows what was so then.
    const first = during.sort((x, y) => Number((x.number ?? 0n) - (y.number ?? 0n)))[0] ?? before;
    expect(first.entries).toHaveLength(MANY + 2);
    expect([a, b, c].map((serial) => reasonOf(first, serial))).toEqual([6, 6, null]);
    at += 31_000;
    await setClock(stub, at);
    await inside(stub, (issuer) => issuer.alarm());
    for (const list of [await listOf(id, 0), await listOf(id, shard)]) {
      expect(list.entries).toHaveLength(MANY + 3);
      expect([a, b, c].map((serial) => reasonOf(list, serial))).toEqual([6, 1, 4]);
    }
    expectOk(await ledger.release([a]));
    await inside(stub, (_, state) => {
      expect(state.storage.sql.exec("select * from crl_removed").toArray()).toEqual([]);
    });
  });

  it("are built twice a minute at most, however often they change", async () => {
    const { id, ledger, stub, c } = await newLarge();
    const numbers = new Set<bigint | null>();
    const start = Date.now() + 25_000;
    for (let i = 0; i < 20; i++) {
      await setClock(stub, start + i * 3_000);
      expectOk(i % 2 === 0 ? await ledger.revoke([c], "certificateHold") : await ledger.release([c]));
      await inside(stub, (issuer) => issuer.alarm());
      numbers.add((await listOf(id, 0)).number);
    }
    expect(numbers.size).toBe(2);
  });

  it("inv 4: what a build that was cut short has left is on the next list no more", async () => {
    const { id, stub, a, b, shard } = await newLarge();
    await setClock(stub, Date.now() + 25_000);
    await inside(stub, async (issuer, state) => {
      // Its own alarm may have begun a list.
      await Promise.all(issuer.core.running.values());
      const { entry } = state.storage.sql
        .exec<{ entry: ArrayBuffer }>("select entry from crl_entries where serial = ?", a)
        .one();
      await issuer.release([a]);
      // As a process leaves it that ends in the middle of a build, after a hold was lifted.
      state.storage.sql.exec("insert into crl_removed (seq, shard, entry) values (1, ?, ?)", shard, entry);
      state.storage.sql.exec("update crls set due_at = 0");
      await issuer.alarm();
    });
    for (const list of [await listOf(id, 0), await listOf(id, shard)]) {
      expect(list.entries).toHaveLength(MANY + 1);
      expect([a, b].map((serial) => reasonOf(list, serial))).toEqual([null, 6]);
    }
  });
});
