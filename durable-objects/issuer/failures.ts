import type { LedgerProblem } from "../../src/authority/ledger-inventory.ts";
import { describeError } from "../../src/platform/log.ts";
import { type Core, ledgerIdOf, nowOf, wakeAt } from "./core.ts";
import { iso } from "./storage.ts";

/**
 * What the alarm does and could not do. It is tried again ever more seldom, every five minutes in the end, for as long as it
 * takes. What has failed for two minutes is stuck: the inventory is told, so that somebody sees it (`problems` of an issuer).
 */

const FIRST_RETRY_MS = 5_000;
const LAST_RETRY_MS = 300_000;
const STUCK_AFTER_MS = 120_000;

/** `inventory`: it does not answer; `outbox`: it answers, and does not take over all that it is told. */
export type Task = "ocsp_responder" | "inventory" | "outbox" | `list:${number}`;

/** Milliseconds until the next attempt after so many that failed: 5 s, 10 s, 20 s, ... */
function backoff(attempts: number): number {
  return Math.min(FIRST_RETRY_MS * 2 ** Math.min(attempts - 1, 10), LAST_RETRY_MS);
}

/** Notes a failure and answers when the next attempt is due. */
export function failed(core: Core, task: Task, error: unknown): number {
  const now = nowOf(core);
  const text = describeError(error);
  const { attempts } = core.sql
    .exec<{ attempts: number }>(
      `insert into failures (task, attempts, since, next_at, error) values (?, 1, ?, ?, ?)
        on conflict (task) do update set attempts = attempts + 1, error = excluded.error returning attempts`,
      task,
      now,
      now,
      text,
    )
    .one();
  const next = now + backoff(attempts);
  core.sql.exec("update failures set next_at = ? where task = ?", next, task);
  core.log.error("ledger.failed", { task, attempts, error: text });
  return next;
}

export function succeeded(core: Core, task: Task): void {
  core.sql.exec("delete from failures where task = ?", task);
}

/** When the next attempt at what failed is due; null when it did not. */
export function retryAt(core: Core, task: Task): number | null {
  const row = core.sql.exec<{ next_at: number }>("select next_at from failures where task = ?", task).toArray()[0];
  return row?.next_at ?? null;
}

/** What has failed for a while, the longest first. */
function problems(core: Core): LedgerProblem[] {
  return core.sql
    .exec<{ task: Task; since: number; error: string }>(
      "select task, since, error from failures where since <= ? order by since, task",
      nowOf(core) - STUCK_AFTER_MS,
    )
    .toArray()
    .map(({ task, since, error }) => ({ task, since: iso(since), error }));
}

/** Tells the inventory what is stuck, when that has changed. */
export async function reportProblems(core: Core): Promise<void> {
  const found = problems(core);
  const text = found.length === 0 ? null : JSON.stringify(found);
  const told = core.sql.exec<{ problems: string }>("select problems from reported").toArray()[0]?.problems ?? null;
  if (text === told) return;
  if (found.length > 0) core.log.error("ledger.stuck", { problems: text });
  try {
    await core.inventory.report(ledgerIdOf(core), found);
    core.sql.exec("delete from reported");
    if (text !== null) core.sql.exec("insert into reported (problems) values (?)", text);
  } catch (error) {
    core.log.error("ledger.report_failed", { error: describeError(error) });
    wakeAt(core, nowOf(core) + LAST_RETRY_MS);
  }
}
