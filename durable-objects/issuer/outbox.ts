import { describeError } from "../../src/platform/log.ts";
import { type Policy, pauseAfter } from "../../src/platform/work/policy.ts";
import { type Core, caOf, nowOf, wakeAt } from "./core.ts";
import { acknowledge, type EntryRow, issuedOf, SETTLE_AFTER_MS } from "./entries.ts";
import { attempt, failed, retryAt, succeeded } from "./failures.ts";
import { signOnce } from "./issue.ts";
import { numberOf } from "./storage.ts";

/** The outbox: facts that the inventory has not acknowledged, and unfinished reservations. */

const BATCH = 100;
const HAND_OVER: Policy = { first: SETTLE_AFTER_MS, longest: 3_600_000 };

/** Facts that were acknowledged but are missing are handed over again. */
export function handOverAgain(core: Core, requestIds: readonly string[]): void {
  for (const id of requestIds)
    core.sql.exec("update entries set acknowledged = 0 where request_id = ? and state = 1 and kind = 'leaf'", id);
  wakeAt(core, nowOf(core) + SETTLE_AFTER_MS);
}

/** The inventory was restored to an earlier state: hands over everything after `seq` again. */
export function handOverSince(core: Core, seq: number): void {
  core.sql.exec("update entries set acknowledged = 0 where seq > ? and state = 1 and kind in ('leaf', 'ca')", seq);
  wakeAt(core, nowOf(core) + SETTLE_AFTER_MS);
}

/** Number of facts that the inventory has yet to hear of. */
export function waiting(core: Core): number {
  return numberOf(core.sql, "select count(*) from entries where acknowledged = 0");
}

/** Serials of a certificate that wait to be handed over: the inventory may not know them. */
export function unsettled(core: Core, certificateId: string): string[] {
  const query =
    "select serial from entries where acknowledged = 0 and state = 1 and kind = 'leaf' and certificate_id = ?";
  return core.sql
    .exec<{ serial: string }>(query, certificateId)
    .toArray()
    .map((row) => row.serial);
}

/** When the next attempt is due; null if the inventory has everything. */
export function nextSettleDue(core: Core): number | null {
  // With nothing waiting, every fact arrived some other way and the failure is over.
  if (waiting(core) === 0) return retryAt(core, "outbox");
  const oldest = numberOf(core.sql, "select min(coalesce(settle_at, created_at)) from entries where acknowledged = 0");
  return Math.max(oldest + SETTLE_AFTER_MS, retryAt(core, "inventory") ?? 0);
}

/**
 * Signs unfinished reservations and hands facts to the inventory, which returns those it now has. The others are handed
 * over again with growing delays, up to an hour.
 */
export async function settleDue(core: Core): Promise<void> {
  const ca = caOf(core);
  const due = nextSettleDue(core);
  if (!ca || due === null || due > nowOf(core)) return;
  const rows = core.sql
    .exec<EntryRow>(
      `select * from entries where acknowledged = 0 and coalesce(settle_at, created_at) <= ?
        order by coalesce(settle_at, created_at) limit ${BATCH}`,
      nowOf(core) - SETTLE_AFTER_MS,
    )
    .toArray();
  const ids = JSON.stringify(rows.map((row) => row.cursor));
  // Moves them to the end of the queue first, whatever the result.
  core.sql.exec("update entries set settle_at = ? where cursor in (select value from json_each(?))", nowOf(core), ids);
  const reserved = rows.filter((row) => row.state === 0);
  for (const one of await Promise.allSettled(reserved.map((row) => signOnce(core, ca, row))))
    if (one.status === "rejected") core.log.error("ledger.sign_failed", { error: describeError(one.reason) });
  const query =
    "select * from entries where cursor in (select value from json_each(?)) and acknowledged = 0 and state = 1";
  const issued = core.sql
    .exec<EntryRow>(query, ids)
    .toArray()
    .map((row) => issuedOf(core, ca, row));
  const handedOver = await attempt(core, "inventory", async () => {
    if (issued.length > 0) acknowledge(core, await core.inventory.settle(ca.ledger_id, issued));
  });
  if (handedOver) postpone(core, ids);
}

/** Hands over the refused ones later: after 5, 10, 20, ... seconds, at most an hour. */
function postpone(core: Core, ids: string): void {
  const query =
    "select cursor, settle_tries from entries where cursor in (select value from json_each(?)) and acknowledged = 0";
  for (const { cursor, settle_tries } of core.sql
    .exec<{ cursor: number; settle_tries: number }>(query, ids)
    .toArray()) {
    const tries = settle_tries + 1;
    const settle_at = nowOf(core) - SETTLE_AFTER_MS + pauseAfter(tries, HAND_OVER);
    core.sql.exec("update entries set settle_tries = ?, settle_at = ? where cursor = ?", tries, settle_at, cursor);
  }
  const left = numberOf(core.sql, "select count(*) from entries where acknowledged = 0 and settle_tries > 0");
  if (left === 0) succeeded(core, "outbox");
  else failed(core, "outbox", new Error(`the inventory does not take over ${left} entries; the log says why`));
}
