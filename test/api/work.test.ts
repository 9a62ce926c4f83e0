import { createExecutionContext, createMessageBatch, getQueueResult } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { sql } from "drizzle-orm";
import { beforeEach, describe, expect, it } from "vitest";
import { ledgerOf } from "../../src/authority/ledger.ts";
import { commit } from "../../src/platform/commit.ts";
import type { Context } from "../../src/platform/context.ts";
import { ChangedMeanwhile } from "../../src/platform/errors.ts";
import { runDue } from "../../src/platform/work/engine.ts";
import { BudgetSpent, Meter, metered } from "../../src/platform/work/meter.ts";
import { everyMinutes } from "../../src/platform/work/schedule.ts";
import { type SweepStep, sweep } from "../../src/platform/work/sweep.ts";
import { enqueue, type WorkKind, type WorkKinds, withdraw } from "../../src/platform/work/work.ts";
import { makeContext } from "../../worker/context.ts";
import { tick } from "../../worker/cron.ts";
import { workKinds } from "../../worker/handlers.ts";
import { consume } from "../../worker/queue.ts";
import { administrator, auditCount } from "../support/api.ts";
import { runOne } from "../support/work.ts";

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
    const second = runOne(
      context(),
      { slow: { run: () => new Promise<undefined>((resolve) => (again = () => resolve(undefined))) } },
      id,
    );
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
    const hanging = { run: () => new Promise<undefined>(() => {}), timeoutSeconds: 0.05, atOnce: 10 };
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

  it("of a kind that has more due than its share goes on while another kind hangs", async () => {
    await put("hangs", 10);
    await put("quick", 35);
    let release = () => {};
    const held = new Promise<undefined>((resolve) => {
      release = () => resolve(undefined);
    });
    let done = 0;
    const kinds: WorkKinds = { hangs: { run: () => held }, quick: { run: async () => void done++ } };
    const begun = runDue(context(), kinds);
    await expect.poll(() => done).toBe(35);
    const left = () => context().db.all(sql`select kind, count(*) as n from work group by kind`);
    await expect.poll(left).toEqual([{ kind: "hangs", n: 10 }]);
    release();
    expect(await begun).toBe("finished");
    expect(await left()).toEqual([]);
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

describe("inv 6: work that is dead", () => {
  it("has what its kind says happen first, and lives on until that has been done", async () => {
    const id = await put("doomed");
    const told: unknown[] = [];
    let away = true;
    const kinds: WorkKinds = {
      doomed: {
        attempts: 2,
        run: () => Promise.reject(new Error("never")),
        async dead(_, payload, error) {
          if (away) throw new Error("nobody there");
          told.push([payload, error]);
        },
      },
    };
    const attempt = async () => {
      offset += 3_600_000;
      return runOne(context(), kinds, id);
    };
    expect([await attempt(), await attempt()]).toEqual(["retry", "retry"]);
    away = false;
    expect(await attempt()).toBe("dead");
    expect(told).toEqual([[{ n: 1 }, "Error: never"]]);
    expect(await row(id)).toMatchObject({ state: "dead", attempts: 3 });
  });

  it("and recurs is listed until its next time, and tried again then", async () => {
    let fail = true;
    const kinds: WorkKinds = {
      recurs: {
        attempts: 2,
        schedule: everyMinutes(60),
        async run() {
          if (fail) throw new Error("away");
        },
      },
    };
    await runDue(context(), kinds);
    expect(await row("recurs")).toMatchObject({ state: "due", attempts: 1 });
    offset += 60_000;
    await runDue(context(), kinds);
    expect(await row("recurs")).toMatchObject({ state: "dead", attempts: 2, last_error: "Error: away" });
    fail = false;
    offset += 60_000;
    await runDue(context(), kinds);
    expect(await row("recurs")).toMatchObject({ state: "dead" });
    offset += 3_600_000;
    await runDue(context(), kinds);
    expect(await row("recurs")).toEqual({ state: "due", attempts: 0, last_error: null });
  });
});

describe("work that goes on", () => {
  it("keeps its row, with what is left to do", async () => {
    const id = await put("pages");
    const seen: unknown[] = [];
    const kinds: WorkKinds = {
      pages: {
        async run(_, { n, waited }) {
          seen.push(n);
          if (n === 3) return waited ? undefined : { payload: { n: 3, waited: true }, inSeconds: 60 };
          return { payload: { n: Number(n) + 1 }, inSeconds: 0 };
        },
      },
    };
    expect(await runDue(context(), kinds)).toBe("finished");
    expect(seen).toEqual([1, 2, 3]);
    await runDue(context(), kinds);
    offset += 60_000;
    await runDue(context(), kinds);
    expect(seen).toEqual([1, 2, 3, 3]);
    expect(await row(id)).toBeUndefined();
  });
});

describe("sweeps", () => {
  const sweeping = (name: string, step: SweepStep, minutes = 1) => sweep(name, everyMinutes(minutes), step);
  const nextMinute = () => {
    offset += 60_000;
  };

  it("recur by their schedule and no sooner, unless somebody is woken for them", async () => {
    let runs = 0;
    const kinds = sweeping(
      "counted",
      async () => {
        runs++;
        return null;
      },
      15,
    );
    await runDue(context(), kinds);
    await runDue(context(), kinds);
    nextMinute();
    await runDue(context(), kinds);
    expect(runs).toBe(1);
    expect(await runOne(context(), kinds, "sweep.counted")).toBe("done");
    expect(runs).toBe(2);
    offset += 15 * 60_000;
    await runDue(context(), kinds);
    expect(runs).toBe(3);
  });

  it("go on from the stored cursor, and two at a time do the work once", async () => {
    const seen: (string | null)[] = [];
    const kinds = sweeping("numbers", async (_, cursor) => {
      seen.push(cursor);
      await Promise.resolve();
      return cursor === null ? "1" : cursor === "1" ? "2" : null;
    });
    await Promise.all([runDue(context(), kinds), runDue(context(), kinds)]);
    expect(seen).toEqual([null, "1", "2"]);
  });

  it("stop when the time of an invocation is over, for the queue to go on where they stood", async () => {
    const seen: (string | null)[] = [];
    const kinds = sweeping("long", async (_, cursor) => {
      seen.push(cursor);
      offset += 6_000;
      return seen.length < 6 ? String(seen.length) : null;
    });
    expect(await runDue(context(), kinds)).toBe("more");
    expect(seen).toEqual([null, "1", "2", "3"]);
    expect(await runDue(context(), kinds)).toBe("finished");
    expect(seen).toEqual([null, "1", "2", "3", "4", "5"]);
  });

  it("that fail hold up none of the others, and go on where they stood with the next tick", async () => {
    const seen: (string | null)[] = [];
    let away = true;
    let others = 0;
    const kinds = {
      ...sweeping("first", async (_, cursor) => {
        seen.push(cursor);
        if (cursor === null) return "1";
        if (away) throw new Error("away");
        return null;
      }),
      ...sweeping("second", async () => {
        others++;
        return null;
      }),
    };
    for (let minute = 0; minute < 8; minute++) {
      await runDue(context(), kinds);
      nextMinute();
    }
    expect(others).toBe(8);
    expect(seen).toEqual([null, ...Array(8).fill("1")]);
    away = false;
    await runDue(context(), kinds);
    expect(await row("sweep.first")).toEqual({ state: "due", attempts: 0, last_error: null });
  });

  it("take over from a run that died with the lease, which changes nothing any more", async () => {
    const seen: (string | null)[] = [];
    let release = (_: string) => {};
    const dying = sweeping("dying", () => new Promise<string>((resolve) => (release = resolve)));
    const kinds = sweeping("dying", async (_, cursor) => {
      seen.push(cursor);
      return null;
    });
    const first = runDue(context(), dying);
    await expect.poll(async () => (await row("sweep.dying"))?.attempts).toBe(1);
    await runDue(context(), kinds);
    expect(seen).toEqual([]);
    offset += 61_000;
    await runDue(context(), kinds);
    expect(seen).toEqual([null]);
    release("7");
    await first;
    nextMinute();
    await runDue(context(), kinds);
    expect(seen).toEqual([null, null]);
  });
});

describe("the meter of an invocation", () => {
  it("counts statements and requests, and refuses the one beyond", async () => {
    const meter = new Meter(8);
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
      ctx.db.batch([1, 2, 3, 4, 5].map(() => ctx.db.select({ n: sql`1` }).from(sql`work`)) as never),
    ).rejects.toBeInstanceOf(BudgetSpent);
    for (let i = 0; i < 6; i++) await ctx.bindings.BYTES.head("none");
    expect(() => ctx.bindings.BYTES.head("none")).toThrow(BudgetSpent);
  });

  it("is shared by kinds: one that wants all of it takes nothing from the others", async () => {
    const [hungry, modest] = [await put("hungry", 10), await put("modest", 10)];
    const spending = (statements: number): WorkKind => ({
      async run(ctx) {
        for (let i = 0; i < statements; i++) await ctx.db.all(sql`select 1`);
      },
    });
    const kinds: WorkKinds = { hungry: spending(300), modest: spending(10) };
    const meter = new Meter(1_000);
    await runDue(metered(context(), meter), kinds);
    expect(meter.statements).toBeLessThanOrEqual(1_000);
    expect(await row(modest)).toBeUndefined();
    expect(await row(hungry)).toMatchObject({ state: "due", last_error: expect.stringContaining("D1 statements") });
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

describe("a batch of wake-ups", () => {
  const batchOf = (...bodies: unknown[]) =>
    createMessageBatch(
      "certctl-edge-work",
      bodies.map((body, at) => ({ id: `m-${at}`, timestamp: new Date(), attempts: 1, body })),
    );

  it("runs what it wakes, drops what cannot be read, and is acknowledged whatever became of the work", async () => {
    const ctx = makeContext({ ...env }, createExecutionContext());
    const { statement, id } = enqueue(ctx, "auth.end_sessions", { user_id: "u-none" });
    const lost = enqueue(ctx, "ca.withdraw", {});
    await commit(ctx, [statement, lost.statement]);
    const batch = batchOf({ kind: "work", id }, { kind: "work", id: lost.id }, "nonsense", { kind: "due" });
    const execution = createExecutionContext();
    await consume(batch, { ...env }, execution);
    expect(await getQueueResult(batch, execution)).toMatchObject({ ackAll: true, retryBatch: { retry: false } });
    expect(await row(id)).toBeUndefined();
    expect(await row(lost.id)).toMatchObject({ state: "due", attempts: 1 });
    expect(await row("sweep.inventory.beat")).toMatchObject({ state: "due", attempts: 0 });
  });

  it("comes again when the database does not answer", async () => {
    const DB = {
      ...env.DB,
      prepare: () => {
        throw new Error("away");
      },
    } as unknown as D1Database;
    const batch = batchOf({ kind: "work", id: "work-1" });
    const execution = createExecutionContext();
    await consume(batch, { ...env, DB }, execution);
    expect(await getQueueResult(batch, execution)).toMatchObject({ ackAll: false, retryBatch: { retry: true } });
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
    const bound = { ...env, DB };
    await tick(controller, bound, createExecutionContext());
    const now = new Date("2026-11-29T10:00:30Z");
    const ofTheMinute = Object.keys(workKinds).filter(
      (kind) => workKinds[kind]?.schedule?.(now).getTime() === everyMinutes(1)(now).getTime(),
    );
    expect(ofTheMinute.length).toBeGreaterThan(5);
    const due = "update work set due_at = created_at where id in (select value from json_each(?)) returning id";
    const { results } = await env.DB.prepare(due).bind(JSON.stringify(ofTheMinute)).all();
    expect(results).toHaveLength(ofTheMinute.length);
    statements = 0;
    await tick(controller, bound, createExecutionContext());
    expect(statements).toBeGreaterThan(ofTheMinute.length - 1);
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
