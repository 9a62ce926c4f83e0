import { and, asc, eq, isNull, lte, or, sql } from "drizzle-orm";
import { type Context, timestamp } from "./context.ts";
import { guard, type Statement } from "./database.ts";
import { randomId } from "./ids.ts";
import { describeError } from "./log.ts";
import { outbox } from "./tables.ts";

/** What a topic does with an entry. Must be idempotent: it runs at least once, perhaps twice at the same time. */
export type OutboxHandler = (ctx: Context, payload: Record<string, unknown>) => Promise<void>;

export type OutboxHandlers = Readonly<Record<string, OutboxHandler>>;

const LEASE_SECONDS = 60;
const MAX_ATTEMPTS = 30;
const KEEP_DONE_DAYS = 7;

/** The statement that puts an entry into the caller's batch, and the wake-up to be sent once the batch is committed. */
export function enqueue(
  ctx: Context,
  topic: string,
  payload: Record<string, unknown>,
  delaySeconds = 0,
): { statement: Statement; id: string } {
  const now = ctx.clock.now();
  const id = randomId(ctx.random, "ob-");
  const due_at = new Date(now.getTime() + delaySeconds * 1000).toISOString();
  const statement = ctx.db
    .insert(outbox)
    .values({ id, topic, payload, state: "pending", attempts: 0, due_at, created_at: now.toISOString() });
  return { statement, id };
}

/** The statements that end an entry which nobody has taken up yet; the batch fails (GuardFailed) when somebody has. */
export function withdrawEntry(ctx: Context, id: string): Statement[] {
  const untouched = and(eq(outbox.id, id), eq(outbox.state, "pending"), eq(outbox.attempts, 0));
  return [
    guard(ctx.db, sql`exists (select 1 from ${outbox} where ${untouched})`),
    ctx.db
      .update(outbox)
      .set({ state: "done", done_at: timestamp(ctx) })
      .where(untouched),
  ];
}

/** Best effort: a wake-up that is lost costs at most one tick of the sweep. */
export function wake(ctx: Context, ids: readonly string[]): void {
  if (ids.length === 0) return;
  const messages = ids.map((id) => ({ body: { kind: "outbox", id } }));
  ctx.defer(
    ctx.bindings.WORK.sendBatch(messages).catch((error) =>
      ctx.log.warn("outbox.wake_failed", { error: describeError(error) }),
    ),
  );
}

/**
 * Claims an entry for one minute and runs it. The claim raises `attempts`, which fences the finish: who lost its lease
 * cannot end what another one has taken over. A failure backs off exponentially up to an hour with jitter.
 */
export async function runEntry(
  ctx: Context,
  id: string,
  handlers: OutboxHandlers,
): Promise<"done" | "retry" | "skipped" | "dead"> {
  const now = ctx.clock.now();
  const [claimed] = await ctx.db
    .update(outbox)
    .set({
      attempts: sql`${outbox.attempts} + 1`,
      lease_until: new Date(now.getTime() + LEASE_SECONDS * 1000).toISOString(),
    })
    .where(and(eq(outbox.id, id), claimable(now)))
    .returning();
  if (!claimed) return "skipped";
  const mine = and(eq(outbox.id, id), eq(outbox.attempts, claimed.attempts), eq(outbox.state, "pending"));
  try {
    const handler = handlers[claimed.topic];
    if (!handler) throw new Error(`no handler for topic ${claimed.topic}`);
    await handler(ctx, claimed.payload);
    await ctx.db
      .update(outbox)
      .set({ state: "done", done_at: timestamp(ctx), lease_until: null, last_error: null })
      .where(mine);
    return "done";
  } catch (error) {
    const dead = claimed.attempts >= MAX_ATTEMPTS;
    const backoff = Math.min(3600, 2 ** Math.min(claimed.attempts, 12)) * (0.5 + (ctx.random.bytes(1)[0] ?? 0) / 512);
    const due_at = new Date(ctx.clock.now().getTime() + backoff * 1000).toISOString();
    ctx.log.error(dead ? "outbox.dead" : "outbox.failed", {
      id,
      topic: claimed.topic,
      attempts: claimed.attempts,
      error: describeError(error),
    });
    await ctx.db
      .update(outbox)
      .set({ state: dead ? "dead" : "pending", due_at, lease_until: null, last_error: describeError(error) })
      .where(mine);
    return dead ? "dead" : "retry";
  }
}

function claimable(now: Date) {
  const at = now.toISOString();
  return and(
    eq(outbox.state, "pending"),
    lte(outbox.due_at, at),
    or(isNull(outbox.lease_until), lte(outbox.lease_until, at)),
  );
}

/** The sweep behind the wake-ups: ids that are due and that nobody holds, oldest first. */
export async function dueEntries(ctx: Context, limit: number): Promise<string[]> {
  const rows = await ctx.db
    .select({ id: outbox.id })
    .from(outbox)
    .where(claimable(ctx.clock.now()))
    .orderBy(asc(outbox.due_at))
    .limit(limit);
  return rows.map((row) => row.id);
}

/** Drops what is done for longer than a week; what is dead stays for somebody to look at. */
export async function pruneOutbox(ctx: Context): Promise<void> {
  const before = new Date(ctx.clock.now().getTime() - KEEP_DONE_DAYS * 86_400_000).toISOString();
  await ctx.db.delete(outbox).where(and(eq(outbox.state, "done"), lte(outbox.done_at, before)));
}
