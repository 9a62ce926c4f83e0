import { ledgerOf, type SerialStatus } from "../../ledger.ts";
import { refusalError } from "../../refusals.ts";
import type { PublicContext } from "./context.ts";
import type { PublicCa } from "./directory.ts";
import { mayHaveIssued } from "./serials.ts";

/**
 * The status of a serial from the ledger of the CA that would have issued it. A serial that the CA cannot have issued
 * is `unknown` without a call. Every request makes its own call: a call shared by several requests would belong to one
 * of them and end with it.
 */
export async function statusOf(ctx: PublicContext, ca: PublicCa, serial: string): Promise<SerialStatus> {
  if (!(await mayHaveIssued(ctx, ca, serial))) return "unknown";
  const status = await ledgerOf(ctx, ca.ledger_id).status(serial);
  if (typeof status === "object" && "ok" in status) throw refusalError(status);
  return status;
}
