import type { Context } from "../../platform/context.ts";
import { ledgerOf, type RevocationReason, type SerialRevoked } from "../ledger.ts";
import { refusalError } from "../refusals.ts";
import { record, writeRevocation } from "../revocation.ts";
import { statusRecordingOf } from "./ca.ts";
import type { CaAuthorityRow } from "./table.ts";

/**
 * Revokes by serial, with or without a record. Throws 404 for a serial that this CA cannot have issued, 400 for the
 * serial of a CA and for a reason that the present one cannot change to.
 */
export async function revokeSerial(
  ctx: Context,
  { issuer_id, ca_id, ledger_id }: Pick<CaAuthorityRow, "issuer_id" | "ca_id" | "ledger_id">,
  serial: string,
  reason: RevocationReason | null,
): Promise<SerialRevoked> {
  const result = await ledgerOf(ctx, ledger_id).revokeSerial(serial, reason);
  if (!result.ok) throw refusalError(result);
  const { entry } = result;
  const audit = ctx.audit("issuer.revoke_serial", issuer_id, {
    ca_id,
    serial_number: serial,
    reason: entry.reason,
    revoked_at: entry.revoked_at,
  });
  const recording = statusRecordingOf(ctx, [{ ...entry, ledger_id }]);
  if (entry.certificate_id === "") await record(ctx, recording, async () => [audit]);
  else await writeRevocation(ctx, entry.certificate_id, [{ ...entry, issuer_id }], [recording], [audit]);
  return result;
}
