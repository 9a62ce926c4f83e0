import { describeError } from "../../src/platform/log.ts";
import { type Core, ledgerIdOf, nowOf, wakeAt } from "./core.ts";
import { nextCrlDue, publishDue } from "./crl.ts";
import { iso } from "./entries.ts";
import { attempt, FIRST_RETRY_MS, LAST_RETRY_MS, retryAt, type Task } from "./failures.ts";
import { nextSettleDue, settleDue } from "./outbox.ts";
import { nextResponderDue, renewResponder } from "./responder.ts";
import { compare, isWhole } from "./restore.ts";

/** The one alarm does what is due: the OCSP responder, lists, the outbox to the inventory. It never gives up. */

/**
 * A task that has failed for this long is stuck: it is reported to the inventory, which shows it (`problems` of an
 * issuer).
 */
const STUCK_AFTER_MS = 120_000;

export async function doWhatIsDue(core: Core): Promise<void> {
  if ((responderDue(core) ?? 0) <= nowOf(core)) await attempt(core, "ocsp_responder", () => renewResponder(core));
  if (await isWhole(core)) {
    if (!core.compared) await compare(core);
    await publishDue(core);
    await settleDue(core);
  } else await core.running.get("restoring");
  await reportProblems(core);
  // Until it is whole again, a ledger does none of its due tasks.
  setAlarm(core, core.whole ? 0 : (retryAt(core, "inventory") ?? nowOf(core) + FIRST_RETRY_MS));
}

/** Sets the alarm for the next due list, responder or hand-over, but not before `earliest`. */
export function setAlarm(core: Core, earliest = 0): void {
  const due = [nextCrlDue(core), responderDue(core), nextSettleDue(core)].filter((at) => at !== null);
  if (due.length > 0) wakeAt(core, Math.max(Math.min(...due), earliest));
}

/** For the alarm only: a caller that needs a responder at once does not wait for it. */
function responderDue(core: Core): number | null {
  const due = nextResponderDue(core);
  return due === null ? null : Math.max(due, retryAt(core, "ocsp_responder") ?? 0);
}

/** Reports stuck tasks, longest first, to the inventory if they have changed. */
async function reportProblems(core: Core): Promise<void> {
  const found = core.sql
    .exec<{ task: Task; since: number; error: string }>(
      "select task, since, error from failures where since <= ? order by since, task",
      nowOf(core) - STUCK_AFTER_MS,
    )
    .toArray()
    .map(({ task, since, error }) => ({ task, since: iso(since), error }));
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
