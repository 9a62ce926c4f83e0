import { ledgerOf, type SerialStatus } from "../ledger.ts";
import type { PublicContext } from "./context.ts";

/**
 * The status of each serial, in order, from the ledger that would have issued it. Every request asks with a call of its own: a
 * call that several requests await belongs to one of them, and ends with it.
 */
export async function statusesOf(
  ctx: PublicContext,
  ledgerId: string,
  serials: readonly string[],
): Promise<SerialStatus[]> {
  const statuses = await ledgerOf(ctx, ledgerId).lookup(serials);
  if (statuses.length !== serials.length)
    throw new Error(`the ledger was asked for ${serials.length} serials and answered ${statuses.length}`);
  return statuses;
}

export async function statusOf(ctx: PublicContext, ledgerId: string, serial: string): Promise<SerialStatus> {
  const [status] = await statusesOf(ctx, ledgerId, [serial]);
  return status ?? { status: "unknown" };
}
