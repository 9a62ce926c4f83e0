import { and, eq } from "drizzle-orm";
import type { Context } from "../context.ts";
import { guard, rowExists, type Statement } from "../database.ts";
import { randomId } from "../ids.ts";
import { describeError } from "../log.ts";
import { work } from "../tables.ts";
import type { Schedule } from "./schedule.ts";

/**
 * Work requested by committed changes, and recurring work. The row is authoritative; a queue message is only a wake-up.
 * A change inserts its work in its own batch. Finished work is deleted; dead work stays until an operator requeues it.
 */

export type Payload = Readonly<Record<string, unknown>>;

/** A run's claim on its row. The fence increments with every claim, so an outdated claim is recognisable. */
export interface Claim {
  readonly id: string;
  readonly fence: number;
  /** Number of attempts, including this one. */
  readonly attempts: number;
}

/** Work that remains: the row stays, with this payload. */
export interface Rest {
  readonly payload: Payload;
  /** Seconds until it is due again; null: at the next time of the kind's schedule. */
  readonly inSeconds: number | null;
}

/** Implements one kind of work. */
export interface WorkKind {
  /**
   * Must be idempotent: runs at least once, possibly twice concurrently. Throw to retry. Return the remaining work, or
   * nothing if all is done.
   */
  run(ctx: Context, payload: Payload, claim: Claim): Promise<Rest | undefined>;
  /** Called before the row is marked dead; if it throws, the work is retried instead. Must be idempotent. */
  dead?(ctx: Context, payload: Payload, error: string): Promise<void>;
  /** A longer run counts as failed, although it may still take effect. Default 30, at most 45; the lease is 60. */
  readonly timeoutSeconds?: number;
  /** Attempts before the work is dead; default 30. */
  readonly attempts?: number;
  /** Maximum concurrent runs of this kind; default 10. */
  readonly atOnce?: number;
  /**
   * Makes the kind recurring: one row, whose id is the kind's name, due by this schedule. A dead row is revived at its
   * next time.
   */
  readonly schedule?: Schedule;
  /** Recurring work that keeps running while the disk is nearly full. */
  readonly whenFull?: true;
}

export type WorkKinds = Readonly<Record<string, WorkKind>>;

/** Returns the statement for the caller's batch and the id to wake after the commit. */
export function enqueue(
  ctx: Context,
  kind: string,
  payload: Payload,
  delaySeconds = 0,
): { statement: Statement; id: string } {
  const now = ctx.clock.now();
  const id = randomId(ctx.random, "work-");
  const due_at = new Date(now.getTime() + delaySeconds * 1000).toISOString();
  const row = { id, kind, payload, state: "due", attempts: 0, due_at, created_at: now.toISOString() } as const;
  return { statement: ctx.db.insert(work).values(row), id };
}

/** Statements that delete work no run has claimed yet; the batch fails with ChangedMeanwhile if one has. */
export function withdraw(ctx: Context, id: string): Statement[] {
  const untouched = and(eq(work.id, id), eq(work.state, "due"), eq(work.fence, 0));
  return [guard(rowExists(work, untouched)), ctx.db.delete(work).where(untouched)];
}

/**
 * Statements that store a run's progress in the same batch as its effects. The batch fails with ChangedMeanwhile if the
 * row has been claimed again: the other run then produces the effects.
 */
export function holdsStatements(ctx: Context, { id, fence }: Claim, payload: Payload): Statement[] {
  const held = and(eq(work.id, id), eq(work.fence, fence));
  return [guard(rowExists(work, held)), ctx.db.update(work).set({ payload }).where(held)];
}

const wakes = new WeakMap<Statement, readonly string[]>();

/** Marks a statement so that committing it wakes these work rows. Returns the same statement. */
export function waking<S extends Statement>(statement: S, ids: readonly string[]): S {
  if (ids.length > 0) wakes.set(statement, ids);
  return statement;
}

/** The work rows to wake after these statements are committed. */
export function wokenBy(statements: readonly Statement[]): string[] {
  return [...new Set(statements.flatMap((statement) => wakes.get(statement) ?? []))];
}

/** Sends wake-ups, best effort: a lost one delays the work by at most one tick. */
export function wake(ctx: Context, ids: readonly string[], delaySeconds = 0): void {
  if (ids.length === 0) return;
  const messages = ids.map((id) => ({ body: { kind: "work", id } }));
  const sent = ctx.bindings.WORK.sendBatch(messages, delaySeconds > 0 ? { delaySeconds } : {});
  ctx.defer(sent.catch((error) => ctx.log.warn("work.wake_failed", { error: describeError(error) })));
}

/** Statement that makes dead work due again with its attempts reset. */
export function requeueStatement(ctx: Context, id: string): Statement {
  const due_at = ctx.clock.now().toISOString();
  return ctx.db
    .update(work)
    .set({ state: "due", attempts: 0, due_at })
    .where(and(eq(work.id, id), eq(work.state, "dead")));
}
