import { and, asc, eq, gt, sql } from "drizzle-orm";
import { releaseStatements } from "../inventory/certificates/state.ts";
import { type VersionStatus, versionsOfSerials } from "../inventory/certificates/versions.ts";
import { type Context, timestamp } from "../platform/context.ts";
import { runBatch } from "../platform/database.ts";
import { type Issued, type LedgerEntry, ledgerOf, type RevocationReason } from "./ledger.ts";
import { markStatements } from "./marks.ts";
import { writeRevocation } from "./revocation.ts";
import { certificateAuthorities } from "./table.ts";

/**
 * One slice of the comparison of ledgers and inventory; answers the next cursor, or null at the end. The ledger is right
 * about what was issued and revoked. One thing it takes from the inventory: what was revoked there never un-shows, should a
 * ledger have been restored to an earlier state.
 */
export async function reconcileLedgers(ctx: Context, cursor: string | null): Promise<string | null> {
  const [caId = "", position = "0"] = (cursor ?? "").split("|");
  const [ca] = await ctx.db
    .select({ id: certificateAuthorities.id, ledger_id: certificateAuthorities.ledger_id })
    .from(certificateAuthorities)
    .where(position === "0" ? gt(certificateAuthorities.id, caId) : eq(certificateAuthorities.id, caId))
    .orderBy(asc(certificateAuthorities.id))
    .limit(1);
  if (!ca) return position === "0" ? null : `${caId}|0`;
  const entries = await ledgerOf(ctx, ca.ledger_id).entries(Number(position), SLICE);
  await compare(
    ctx,
    ca.ledger_id,
    entries.filter((entry) => entry.kind === "leaf"),
  );
  const last = entries.at(-1);
  return entries.length < SLICE || !last ? `${ca.id}|0` : `${ca.id}|${last.cursor}`;
}

const SLICE = 200;

async function compare(ctx: Context, ledger_id: string, entries: readonly LedgerEntry[]): Promise<void> {
  const versions = await versionsOfSerials(
    ctx,
    ledger_id,
    entries.map((entry) => entry.serial),
  );
  const known = new Map(versions.map((version) => [version.serial_number, version]));
  const lost: string[] = [];
  for (const entry of entries) {
    const version = known.get(entry.serial);
    if (!version) {
      // What is not acknowledged is on its way; what was, is handed over once more.
      if (entry.acknowledged) lost.push(entry.request_id);
    } else if (version.revoked_at !== entry.revoked_at || version.revocation_reason !== entry.reason) {
      ctx.log.warn("reconcile.status_differs", {
        ledger_id,
        serial: entry.serial,
        ledger: entry.reason,
        inventory: version.revocation_reason,
      });
      await settleDifference(ctx, ledger_id, entry, version.revocation_reason);
    }
  }
  if (lost.length === 0) return;
  ctx.log.error("reconcile.versions_missing", { ledger_id, count: lost.length });
  await ledgerOf(ctx, ledger_id).handOverAgain(lost);
}

/**
 * Brings the inventory to what a ledger says of a certificate that it knows: revoked, released, or as it was. `version` is what
 * the inventory says of it now; there is none of a CA below.
 */
export async function settleStatus(
  ctx: Context,
  { revocation_reason, ...issued }: Issued,
  version: VersionStatus | undefined,
): Promise<void> {
  const { ledger_id, serial, revoked_at } = issued;
  if (version && (version.revoked_at !== revoked_at || version.revocation_reason !== revocation_reason))
    await settleDifference(ctx, ledger_id, { ...issued, reason: revocation_reason }, version.revocation_reason);
  const below = sql`${certificateAuthorities.parent_ca_id} in (
    select p.id from certificate_authorities p where p.ledger_id = ${ledger_id})`;
  const ca = ctx.db
    .update(certificateAuthorities)
    .set({ revoked_at, revocation_reason })
    .where(and(eq(certificateAuthorities.serial_number, serial), below));
  await runBatch(ctx.db, [...(issued.kind === "ca" ? [ca] : []), ...markStatements(ctx, [issued])]);
}

async function settleDifference(
  ctx: Context,
  ledger_id: string,
  entry: Omit<LedgerEntry, "cursor" | "acknowledged">,
  there: string | null,
): Promise<void> {
  if (entry.revoked_at !== null) {
    await writeRevocation(ctx, entry.certificate_id, [{ ...entry, ledger_id, changed: false }]);
    return;
  }
  if (there === "certificateHold") {
    const version = { ledger_id, serial_number: entry.serial };
    await runBatch(ctx.db, [
      ...releaseStatements(ctx, entry.certificate_id, [version], timestamp(ctx)),
      ...markStatements(ctx, [{ ...entry, ledger_id }]),
    ]);
    return;
  }
  const target = { serials: [entry.serial] };
  await ledgerOf(ctx, ledger_id).revoke({ target, reason: there as RevocationReason | null });
}
