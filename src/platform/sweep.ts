import { and, eq, isNull, lte, or, sql } from "drizzle-orm";
import type { Context } from "./context.ts";
import { sweeps } from "./tables.ts";

/** One slice of a sweep: what is due after `cursor`; answers the next cursor, or null when the end is reached. */
export type SweepStep = (ctx: Context, cursor: string | null) => Promise<string | null>;

const LEASE_SECONDS = 120;
const BUDGET_MS = 20_000;
/** D1 takes 1,000 queries of one invocation; a slice may need some hundred. */
const MAX_SLICES = 4;

/**
 * Runs a sweep from where it stood. One worker at a time: the lease is taken by a conditional update and its fence keeps
 * a worker that lost it from moving the cursor. After a few slices, or 20 seconds, it stops and answers "more": the caller
 * continues through the queue. A missed, doubled or overlapping tick changes nothing.
 */
export async function runSweep(ctx: Context, name: string, step: SweepStep): Promise<"finished" | "more" | "held"> {
  const started = ctx.clock.now().getTime();
  await ctx.db.insert(sweeps).values({ name, fence: 0 }).onConflictDoNothing();
  const free = or(isNull(sweeps.lease_until), lte(sweeps.lease_until, new Date(started).toISOString()));
  const [held] = await ctx.db
    .update(sweeps)
    .set({ lease_until: new Date(started + LEASE_SECONDS * 1000).toISOString(), fence: sql`${sweeps.fence} + 1` })
    .where(and(eq(sweeps.name, name), free))
    .returning();
  if (!held) return "held";

  const mine = and(eq(sweeps.name, name), eq(sweeps.fence, held.fence));
  let cursor = held.cursor;
  let slices = 0;
  try {
    do {
      cursor = await step(ctx, cursor);
      const now = ctx.clock.now().getTime();
      const lease_until = new Date(now + LEASE_SECONDS * 1000).toISOString();
      const kept = await ctx.db
        .update(sweeps)
        .set({ cursor, lease_until })
        .where(mine)
        .returning({ name: sweeps.name });
      if (kept.length === 0) return "held";
      if (cursor !== null && (++slices === MAX_SLICES || now - started > BUDGET_MS)) return "more";
    } while (cursor !== null);
    return "finished";
  } finally {
    await ctx.db.update(sweeps).set({ lease_until: null }).where(mine);
  }
}
