import { describeError } from "../../src/platform/log.ts";
import { pauseAfter } from "../../src/platform/work/policy.ts";
import { type Core, nowOf } from "./core.ts";
import { first, numberOf } from "./storage.ts";

/** The alarm's failed tasks. They are retried without limit, with delays that grow to five minutes. */

/** Delay before the first retry; then 10 s, 20 s, ... */
export const FIRST_RETRY_MS = 5_000;
export const LAST_RETRY_MS = 300_000;

/** `inventory`: it does not answer; `outbox`: it answers but does not take over every fact. */
export type Task = "ocsp_responder" | "inventory" | "outbox" | `list:${number}`;

/** Runs a task and records whether it succeeded. Returns that. */
export async function attempt(core: Core, task: Task, work: () => Promise<unknown>): Promise<boolean> {
  try {
    await work();
    succeeded(core, task);
    return true;
  } catch (error) {
    failed(core, task, error);
    return false;
  }
}

export function failed(core: Core, task: Task, error: unknown): void {
  const now = nowOf(core);
  const text = describeError(error);
  const attempts = numberOf(
    core.sql,
    `insert into failures (task, attempts, since, next_at, error) values (?, 1, ?, ?, ?)
      on conflict (task) do update set attempts = attempts + 1, error = excluded.error returning attempts`,
    task,
    now,
    now,
    text,
  );
  const wait = pauseAfter(attempts, { first: FIRST_RETRY_MS, longest: LAST_RETRY_MS });
  core.sql.exec("update failures set next_at = ? where task = ?", now + wait, task);
  core.log.error("ledger.failed", { task, attempts, error: text });
}

export function succeeded(core: Core, task: Task): void {
  core.sql.exec("delete from failures where task = ?", task);
}

/** When a failed task is due again; null if it has not failed. */
export function retryAt(core: Core, task: Task): number | null {
  return first<{ next_at: number }>(core.sql, "select next_at from failures where task = ?", task)?.next_at ?? null;
}
