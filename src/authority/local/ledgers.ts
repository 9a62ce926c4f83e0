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
 * Which ledgers there are. The row of a ledger is written before the ledger is made, and goes when the ledger has ended: one
 * whose creation died or lost a race, and one whose issuer was deleted, is found by having a row and no CA.
 */

/** A creation takes a second; after this nobody is at it any more, and its batch is refused. */
const GIVE_UP_MS = 3_600_000;
/** What could not be ended is tried again after this. */
const RETRY_MS = 3_600_000;
const AT_ONCE = 20;

/** The id for a ledger that is about to be made, on record. */
export async function beginLedger(ctx: Context): Promise<string> {
  const id = randomId(ctx.random, "led-");
  await runBatch(ctx.db, [ctx.db.insert(ledgers).values({ id, created_at: timestamp(ctx) })]);
  return id;
}

/** For the batch with the CA's row: fails with `error` where its ledger was given up meanwhile. */
export function ledgerStands(id: string, error: () => AppError): Statement {
  return guard(rowExists(ledgers, and(eq(ledgers.id, id), isNull(ledgers.ending_at))), error);
}

/** 503: a CA was made, and its rows cannot be written any more. */
export function creationGivenUp(): AppError {
  return unavailable("creation_given_up", "this took so long that the CA was withdrawn: create it again");
}

/** For the batch that brings a CA back: its ledger is on record, and does not end. */
export function keepLedger(ctx: Context, id: string): Statement {
  return ctx.db
    .insert(ledgers)
    .values({ id, created_at: timestamp(ctx) })
    .onConflictDoUpdate({ target: ledgers.id, set: { ending_at: null } });
}

/** Ends ledgers that have no CA: each goes on until its last certificate has expired. The cursor is the last id. */
export async function endLedgers(ctx: Context, cursor: string | null): Promise<string | null> {
  // Rows may be missing that are about to come back.
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

/** Ends these ledgers now, whose issuer was deleted: none signs for anybody any more. What fails is left to the sweep. */
export async function endLedgersOf(ctx: Context, ids: readonly string[]): Promise<void> {
  if (await isRecovering(ctx)) return;
  await ctx.db
    .update(ledgers)
    .set({ ending_at: timestamp(ctx) })
    .where(and(inList(ledgers.id, ids), isNull(ledgers.ending_at)));
  for (const id of ids) await endLedger(ctx, id);
}

/** Nobody has its CA, nobody is making it, and it is time to ask. */
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
  // From here on no creation takes it any more.
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
 * Puts every ledger that publishes lists on record: those from before there was one, and those whose rows went when the
 * database was restored to an earlier state. The cursor is that of the object store.
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
