import { describeError } from "../../src/platform/log.ts";
import { type Core, caOf, nowOf, wakeAt } from "./core.ts";
import { issuedOf, signOnce } from "./issue.ts";
import { acknowledge, SETTLE_AFTER_MS } from "./mark.ts";
import type { EntryRow } from "./storage.ts";

/** The outbox: facts that the inventory has not acknowledged, and reservations that nobody has finished. */

const BATCH = 100;

/** What was acknowledged and is missing all the same goes the way of what never was. */
export function handOverAgain(core: Core, requestIds: readonly string[]): void {
  for (const id of requestIds) {
    core.sql.exec("update entries set acknowledged = 0 where request_id = ? and state = 1 and kind = 'leaf'", id);
  }
  wakeAt(core, nowOf(core) + SETTLE_AFTER_MS);
}

/** The inventory was restored to an earlier state: what happened after `seq` goes to it again. */
export function handOverSince(core: Core, seq: number): void {
  core.sql.exec("update entries set acknowledged = 0 where seq > ? and state = 1 and kind in ('leaf', 'ca')", seq);
  wakeAt(core, nowOf(core) + SETTLE_AFTER_MS);
}

/** How many facts the inventory has still to hear of. */
export function waiting(core: Core): number {
  return core.sql.exec<{ n: number }>("select count(*) as n from entries where acknowledged = 0").one().n;
}

/** When the first entry is to be handed over; null when there is none. */
export function nextSettleDue(core: Core): number | null {
  const { oldest } = core.sql
    .exec<{ oldest: number | null }>(
      "select min(coalesce(settle_at, created_at)) as oldest from entries where acknowledged = 0",
    )
    .one();
  return oldest === null ? null : oldest + SETTLE_AFTER_MS;
}

/**
 * Signs what was left reserved and hands what happened to the inventory, which answers the facts that it has now.
 * Answers false when something stays for later.
 */
export async function settleDue(core: Core): Promise<boolean> {
  const ca = caOf(core);
  if (!ca) return true;
  const rows = core.sql
    .exec<EntryRow>(
      `select * from entries where acknowledged = 0 and coalesce(settle_at, created_at) <= ?
        order by coalesce(settle_at, created_at) limit ${BATCH}`,
      nowOf(core) - SETTLE_AFTER_MS,
    )
    .toArray();
  if (rows.length === 0) return true;
  const ids = JSON.stringify(rows.map((row) => row.cursor));
  // Behind all others first, whatever comes of it: what is not settled now waits its turn again.
  core.sql.exec("update entries set settle_at = ? where cursor in (select value from json_each(?))", nowOf(core), ids);
  await Promise.all(rows.filter((row) => row.state === 0).map((row) => signOnce(core, ca, row)));
  const issued = core.sql
    .exec<EntryRow>(
      "select * from entries where cursor in (select value from json_each(?)) and acknowledged = 0 and state = 1",
      ids,
    )
    .toArray()
    .map((row) => issuedOf(core, ca, row));
  if (issued.length === 0) return true;
  try {
    const settled = await core.settle(issued);
    acknowledge(core, settled);
    return settled.length === issued.length;
  } catch (error) {
    core.log.error("ledger.settle_failed", { error: describeError(error), count: issued.length });
    return false;
  }
}
