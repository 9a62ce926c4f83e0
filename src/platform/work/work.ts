import { and, eq } from "drizzle-orm";
import type { Context } from "../context.ts";
import { guard, rowExists, type Statement } from "../database.ts";
import { randomId } from "../ids.ts";
import { describeError } from "../log.ts";
import { work } from "../tables.ts";

/**
 * Work that a committed change asks for. Its row is written in the change's own batch and is the truth; a queue message is only
 * a wake-up. What is done is deleted, what is dead stays for somebody to look at.
 */

/** What is done with work of one kind. */
export interface WorkKind {
  /** Must be idempotent: it runs at least once, perhaps twice at the same time. Throws for another attempt. */
  run(ctx: Context, payload: Readonly<Record<string, unknown>>): Promise<void>;
  /** What takes longer has failed, though it may yet take effect; 30 unless told, at most a minute: the lease. */
  readonly timeoutSeconds?: number;
  /** So much of a kind runs at once, however much is due: 10 unless told. */
  readonly atOnce?: number;
}

export type WorkKinds = Readonly<Record<string, WorkKind>>;

/** The statement for the caller's batch, and the wake-up to be sent once that is committed. */
export function enqueue(
  ctx: Context,
  kind: string,
  payload: Readonly<Record<string, unknown>>,
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
  const untouched = and(eq(work.id, id), eq(work.state, "due"), eq(work.attempts, 0));
  return [guard(rowExists(work, untouched)), ctx.db.delete(work).where(untouched)];
}

/** Best effort: a wake-up that is lost costs at most one tick. */
export function wake(ctx: Context, ids: readonly string[]): void {
  if (ids.length === 0) return;
  const messages = ids.map((id) => ({ body: { kind: "work", id } }));
  ctx.defer(
    ctx.bindings.WORK.sendBatch(messages).catch((error) =>
      ctx.log.warn("work.wake_failed", { error: describeError(error) }),
    ),
  );
}

/** The statement that makes dead work due again, as if it had never been tried. */
export function requeueStatement(ctx: Context, id: string): Statement {
  const due_at = ctx.clock.now().toISOString();
  return ctx.db
    .update(work)
    .set({ state: "due", attempts: 0, due_at })
    .where(and(eq(work.id, id), eq(work.state, "dead")));
}
