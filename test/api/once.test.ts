import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import type { Once } from "../../durable-objects/once.ts";
import { onceFor } from "../../src/identity/once.ts";

const { ONCE } = env as unknown as { ONCE: DurableObjectNamespace<Once> };

const MINUTE = 60_000;

/** A store of its own for each test, with a clock that the test turns. */
async function newStore(name: string) {
  const stub = ONCE.getByName(`test-${name}`);
  const turn = (now: number) =>
    runInDurableObject(stub, (once) => {
      once.now = () => now;
    });
  await turn(0);
  const rows = () =>
    runInDurableObject(stub, (_, { storage }) => ({
      entries: storage.sql.exec<{ n: number }>("select count(*) as n from entry").one().n,
      attempts: storage.sql.exec<{ n: number }>("select count(*) as n from attempts").one().n,
    }));
  return { stub, turn, rows };
}

const all = <T>(count: number, work: (i: number) => Promise<T>) =>
  Promise.all(Array.from({ length: count }, (_, i) => work(i)));

describe("a value that is kept for one taker", () => {
  it("goes to one of many who take it at the same moment", async () => {
    const { stub } = await newStore("take");
    await stub.put("state", "verifier", MINUTE);
    const taken = await all(50, () => stub.take("state"));
    expect(taken.filter((value) => value === "verifier")).toHaveLength(1);
    expect(taken.filter((value) => value === null)).toHaveLength(49);
  });

  it("is gone at the end of its life, and taking it then does not leave it for later", async () => {
    const { stub, turn, rows } = await newStore("take-late");
    await stub.put("early", "a", MINUTE);
    await stub.put("late", "b", MINUTE);
    await turn(MINUTE - 1);
    expect(await stub.take("early")).toBe("a");
    await turn(MINUTE);
    expect(await stub.take("late")).toBeNull();
    expect((await rows()).entries).toBe(0);
  });

  it("is the last one that was put", async () => {
    const { stub } = await newStore("put-again");
    await stub.put("key", "first", MINUTE);
    await stub.put("key", "second", MINUTE);
    expect([await stub.take("key"), await stub.take("key")]).toEqual(["second", null]);
  });
});

describe("a claim", () => {
  it("succeeds for one of many at the same moment", async () => {
    const { stub } = await newStore("claim");
    const claimed = await all(50, () => stub.claim("jti", MINUTE));
    expect(claimed.filter(Boolean)).toHaveLength(1);
  });

  it("holds for its whole time, is not prolonged by those who fail, and is free again after it, for one", async () => {
    const { stub, turn } = await newStore("claim-again");
    expect(await stub.claim("jti", MINUTE)).toBe(true);
    await turn(MINUTE - 1);
    expect(await stub.claim("jti", MINUTE)).toBe(false);
    await turn(MINUTE);
    const claimed = await all(20, () => stub.claim("jti", MINUTE));
    expect(claimed.filter(Boolean)).toHaveLength(1);
  });

  it("of one key is none of another", async () => {
    const { stub } = await newStore("claim-keys");
    expect(await all(20, (i) => stub.claim(`jti-${i}`, MINUTE))).toEqual(Array(20).fill(true));
  });
});

describe("attempts", () => {
  it("are allowed as often as the limit says, however many come at the same moment", async () => {
    const { stub } = await newStore("attempt");
    const made = await all(40, () => stub.attempt("user", 5, MINUTE));
    expect(made.filter(({ allowed }) => allowed).map(({ left }) => left)).toEqual([4, 3, 2, 1, 0]);
    expect(made.filter(({ allowed }) => !allowed).every((one) => one.retry_after_ms === MINUTE)).toBe(true);
  });

  it("below the limit are forgotten a window after the first", async () => {
    const { stub, turn } = await newStore("attempt-window");
    await stub.attempt("user", 3, MINUTE);
    await turn(MINUTE - 1);
    expect(await stub.attempt("user", 3, MINUTE)).toEqual({ allowed: true, left: 1, retry_after_ms: 0 });
    expect(await stub.attempts("user", 3)).toEqual({ count: 2, locked_until: null });
    await turn(MINUTE);
    expect(await stub.attempts("user", 3)).toEqual({ count: 0, locked_until: null });
    expect(await stub.attempt("user", 3, MINUTE)).toEqual({ allowed: true, left: 2, retry_after_ms: 0 });
  });

  it("at the limit lock for a whole window from the last one; what is refused does not prolong that", async () => {
    const { stub, turn } = await newStore("attempt-lock");
    await stub.attempt("user", 2, MINUTE);
    await turn(MINUTE / 2);
    expect((await stub.attempt("user", 2, MINUTE)).left).toBe(0);
    const locked_until = MINUTE / 2 + MINUTE;
    expect(await stub.attempts("user", 2)).toEqual({ count: 2, locked_until });
    await turn(locked_until - 1);
    expect(await stub.attempt("user", 2, MINUTE)).toEqual({ allowed: false, left: 0, retry_after_ms: 1 });
    expect(await stub.attempts("user", 2)).toEqual({ count: 2, locked_until });
    await turn(locked_until);
    expect(await stub.attempt("user", 2, MINUTE)).toEqual({ allowed: true, left: 1, retry_after_ms: 0 });
  });

  it("begin anew for whoever is cleared, and for nobody else", async () => {
    const { stub } = await newStore("attempt-clear");
    await stub.attempt("one", 1, MINUTE);
    await stub.attempt("other", 1, MINUTE);
    await stub.clear("one");
    expect((await stub.attempt("one", 1, MINUTE)).allowed).toBe(true);
    expect((await stub.attempt("other", 1, MINUTE)).allowed).toBe(false);
  });

  it("are none with a limit of none", async () => {
    const { stub, rows } = await newStore("attempt-none");
    expect((await stub.attempt("user", 0, MINUTE)).allowed).toBe(false);
    expect((await rows()).attempts).toBe(0);
  });
});

describe("what is kept once", () => {
  it("outlives its object's memory", async () => {
    const { stub } = await newStore("evicted");
    await runInDurableObject(stub, (once) => {
      once.now = Date.now;
    });
    await stub.put("state", "kept", MINUTE);
    expect(await stub.claim("jti", MINUTE)).toBe(true);
    await evictDurableObject(stub);
    const again = ONCE.getByName("test-evicted");
    expect(await again.claim("jti", MINUTE)).toBe(false);
    expect(await again.take("state")).toBe("kept");
  });

  it("is removed by the alarm when it has expired, and only then; the alarm comes as long as there is something", async () => {
    const { stub, turn, rows } = await newStore("alarm");
    await stub.put("short", "x", MINUTE);
    await stub.claim("long", 60 * MINUTE);
    await stub.attempt("user", 5, MINUTE);
    await turn(MINUTE);
    expect(await runDurableObjectAlarm(stub)).toBe(true);
    expect(await rows()).toEqual({ entries: 1, attempts: 0 });
    expect(await stub.claim("long", MINUTE)).toBe(false);
    await turn(60 * MINUTE);
    expect(await runDurableObjectAlarm(stub)).toBe(true);
    expect(await rows()).toEqual({ entries: 0, attempts: 0 });
    expect(await runDurableObjectAlarm(stub)).toBe(false);
  });

  it("for one purpose is not met by another", async () => {
    const ctx = { bindings: env } as unknown as Parameters<typeof onceFor>[0];
    expect(await onceFor(ctx, "test-a", "key").claim("key", MINUTE)).toBe(true);
    expect(await onceFor(ctx, "test-b", "key").claim("key", MINUTE)).toBe(true);
    expect(await onceFor(ctx, "test-a", "key").claim("key", MINUTE)).toBe(false);
  });
});
