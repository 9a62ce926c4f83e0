import { env } from "cloudflare:workers";
import { expect, it } from "vitest";
import { listsChanged } from "../../src/authority/ledger-publications.ts";
import type { PublicContext } from "../../src/authority/local/public/context.ts";
import { type List, readList } from "../../src/authority/local/public/lists.ts";
import { consoleLog } from "../../src/platform/log.ts";
import { type Env, readEnv } from "../../worker/env.ts";

const { bindings, settings, sealer, db } = readEnv(env as unknown as Env);
const { BYTES } = bindings;

/** Whoever answers, on a clock that the test turns; counts what storage is asked. */
function answering() {
  const seen = { now: 1_800_000_000_000, asked: 0, deferred: [] as Promise<unknown>[] };
  const counted = new Proxy(BYTES, {
    get(bucket, name: "get" | "head") {
      return (...args: Parameters<R2Bucket["get"]>) => {
        seen.asked++;
        return bucket[name](...args);
      };
    },
  });
  const ctx: PublicContext = {
    bindings: { ...bindings, BYTES: counted },
    settings,
    sealer,
    db,
    clock: { now: () => new Date(seen.now) },
    log: consoleLog({}),
    defer: (work) => void seen.deferred.push(work),
  };
  return { seen, ctx };
}

/** The list as text, and null for none. */
async function textOf(list: List | null): Promise<string | null> {
  return list && new Response(list.body).text();
}

it("a small list is read once in two seconds, whoever asks, and what is said of it needs no storage either", async () => {
  const { seen, ctx } = answering();
  await BYTES.put("lists/small", "first");
  expect(await textOf(await readList(ctx, "lists/small", false))).toBe("first");
  for (let i = 0; i < 20; i++) {
    seen.now += 40;
    expect(await textOf(await readList(ctx, "lists/small", i % 2 === 0))).toBe("first");
  }
  expect(seen.asked).toBe(1);
});

it("inv 4: a list that was published elsewhere is served after two seconds at the latest", async () => {
  const { seen, ctx } = answering();
  await BYTES.put("lists/elsewhere", "first");
  await readList(ctx, "lists/elsewhere", false);
  await BYTES.put("lists/elsewhere", "second");
  seen.now += 2_000;
  expect(await textOf(await readList(ctx, "lists/elsewhere", false))).toBe("second");
  // A clock that was set back proves nothing of how old a list is.
  await BYTES.put("lists/elsewhere", "third");
  seen.now -= 60_000;
  expect(await textOf(await readList(ctx, "lists/elsewhere", false))).toBe("third");
  await BYTES.delete("lists/elsewhere");
  seen.now += 2_000;
  expect(await readList(ctx, "lists/elsewhere", false)).toBeNull();
});

it("inv 4: a list that is published here is served by the next request, whatever was being read meanwhile", async () => {
  const { ctx } = answering();
  await BYTES.put("lists/here", "first");
  await readList(ctx, "lists/here", false);
  listsChanged();
  const reading = readList(ctx, "lists/here", false);
  await BYTES.put("lists/here", "second");
  listsChanged();
  await reading;
  expect(await textOf(await readList(ctx, "lists/here", false))).toBe("second");
});

it("one request looks again after a second, while it and the others go by what is there", async () => {
  const { seen, ctx } = answering();
  await BYTES.put("lists/renewed", "first");
  await readList(ctx, "lists/renewed", false);
  seen.now += 1_000;
  for (let i = 0; i < 5; i++) expect(await textOf(await readList(ctx, "lists/renewed", false))).toBe("first");
  await Promise.all(seen.deferred);
  expect([seen.asked, seen.deferred.length]).toEqual([2, 1]);
  seen.now += 1_999;
  expect(await textOf(await readList(ctx, "lists/renewed", false))).toBe("first");
  expect(seen.deferred.length).toBe(2);
});

it("a large list is read from storage each time", async () => {
  const { seen, ctx } = answering();
  await BYTES.put("lists/large", new Uint8Array(256 * 1024 + 1));
  for (let i = 0; i < 3; i++) {
    const list = await readList(ctx, "lists/large", false);
    expect((await new Response(list?.body).arrayBuffer()).byteLength).toBe(list?.size);
  }
  expect(seen.asked).toBe(3);
});
