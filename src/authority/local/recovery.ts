import { isNotNull } from "drizzle-orm";
import type { Context } from "../../platform/context.ts";
import { describeError } from "../../platform/log.ts";
import { markWhole, recoveringSince } from "../../platform/whole.ts";
import type { Paused } from "../../platform/work/sweep.ts";
import { ledgerOf } from "../ledger.ts";
import { CRL_PREFIX } from "../ledger-places.ts";
import { ledgerMarks } from "./table.ts";

/** Whether the database or a ledger is taking back what it lost in a restore. */
export async function isRecovering(ctx: Context): Promise<boolean> {
  const [ledger] = await ctx.db
    .select({ id: ledgerMarks.ledger_id })
    .from(ledgerMarks)
    .where(isNotNull(ledgerMarks.restoring_since))
    .limit(1);
  return ledger !== undefined || (await recoveringSince(ctx)) !== null;
}

/** Ledgers per slice. */
const AT_ONCE = 20;
/** Minimum time for a ledger's outbox to hand over its facts. */
const AGAIN_SECONDS = 6;

/**
 * Runs while the inventory lacks what happened after the state it was restored to: every ledger that ever published a
 * list (also those unknown to the inventory) compares marks and hands over the rest. A pass in which no ledger has
 * anything left ends it. The cursor is `{R2's cursor}|{ledgers of this pass that had something left}`.
 */
export async function attuneLedgers(ctx: Context, cursor: string | null): Promise<string | null | Paused> {
  const since = await recoveringSince(ctx);
  if (since === null) return null;
  const [from = "", before = "0"] = (cursor ?? "|0").split("|");
  const { ids, next } = await publishedLedgers(ctx, from === "" ? null : from, AT_ONCE);
  const left = await Promise.all(ids.map((id) => hasLeft(ctx, id)));
  const unfinished = Number(before) + left.filter(Boolean).length;
  if (next !== null) return `${next}|${unfinished}`;
  if (unfinished > 0) return { cursor: null, inSeconds: AGAIN_SECONDS };
  await markWhole(ctx, since);
  return null;
}

/** Ledgers with lists in R2, also those unknown to the inventory; `next` null at the end. */
export async function publishedLedgers(
  ctx: Context,
  cursor: string | null,
  limit: number,
): Promise<{ ids: string[]; next: string | null }> {
  const from = cursor === null ? {} : { cursor };
  const page = await ctx.bindings.BYTES.list({ prefix: CRL_PREFIX, delimiter: "/", limit, ...from });
  const ids = page.delimitedPrefixes.map((prefix) => prefix.slice(CRL_PREFIX.length, -1));
  return { ids, next: page.truncated ? page.cursor : null };
}

async function hasLeft(ctx: Context, ledgerId: string): Promise<boolean> {
  try {
    const answer = await ledgerOf(ctx, ledgerId).attune();
    return !answer.ok || answer.waiting > 0;
  } catch (error) {
    ctx.log.error("recovery.ledger_failed", { ledger_id: ledgerId, error: describeError(error) });
    return true;
  }
}
