import { createExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { sql } from "drizzle-orm";
import { beforeEach, describe, expect, it } from "vitest";
import { commit } from "../../src/platform/commit.ts";
import type { Context } from "../../src/platform/context.ts";
import { runDue } from "../../src/platform/work/engine.ts";
import { enqueue, type WorkKinds } from "../../src/platform/work/work.ts";
import { auditStatement } from "../../src/record/audit.ts";
import { type Reaction, reactionWork } from "../../src/record/reactions.ts";
import { makeContext } from "../../worker/context.ts";
import { runOne } from "../support/work.ts";

const start = Date.parse("2026-11-01T00:00:00Z");
let offset = 0;
const clock = { now: () => new Date(start + offset) };
const context = (reactions: readonly Reaction[] = []): Context => {
  const made = makeContext({ ...env }, createExecutionContext(), { clock });
  return { ...made, wiring: { ...made.wiring, reactions } };
};

/** So many events, of which every other one is a renewal. */
async function record(count: number): Promise<void> {
  const ctx = context();
  for (let at = 0; at < count; at += 50)
    await commit(
      ctx,
      Array.from({ length: Math.min(50, count - at) }, (_, i) =>
        ctx.audit((at + i) % 2 === 0 ? "certificate.renew" : "certificate.export", `r-${at + i}`),
      ),
    );
}

/** A reaction that notes each event in a row of work. */
function noting(name: string, more: Partial<Reaction> = {}): { reaction: Reaction; kinds: WorkKinds } {
  const reaction: Reaction = {
    name,
    actions: ["certificate.renew"],
    from: "beginning",
    react(ctx, events) {
      const noted = events.map(({ seq }) => enqueue(ctx, "noted", { seq }));
      return { statements: noted.map(({ statement }) => statement), wakeups: [] };
    },
    ...more,
  };
  return { reaction, kinds: reactionWork([reaction]) };
}

async function noted(): Promise<number[]> {
  const rows = await context().db.all<{ seq: number }>(
    sql`select payload ->> 'seq' as seq from work where kind = 'noted' order by rowid`,
  );
  return rows.map(({ seq }) => seq);
}

async function wanted(): Promise<number[]> {
  const rows = await context().db.all<{ seq: number }>(
    sql`select seq from audit_events where action = 'certificate.renew' order by seq`,
  );
  return rows.map(({ seq }) => seq);
}

const cursorOf = async (name: string) =>
  (
    await context().db.all<{ after: number | null }>(
      sql`select payload ->> 'after' as after from work where id = ${`reaction.${name}`}`,
    )
  )[0]?.after;

beforeEach(async () => {
  offset += 24 * 3_600_000;
  await env.DB.prepare("delete from work").run();
});

describe("inv 6: a reaction to events", () => {
  it("sees a thousand of them in order, page by page, and each once", async () => {
    await record(2_000);
    const pages: number[] = [];
    const { reaction, kinds } = noting("pages");
    const counted = reactionWork([
      {
        ...reaction,
        react(ctx, events) {
          pages.push(events.length);
          return reaction.react(ctx, events);
        },
      },
    ]);
    expect(await runDue(context(), counted)).toBe("finished");
    expect(await noted()).toEqual(await wanted());
    expect((await noted()).length).toBeGreaterThanOrEqual(1_000);
    expect(Math.max(...pages)).toBe(50);
    await runDue(context(), kinds);
    expect(await noted()).toEqual(await wanted());
  });

  it("goes on after a crash where it stood: what was rolled back comes again, what was committed does not", async () => {
    await record(300);
    const { reaction } = noting("crashes");
    let page = 0;
    const crashing = reactionWork([
      {
        ...reaction,
        async react(ctx, events) {
          page++;
          const effects = await reaction.react(ctx, events);
          if (page === 2) throw new Error("gone");
          // A statement that fails takes the page back.
          if (page === 4) return { ...effects, statements: [...effects.statements, ...effects.statements] };
          return effects;
        },
      },
    ]);
    for (let minute = 0; minute < 4; minute++) {
      await runDue(context(), crashing);
      offset += 60_000;
    }
    expect(page).toBeGreaterThan(4);
    expect(await noted()).toEqual(await wanted());
  });

  it("has its effects once when it is woken twice, and when it lost its lease to another run", async () => {
    await record(20);
    const { reaction, kinds } = noting("races");
    await runDue(context(), noting("races", { from: "now" }).kinds);
    await record(20);
    await Promise.all([1, 2].map(() => runOne(context(), kinds, "reaction.races")));
    const once = await noted();
    expect(once).toHaveLength(10);

    await record(20);
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const slow = reactionWork([{ ...reaction, react: (ctx, events) => held.then(() => reaction.react(ctx, events)) }]);
    const first = runOne(context(), slow, "reaction.races");
    await expect
      .poll(async () => await env.DB.prepare("select attempts from work where id = 'reaction.races'").first("attempts"))
      .toBe(1);
    expect(await runOne(context(), kinds, "reaction.races")).toBe("skipped");
    offset += 61_000;
    expect(await runOne(context(), kinds, "reaction.races")).toBe("done");
    release();
    expect(await first).toBe("retry");
    expect(await noted()).toHaveLength(20);
    expect(await runOne(context(), kinds, "reaction.races")).toBe("done");
    expect(await noted()).toHaveLength(20);
  });

  it("that is new starts where it says", async () => {
    await record(4);
    await runDue(context(), noting("from-now", { from: "now" }).kinds);
    expect(await noted()).toEqual([]);
    await record(2);
    offset += 60_000;
    await runDue(context(), noting("from-now", { from: "now" }).kinds);
    expect(await noted()).toEqual((await wanted()).slice(-1));
    await env.DB.prepare("delete from work").run();
    await runDue(context(), noting("from-the-beginning").kinds);
    expect(await noted()).toEqual(await wanted());
  });

  it("moves on past events that it does not want", async () => {
    const { kinds } = noting("idle", { from: "now" });
    await runDue(context(), kinds);
    await record(1);
    const owner = context();
    await commit(owner, [owner.audit("certificate.export", "o-1")]);
    offset += 60_000;
    await runDue(context(), kinds);
    const [log] = await context().db.all<{ head: number }>(sql`select max(seq) as head from audit_events`);
    expect(await cursorOf("idle")).toBe(log?.head);
  });

  it("is woken by a commit of an event that it wants, and by no other", async () => {
    const { reaction } = noting("woken");
    const sent: unknown[] = [];
    const made = context([reaction]);
    const WORK = { sendBatch: async (messages: unknown[]) => void sent.push(...messages) } as unknown as Queue;
    const ctx: Context = { ...made, bindings: { ...made.bindings, WORK } };
    const audited: Context["audit"] = (...event) => auditStatement(ctx, ...event);
    await commit(ctx, [audited("certificate.export", "o-2")]);
    expect(sent).toEqual([]);
    await commit(ctx, [audited("certificate.renew", "t-2"), audited("certificate.renew", "t-3")]);
    expect(sent).toEqual([{ body: { kind: "work", id: "reaction.woken" } }]);
  });
});
