import { runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import type { Purge } from "../../durable-objects/purge.ts";

const { PURGE } = env as unknown as { PURGE: DurableObjectNamespace<Purge> };

function tagsOf(count: number) {
  return Array.from({ length: count }, (_, i) => ({ tag: `ocsp-led-${i}`, whole: `ledger-${i % 3}` }));
}

function state(stub: DurableObjectStub<Purge>): Promise<{ tags: string[]; tokens: number; alarm: number | null }> {
  return runInDurableObject(stub, async (_, { storage }) => ({
    tags: storage.sql
      .exec<{ tag: string }>("select tag from purges order by tag")
      .toArray()
      .map((row) => row.tag),
    tokens: storage.sql.exec<{ tokens: number }>("select tokens from bucket").one().tokens,
    alarm: await storage.getAlarm(),
  }));
}

/** Runs the alarm as if so many seconds more had passed. */
async function alarmAfter(stub: DurableObjectStub<Purge>, seconds: number): Promise<void> {
  await runInDurableObject(stub, (purge) => {
    const at = purge.now() + seconds * 1000;
    purge.now = () => at;
  });
  await runDurableObjectAlarm(stub);
}

describe("purges of the edge cache", () => {
  it("gather for two seconds and go in calls of 100 tags", async () => {
    const stub = PURGE.getByName("gather");
    await stub.add(tagsOf(150));
    expect((await state(stub)).tokens).toBe(25);
    await alarmAfter(stub, 2);
    const after = await state(stub);
    expect(after.tags).toEqual([]);
    expect(Math.round(after.tokens)).toBe(23);
  });

  it("each wait for their own two seconds, and a tag that is added again for two more", async () => {
    const stub = PURGE.getByName("own");
    const calls: string[][] = [];
    await runInDurableObject(stub, (purge) => {
      const at = Date.now();
      purge.now = () => at;
      purge.purge = async (tags) => calls.push(tags) > 0;
    });
    const [first, second] = tagsOf(2).map(({ tag }) => tag);
    await stub.add(tagsOf(1));
    await alarmAfter(stub, 1);
    await stub.add(tagsOf(2));
    expect(calls).toEqual([]);
    await alarmAfter(stub, 1);
    expect(calls).toEqual([[first]]);
    expect((await state(stub)).tags).toEqual([first, second]);
    await alarmAfter(stub, 1);
    expect(calls.map((tags) => tags.sort())).toEqual([[first], [first, second]]);
    expect(await state(stub)).toMatchObject({ tags: [], alarm: null });
  });

  it("beyond a minute's budget give way to one tag for each CA", async () => {
    const stub = PURGE.getByName("coarse");
    await stub.add(tagsOf(501));
    await alarmAfter(stub, 2);
    const after = await state(stub);
    expect(after.tags).toEqual([]);
    expect(Math.round(after.tokens)).toBe(24);
  });

  it("wait for the next token when the bucket is empty, and lose nothing", async () => {
    const stub = PURGE.getByName("empty");
    await stub.add(tagsOf(10));
    await runInDurableObject(
      stub,
      (_, { storage }) => void storage.sql.exec("update bucket set tokens = 0, at = ?", Date.now()),
    );
    await alarmAfter(stub, 2);
    const waiting = await state(stub);
    expect(waiting.tags).toHaveLength(10);
    expect(waiting.alarm).not.toBeNull();
    await alarmAfter(stub, 60);
    expect((await state(stub)).tags).toEqual([]);
  });

  it("are tried again when the edge did not take them, and not before", async () => {
    const stub = PURGE.getByName("failing");
    const calls: string[][] = [];
    await runInDurableObject(stub, (purge) => {
      purge.purge = async (tags) => {
        calls.push(tags);
        if (calls.length === 1) throw new Error("the edge is away");
        return calls.length > 2;
      };
    });
    await stub.add(tagsOf(2));
    const tags = tagsOf(2).map(({ tag }) => tag);
    for (let failures = 1; failures <= 2; failures++) {
      await alarmAfter(stub, 15);
      expect(calls).toHaveLength(failures);
      const waiting = await state(stub);
      expect(waiting.tags).toEqual(tags);
      expect(waiting.alarm).toBeGreaterThan(Date.now());
    }
    await alarmAfter(stub, 15);
    expect(calls).toEqual([tags, tags, tags]);
    expect(await state(stub)).toMatchObject({ tags: [], alarm: null });
  });

  it("of a tag that is being purged run once more when they are asked for meanwhile", async () => {
    const stub = PURGE.getByName("again");
    const calls: string[][] = [];
    await runInDurableObject(stub, (purge) => {
      purge.purge = async (tags) => {
        calls.push(tags);
        // A revocation that comes after this purge has reached the edge.
        if (calls.length === 1) await purge.add(tagsOf(1));
        return true;
      };
    });
    await stub.add(tagsOf(2));
    await alarmAfter(stub, 2);
    const [first, second] = tagsOf(2).map(({ tag }) => tag);
    expect(calls).toEqual([[first, second]]);
    expect((await state(stub)).tags).toEqual([first]);
    await alarmAfter(stub, 2);
    expect(calls).toEqual([[first, second], [first]]);
    expect((await state(stub)).tags).toEqual([]);
  });
});
