import { and, eq } from "drizzle-orm";
import type { Context } from "../context.ts";
import { guard, rowExists, type Statement } from "../database.ts";
import { randomId } from "../ids.ts";
import { describeError } from "../log.ts";
import { work } from "../tables.ts";
import type { Schedule } from "./schedule.ts";

/**
 * Work that a committed change asks for, and work that recurs. The row is the truth; a queue message is only a wake-up. A row
 * that a change asks for is written in the change's own batch. Finished work is deleted; dead work stays until somebody
 * requeues it.
 */

export type Payload = Readonly<Record<string, unknown>>;

/** The claim that one run has on its row. The fence rises with every claim, so an older claim can be told apart. */
export interface Claim {
  readonly id: string;
  readonly fence: number;
  /** How many attempts there have been, this one included. */
  readonly attempts: number;
}

/** What is left to do: the row stays, with this payload. */
export interface Rest {
  readonly payload: Payload;
  /** Seconds until it is due again; null: at the next time of the kind's schedule. */
  readonly inSeconds: number | null;
}

/** How work of one kind is done. */
export interface WorkKind {
  /**
   * Must be idempotent: it runs at least once, perhaps twice at the same time. Throws for another attempt. Answers what is
   * left to do, or nothing when all is done.
   */
  run(ctx: Context, payload: Payload, claim: Claim): Promise<Rest | undefined>;
  /** Called before the row is marked dead; when it throws, the work is tried again instead. Must be idempotent. */
  dead?(ctx: Context, payload: Payload, error: string): Promise<void>;
  /** A run that takes longer has failed, though it may yet take effect. 30 by default, at most 45: the lease is 60. */
  readonly timeoutSeconds?: number;
  /** How many attempts there are before the work is dead; 30 by default. */
  readonly attempts?: number;
  /** How many of this kind run at once, however many are due; 10 by default. */
  readonly atOnce?: number;
  /** Recurring work: one row, whose id is the name of the kind, due by this schedule. Dead, it is revived at its next time. */
  readonly schedule?: Schedule;
  /** Recurring work that goes on while the disk is nearly full. */
  readonly whenFull?: true;
}

export type WorkKinds = Readonly<Record<string, WorkKind>>;

/** The statement for the caller's batch, and the id to wake once that is committed. */
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

/** The statements that take back what nobody has begun; the batch fails (ChangedMeanwhile) when somebody has. */
export function withdraw(ctx: Context, id: string): Statement[] {
  const untouched = and(eq(work.id, id), eq(work.state, "due"), eq(work.fence, 0));
  return [guard(rowExists(work, untouched)), ctx.db.delete(work).where(untouched)];
}

/**
 * The statements that go with the effects of a run in one batch: they store how far it got. The batch fails (ChangedMeanwhile)
 * when the row has been claimed again: then another run has these effects.
 */
export function holdsStatements(ctx: Context, { id, fence }: Claim, payload: Payload): Statement[] {
  const held = and(eq(work.id, id), eq(work.fence, fence));
  return [guard(rowExists(work, held)), ctx.db.update(work).set({ payload }).where(held)];
}

const wakes = new WeakMap<Statement, readonly string[]>();

/** The same statement; whoever commits it wakes these rows of work afterwards. */
export function waking<S extends Statement>(statement: S, ids: readonly string[]): S {
  if (ids.length > 0) wakes.set(statement, ids);
  return statement;
}

/** What these statements wake once they are committed. */
export function wokenBy(statements: readonly Statement[]): string[] {
  return [...new Set(statements.flatMap((statement) => wakes.get(statement) ?? []))];
}

/** Best effort: a wake-up that is lost costs at most one tick. */
export function wake(ctx: Context, ids: readonly string[], delaySeconds = 0): void {
  if (ids.length === 0) return;
  const messages = ids.map((id) => ({ body: { kind: "work", id } }));
  const sent = ctx.bindings.WORK.sendBatch(messages, delaySeconds > 0 ? { delaySeconds } : {});
  ctx.defer(sent.catch((error) => ctx.log.warn("work.wake_failed", { error: describeError(error) })));
}

/** The statement that makes dead work due again, as if it had never been tried. */
export function requeueStatement(ctx: Context, id: string): Statement {
  const due_at = ctx.clock.now().toISOString();
  return ctx.db
    .update(work)
    .set({ state: "due", attempts: 0, due_at })
    .where(and(eq(work.id, id), eq(work.state, "dead")));
}
