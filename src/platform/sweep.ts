import { and, eq, isNull, lte, or, sql } from "drizzle-orm";
import type { Context } from "./context.ts";
import { rawStatement, runBatch } from "./database.ts";
import { describeError } from "./log.ts";
import { sweeps } from "./tables.ts";

/** One slice of a sweep: what is due after `cursor`; answers the next cursor, or null when the end is reached. */
export type SweepStep = (ctx: Context, cursor: string | null) => Promise<string | null>;

/** `more`: the caller continues through the queue; `held`: another worker has it; `failed`: the log says why. */
export type SweepOutcome = "finished" | "more" | "held" | "failed";

const LEASE_MS = 120_000;
/** Of this lease so much must be left when a sweep begins. */
const MARGIN_MS = 60_000;
const BUDGET_MS = 20_000;
/** D1 takes 1,000 queries of one invocation; a slice may need some hundred. */
const MAX_SLICES = 4;

type Row = typeof sweeps.$inferSelect;

interface Held {
  readonly name: string;
  readonly fence: number;
  cursor: string | null;
  leaseUntil: number;
}

/**
 * Runs sweeps one after another, each from where it stood. One worker at a time has one: the leases are taken in one statement,
 * and given back in another; the fence keeps a worker that lost its lease from moving the cursor. After a few slices, or 20
 * seconds, a sweep stops with "more". A missed, doubled or overlapping tick changes nothing.
 */
export async function runSweeps(
  ctx: Context,
  steps: Readonly<Record<string, SweepStep>>,
): Promise<Map<string, SweepOutcome>> {
  const names = Object.keys(steps);
  const outcomes = new Map<string, SweepOutcome>(names.map((name) => [name, "held"]));
  if (names.length === 0) return outcomes;
  const held = await take(ctx, names);
  try {
    for (const [name, step] of Object.entries(steps)) {
      const mine = held.find((one) => one.name === name);
      if (mine) outcomes.set(name, await run(ctx, mine, step));
    }
  } finally {
    await giveBack(ctx, held);
  }
  return outcomes;
}

async function take(ctx: Context, names: readonly string[]): Promise<Held[]> {
  const now = ctx.clock.now().getTime();
  const leaseUntil = now + LEASE_MS;
  const lease_until = new Date(leaseUntil).toISOString();
  const free = or(isNull(sweeps.lease_until), lte(sweeps.lease_until, new Date(now).toISOString()));
  const rows: Row[] = await ctx.db
    .insert(sweeps)
    .values(names.map((name) => ({ name, lease_until, fence: 1 })))
    .onConflictDoUpdate({
      target: sweeps.name,
      set: { lease_until, fence: sql`${sweeps.fence} + 1` },
      ...(free ? { setWhere: free } : {}),
    })
    .returning();
  return rows.map(({ name, fence, cursor }) => ({ name, fence, cursor, leaseUntil }));
}

async function run(ctx: Context, mine: Held, step: SweepStep): Promise<SweepOutcome> {
  const started = ctx.clock.now().getTime();
  if (started > mine.leaseUntil - MARGIN_MS && !(await keep(ctx, mine))) return "held";
  try {
    for (let slices = 1; ; slices++) {
      mine.cursor = await step(ctx, mine.cursor);
      if (mine.cursor === null) return "finished";
      if (!(await keep(ctx, mine))) return "held";
      if (slices === MAX_SLICES || ctx.clock.now().getTime() - started > BUDGET_MS) return "more";
    }
  } catch (error) {
    ctx.log.error("sweep.failed", { name: mine.name, error: describeError(error) });
    return "failed";
  }
}

/** Writes the cursor down and has the lease begin anew; false when another worker has the sweep. */
async function keep(ctx: Context, mine: Held): Promise<boolean> {
  mine.leaseUntil = ctx.clock.now().getTime() + LEASE_MS;
  const kept = await ctx.db
    .update(sweeps)
    .set({ cursor: mine.cursor, lease_until: new Date(mine.leaseUntil).toISOString() })
    .where(and(eq(sweeps.name, mine.name), eq(sweeps.fence, mine.fence)))
    .returning({ name: sweeps.name });
  return kept.length > 0;
}

async function giveBack(ctx: Context, held: readonly Held[]): Promise<void> {
  const rows = JSON.stringify(held.map(({ name, fence, cursor }) => ({ name, fence, cursor })));
  await runBatch(ctx.db, [
    rawStatement(
      ctx.db,
      sql`update sweeps set lease_until = null, cursor = h.cursor from (
          select json_extract(value, '$.name') as name, json_extract(value, '$.fence') as fence,
            json_extract(value, '$.cursor') as cursor
          from json_each(${rows})) as h
        where sweeps.name = h.name and sweeps.fence = h.fence`,
    ),
  ]);
}
