import { createExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { sql } from "drizzle-orm";
import { beforeEach, describe, expect, it } from "vitest";
import { ledgerOf } from "../../src/authority/ledger.ts";
import { commit } from "../../src/platform/commit.ts";
import type { Context } from "../../src/platform/context.ts";
import { ChangedMeanwhile } from "../../src/platform/errors.ts";
import { runDue, runOne } from "../../src/platform/work/engine.ts";
import { BudgetSpent, Meter, metered } from "../../src/platform/work/meter.ts";
import { enqueue, type WorkKinds, withdraw } from "../../src/platform/work/work.ts";
import { makeContext } from "../../worker/context.ts";
import { tick } from "../../worker/cron.ts";
import { administrator, auditCount } from "../support/api.ts";

const start = Date.parse("2026-11-01T00:00:00Z");
let offset = 0;
const clock = { now: () => new Date(start + offset) };
const context = () => makeContext({ ...env }, createExecutionContext(), { clock });

async function put(kind: string, count = 1): Promise<string> {
  const ctx = context();
  const all = Array.from({ length: count }, () => enqueue(ctx, kind, { n: 1 }));
  await commit(
    ctx,
    all.map(({ statement }) => statement),
  );
  return all[0]?.id ?? "";
}

interface Row {
  state: string;
  attempts: number;
  last_error: string | null;
}

async function row(id: string): Promise<Row | undefined> {
  return (await context().db.all<Row>(sql`select state, attempts, last_error from work where id = ${id}`))[0];
}

const counting = (kinds: readonly string[]) => {
  const runs: Record<string, number> = {};
  const run = (kind: string) => async () => {
    runs[kind] = (runs[kind] ?? 0) + 1;
  };
  return { runs, kinds: Object.fromEntries(kinds.map((kind) => [kind, { run: run(kind) }])) as WorkKinds };
};

beforeEach(async () => {
  offset += 24 * 3_600_000;
  await env.DB.prepare("delete from work").run();
});

describe("inv 6: queued work", () => {
  it("runs once when several are woken for it, and is gone when it is done", async () => {
    const id = await put("count");
    const { runs, kinds } = counting(["count"]);
    const results = await Promise.all([1, 2, 3, 4].map(() => runOne(context(), kinds, id)));
    expect(runs).toEqual({ count: 1 });
    expect(results.sort()).toEqual(["done", "skipped", "skipped", "skipped"]);
    expect(await row(id)).toBeUndefined();
  });

  it("is put off after a failure, ever longer, found when it is due, and dead after thirty attempts", async () => {
    const id = await put("flaky");
    let fail = true;
    const kinds: WorkKinds = {
      flaky: {
        run: async () => {
          if (fail) throw new Error("upstream down");
        },
      },
    };
    expect(await runOne(context(), kinds, id)).toBe("retry");
    expect(await row(id)).toEqual({ state: "due", attempts: 1, last_error: "Error: upstream down" });
    expect(await runOne(context(), kinds, id)).toBe("skipped");
    for (let i = 2; i <= 30; i++) {
      offset += 3_600_000;
      await runDue(context(), kinds);
    }
    expect(await row(id)).toMatchObject({ state: "dead", attempts: 30 });
    fail = false;
    offset += 3_600_000;
    await runDue(context(), kinds);
    expect(await row(id)).toMatchObject({ state: "dead" });
  });

  it("whoever lost the lease ends nothing that another has taken over", async () => {
    const id = await put("slow");
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const late: WorkKinds = { slow: { run: () => held.then(() => Promise.reject(new Error("too late"))) } };
    const slow = runOne(context(), late, id);
    await expect.poll(async () => (await row(id))?.attempts).toBe(1);
    offset += 61_000;
    let again = () => {};
    const second = runOne(context(), { slow: { run: () => new Promise<void>((resolve) => (again = resolve)) } }, id);
    await expect.poll(async () => (await row(id))?.attempts).toBe(2);
    release();
    expect(await slow).toBe("retry");
    expect(await row(id)).toEqual({ state: "due", attempts: 2, last_error: null });
    again();
    expect(await second).toBe("done");
    expect(await row(id)).toBeUndefined();
  });

  it("that hangs, a hundred times over, delays nothing of another kind", async () => {
    await put("hangs", 100);
    const id = await put("quick", 3);
    const hanging = { run: () => new Promise<void>(() => {}), timeoutSeconds: 0.05, atOnce: 10 };
    const done: number[] = [];
    const kinds: WorkKinds = { hangs: hanging, quick: { run: async () => void done.push(1) } };
    const begun = runDue(context(), kinds);
    await expect.poll(() => done.length).toBe(3);
    await begun;
    expect(await row(id)).toBeUndefined();
    const [left] = await context().db.all<{ n: number }>(
      sql`select count(*) as n from work where kind = 'hangs' and last_error like '%longer than%' and attempts = 1`,
    );
    expect(left?.n).toBe(100);
  });

  it("of a kind that nobody here knows stays", async () => {
    const id = await put("from-the-future");
    expect(await runDue(context(), counting(["count"]).kinds)).toBe("finished");
    expect(await row(id)).toMatchObject({ state: "due", attempts: 0 });
  });

  it("is taken back before anybody has begun it, and not after", async () => {
    const [early, late] = [await put("count"), await put("count")];
    await commit(context(), withdraw(context(), early));
    expect(await row(early)).toBeUndefined();
    await runOne(context(), { count: { run: () => Promise.reject(new Error("no")) } }, late);
    await expect(commit(context(), withdraw(context(), late))).rejects.toBeInstanceOf(ChangedMeanwhile);
  });
});

describe("the meter of an invocation", () => {
  it("counts statements and requests, and refuses the one beyond", async () => {
    const meter = new Meter(6);
    const ctx = metered(context(), meter);
    await ctx.db.all(sql`select 1`);
    await ctx.db.batch([ctx.db.select({ n: sql`1` }).from(sql`work`), ctx.db.select({ n: sql`1` }).from(sql`work`)]);
    await ctx.bindings.BYTES.head("none");
    expect(await ledgerOf(ctx, "led-metered").describe()).toBeNull();
    expect([meter.statements, meter.requests]).toEqual([3, 2]);
    await put("count");
    await runOne(ctx, counting(["count"]).kinds, "none");
    expect(meter.statements).toBe(4);
    await expect(
      ctx.db.batch([1, 2, 3].map(() => ctx.db.select({ n: sql`1` }).from(sql`work`)) as never),
    ).rejects.toBeInstanceOf(BudgetSpent);
    for (let i = 0; i < 4; i++) await ctx.bindings.BYTES.head("none");
    expect(() => ctx.bindings.BYTES.head("none")).toThrow(BudgetSpent);
  });

  it("ends a run before it would be spent: what is left goes on with the next", async () => {
    await put("count", 60);
    const kinds: WorkKinds = {
      count: {
        async run(ctx: Context) {
          for (let i = 0; i < 10; i++) await ctx.db.all(sql`select 1`);
        },
      },
    };
    const left = async () => (await context().db.all<{ n: number }>(sql`select count(*) as n from work`))[0]?.n;
    const meter = new Meter(1_000);
    expect(await runDue(metered(context(), meter), kinds)).toBe("more");
    expect(meter.statements).toBeLessThan(700);
    expect(await left()).toBe(10);
    expect(await runDue(context(), kinds)).toBe("finished");
    expect(await left()).toBe(0);
  });
});

describe("a tick of the minute", () => {
  it("costs ten statements where nothing is due", async () => {
    let statements = 0;
    const DB = new Proxy(env.DB, {
      get(target, name) {
        const value = Reflect.get(target, name);
        if (typeof value !== "function") return value;
        return (...values: unknown[]) => {
          if (name === "prepare") statements++;
          return value.apply(target, values);
        };
      },
    });
    const controller = { cron: "* * * * *", scheduledTime: Date.now(), noRetry: () => {} } as ScheduledController;
    await tick(controller, { ...env, DB }, createExecutionContext());
    statements = 0;
    await tick(controller, { ...env, DB }, createExecutionContext());
    expect(statements).toBeLessThanOrEqual(10);
  });
});

describe("dead work", () => {
  it("is listed and counted without what it holds, and due again when somebody says so", async () => {
    const admin = await administrator();
    const id = await put("identity.alert");
    await env.DB.prepare("update work set state = 'dead', attempts = 30, last_error = 'Error: away' where id = ?")
      .bind(id)
      .run();
    const path = "/api/v1/admin/work";
    const listed = await admin.get<{ data: Record<string, unknown>[]; counts: unknown }>(`${path}?state=dead`);
    expect(listed.body).toMatchObject({
      total: 1,
      data: [{ id, kind: "identity.alert", state: "dead", attempts: 30, last_error: "Error: away" }],
      counts: [{ kind: "identity.alert", state: "dead", count: 1 }],
    });
    expect(listed.body.data[0]).not.toHaveProperty("payload");
    expect((await admin.get<{ total: number }>(`${path}?kind=other`)).body.total).toBe(0);
    expect((await admin.post(`${path}/${id}/requeue`)).status).toBe(200);
    expect(await row(id)).toMatchObject({ state: "due", attempts: 0 });
    expect(await auditCount("work.requeue", id)).toBe(1);
    expect((await admin.post(`${path}/${id}/requeue`)).status).toBe(409);
    expect((await admin.post(`${path}/none/requeue`)).status).toBe(404);
  });
});
