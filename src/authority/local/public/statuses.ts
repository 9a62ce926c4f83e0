import { ledgerOf, type SerialStatus } from "../../ledger.ts";
import { refusalError } from "../../refusals.ts";
import type { PublicContext } from "./context.ts";
import type { PublicCa } from "./directory.ts";
import { mayHaveIssued } from "./serials.ts";

/**
 * The status of each serial, in order, from the ledger of the CA that would have issued it. Serials that the CA cannot have
 * issued are `unknown` without asking. Every request asks with a call of its own: a call that several requests await belongs
 * to one of them, and ends with it.
 */
export async function statusesOf(
  ctx: PublicContext,
  ca: PublicCa,
  serials: readonly string[],
): Promise<SerialStatus[]> {
  const possible = await Promise.all(serials.map((serial) => mayHaveIssued(ctx, ca, serial)));
  const asked = serials.filter((_, i) => possible[i]);
  const statuses = asked.length > 0 ? await ledgerOf(ctx, ca.ledger_id).lookup(asked) : [];
  if ("ok" in statuses) throw refusalError(statuses);
  if (statuses.length !== asked.length)
    throw new Error(`the ledger was asked for ${asked.length} serials and answered ${statuses.length}`);
  return possible.map((is) => (is && statuses.shift()) || { status: "unknown" });
}

export async function statusOf(ctx: PublicContext, ca: PublicCa, serial: string): Promise<SerialStatus> {
  const [status] = await statusesOf(ctx, ca, [serial]);
  return status ?? { status: "unknown" };
}
