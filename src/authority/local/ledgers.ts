import { and, asc, eq, gt, isNull, lte, or, type SQL } from "drizzle-orm";
import { type Context, timestamp } from "../../platform/context.ts";
import { guard, inList, noRow, rowExists, runBatch, type Statement } from "../../platform/database.ts";
import { type AppError, unavailable } from "../../platform/errors.ts";
import { randomId } from "../../platform/ids.ts";
import { describeError } from "../../platform/log.ts";
import { ledgerOf } from "../ledger.ts";
import { isRecovering, publishedLedgers } from "./recovery.ts";
import { certificateAuthorities, ledgerMarks, ledgers } from "./table.ts";

/**
 * The register of ledgers. A ledger's row is written before the ledger is made and deleted when the ledger has ended. A
 * row without a CA reveals a ledger whose creation failed or lost a race, or whose issuer was deleted.
 */

/** A creation takes a second; after this it is given up, and its batch is refused. */
const GIVE_UP_MS = 3_600_000;
/** Delay before ending a ledger is retried. */
const RETRY_MS = 3_600_000;
const AT_ONCE = 20;

/** Registers a ledger about to be made and returns its id. */
export async function beginLedger(ctx: Context): Promise<string> {
  const id = randomId(ctx.random, "led-");
  await runBatch(ctx.db, [ctx.db.insert(ledgers).values({ id, created_at: timestamp(ctx) })]);
  return id;
}

/** For the batch with the CA's row: fails with `error` if the ledger was given up meanwhile. */
export function ledgerStands(id: string, error: () => AppError): Statement {
  return guard(rowExists(ledgers, and(eq(ledgers.id, id), isNull(ledgers.ending_at))), error);
}

/** 503: a CA was made but its rows can no longer be written. */
export function creationGivenUp(): AppError {
  return unavailable("creation_given_up", "this took so long that the CA was withdrawn: create it again");
}

/** For the batch that restores a CA: registers its ledger and cancels its end. */
export function keepLedger(ctx: Context, id: string): Statement {
  return ctx.db
    .insert(ledgers)
    .values({ id, created_at: timestamp(ctx) })
    .onConflictDoUpdate({ target: ledgers.id, set: { ending_at: null } });
}

/**
 * Ends ledgers without a CA: each keeps answering until its last certificate has expired. The cursor is the last id.
 */
export async function endLedgers(ctx: Context, cursor: string | null): Promise<string | null> {
  // Missing rows may be about to come back.
  if (await isRecovering(ctx)) return null;
  const rows = await ctx.db
    .select({ id: ledgers.id })
    .from(ledgers)
    .where(and(gt(ledgers.id, cursor ?? ""), isDue(ctx)))
    .orderBy(asc(ledgers.id))
    .limit(AT_ONCE);
  for (const { id } of rows) await endLedger(ctx, id);
  return rows.length < AT_ONCE ? null : (rows.at(-1)?.id ?? null);
}

/** Ends the ledgers of a deleted issuer now: none signs any more. The sweep retries failures. */
export async function endLedgersOf(ctx: Context, ids: readonly string[]): Promise<void> {
  if (await isRecovering(ctx)) return;
  await ctx.db
    .update(ledgers)
    .set({ ending_at: timestamp(ctx) })
    .where(and(inList(ledgers.id, ids), isNull(ledgers.ending_at)));
  for (const id of ids) await endLedger(ctx, id);
}

/** It has no CA, none is being made, and it is due. */
function isDue(ctx: Context): SQL | undefined {
  const now = ctx.clock.now();
  const { id, created_at, ending_at } = ledgers;
  return and(
    or(
      and(isNull(ending_at), lte(created_at, new Date(now.getTime() - GIVE_UP_MS).toISOString())),
      lte(ending_at, now.toISOString()),
    ),
    noRow(certificateAuthorities, eq(certificateAuthorities.ledger_id, id)),
  );
}

async function endLedger(ctx: Context, id: string): Promise<void> {
  const again = new Date(ctx.clock.now().getTime() + RETRY_MS).toISOString();
  // From here on no creation can use it.
  const claimed = await ctx.db
    .update(ledgers)
    .set({ ending_at: again })
    .where(and(eq(ledgers.id, id), isDue(ctx)))
    .returning({ id: ledgers.id });
  if (claimed.length === 0) return;
  try {
    const answer = await ledgerOf(ctx, id).end();
    if (!answer.ok) ctx.log.warn("ledger.not_ended", { ledger_id: id, code: answer.code });
    else if (answer.ends_at !== null)
      await ctx.db.update(ledgers).set({ ending_at: answer.ends_at }).where(eq(ledgers.id, id));
    else
      await runBatch(ctx.db, [
        ctx.db.delete(ledgers).where(eq(ledgers.id, id)),
        ctx.db.delete(ledgerMarks).where(eq(ledgerMarks.ledger_id, id)),
        ctx.audit("ledger.end", id),
      ]);
  } catch (error) {
    ctx.log.error("ledger.end_failed", { ledger_id: id, error: describeError(error) });
  }
}

/**
 * Registers every ledger that publishes lists: those older than the register, and those whose rows were lost when the
 * database was restored to an earlier state. The cursor is the object store's.
 */
export async function recordLedgers(ctx: Context, cursor: string | null): Promise<string | null> {
  const { ids, next } = await publishedLedgers(ctx, cursor, AT_ONCE);
  const created_at = timestamp(ctx);
  if (ids.length > 0)
    await ctx.db
      .insert(ledgers)
      .values(ids.map((id) => ({ id, created_at })))
      .onConflictDoNothing();
  return next;
}
