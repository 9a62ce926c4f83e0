import { and, asc, eq, gt, sql } from "drizzle-orm";
import { releaseStatements } from "../../inventory/certificates/state.ts";
import { versionsOfSerials } from "../../inventory/certificates/versions.ts";
import type { Context } from "../../platform/context.ts";
import { runBatch } from "../../platform/database.ts";
import { describeError } from "../../platform/log.ts";
import { repeatedly, UNTIL_WRITTEN } from "../../platform/race.ts";
import { type Fact, type Issued, type LedgerEntry, ledgerOf, type RevocationReason } from "../ledger.ts";
import { type Certified, certify } from "../orders.ts";
import { writeRevocation } from "../revocation.ts";
import { certificateOf, findCaOfLedger, statusRecordingOf } from "./ca.ts";
import { factOf, markStatements } from "./marks.ts";
import { type CaAuthorityRow, certificateAuthorities } from "./table.ts";

/**
 * Compares one slice of ledgers and inventory; returns the next cursor, or null at the end. The ledger is right about
 * what was issued and revoked, with one exception: a revocation in the inventory stands even if the ledger was restored
 * to an earlier state.
 */
export async function reconcileLedgers(ctx: Context, cursor: string | null): Promise<string | null> {
  const [caId = "", position = "0"] = (cursor ?? "").split("|");
  const [ca] = await ctx.db
    .select()
    .from(certificateAuthorities)
    .where(position === "0" ? gt(certificateAuthorities.id, caId) : eq(certificateAuthorities.id, caId))
    .orderBy(asc(certificateAuthorities.id))
    .limit(1);
  if (!ca) return position === "0" ? null : `${caId}|0`;
  const entries = await ledgerOf(ctx, ca.ledger_id).entries(Number(position), SLICE);
  await compare(
    ctx,
    ca,
    entries.filter((entry) => entry.kind === "leaf"),
  );
  const last = entries.at(-1);
  return entries.length < SLICE || !last ? `${ca.id}|0` : `${ca.id}|${last.cursor}`;
}

const SLICE = 200;

/** A ledger and its issuer. */
type LedgerOfIssuer = Pick<CaAuthorityRow, "issuer_id" | "ledger_id">;

async function compare(ctx: Context, ca: LedgerOfIssuer, entries: readonly LedgerEntry[]): Promise<void> {
  const { ledger_id } = ca;
  const versions = await versionsOfSerials(
    ctx,
    ca.issuer_id,
    entries.map((entry) => entry.serial),
  );
  const known = new Map(versions.map((version) => [version.serial_number, version]));
  const lost: string[] = [];
  for (const entry of entries) {
    const version = known.get(entry.serial);
    if (!version) {
      // Unacknowledged facts are on their way; acknowledged ones are handed over again.
      if (entry.acknowledged) lost.push(entry.request_id);
    } else if (version.revoked_at !== entry.revoked_at || version.revocation_reason !== entry.reason) {
      ctx.log.warn("reconcile.status_differs", {
        ledger_id,
        serial: entry.serial,
        ledger: entry.reason,
        inventory: version.revocation_reason,
      });
      await settleDifference(ctx, ca, entry, version.revocation_reason);
    }
  }
  if (lost.length === 0) return;
  ctx.log.error("reconcile.versions_missing", { ledger_id, count: lost.length });
  await ledgerOf(ctx, ledger_id).handOverAgain(lost);
}

/**
 * Takes over facts that a ledger hands over unacknowledged; `store` writes a leaf that the inventory lacks. Returns the
 * facts that the inventory now has.
 */
export async function takeOver(
  ctx: Context,
  issued: readonly Issued[],
  store: (ctx: Context, certified: Certified) => Promise<void>,
): Promise<Fact[]> {
  const taken: Fact[] = [];
  for (const entry of issued) {
    try {
      await takeOne(ctx, entry, store);
      taken.push(factOf(entry));
    } catch (error) {
      ctx.log.error("issuance.settle_failed", { request_id: entry.request_id, error: describeError(error) });
    }
  }
  return taken;
}

async function takeOne(
  ctx: Context,
  issued: Issued,
  store: (ctx: Context, certified: Certified) => Promise<void>,
): Promise<void> {
  if (issued.kind !== "leaf") return settleOther(ctx, issued);
  const ca = await findCaOfLedger(ctx, issued.ledger_id);
  if (!ca) throw new Error(`no CA has the ledger ${issued.ledger_id}`);
  const { issuer_id } = ca;
  const { revocation_reason: reason } = issued;
  const entry = { ...issued, issuer_id, reason };
  const [version] = await versionsOfSerials(ctx, issuer_id, [issued.serial]);
  if (!version) {
    await store(ctx, await certify(ctx, ca, issued, certificateOf(ctx, issued)));
    if (reason === null) return;
    const recording = statusRecordingOf(ctx, [issued]);
    return writeRevocation(ctx, issued.certificate_id, [{ ...entry, changed: false }], [recording]);
  }
  if (version.revoked_at !== issued.revoked_at || version.revocation_reason !== reason)
    await settleDifference(ctx, entry, entry, version.revocation_reason);
  await runBatch(ctx.db, markStatements(ctx, [issued]));
}

/** Besides leaves, the inventory knows only the CAs below. */
async function settleOther(ctx: Context, issued: Issued): Promise<void> {
  const { ledger_id, serial, revoked_at, revocation_reason } = issued;
  const below = sql`${certificateAuthorities.parent_ca_id} in (
    select p.id from certificate_authorities p where p.ledger_id = ${ledger_id})`;
  const ca = ctx.db
    .update(certificateAuthorities)
    .set({ revoked_at, revocation_reason })
    .where(and(eq(certificateAuthorities.serial_number, serial), below));
  await runBatch(ctx.db, [...(issued.kind === "ca" ? [ca] : []), ...markStatements(ctx, [issued])]);
}

/**
 * Settles a difference in a certificate's status: the inventory follows the ledger's revocation or lifted hold; a final
 * revocation that only the inventory has is made at the ledger. `there`: the inventory's reason.
 */
async function settleDifference(
  ctx: Context,
  { issuer_id, ledger_id }: LedgerOfIssuer,
  entry: Omit<LedgerEntry, "cursor" | "acknowledged">,
  there: string | null,
): Promise<void> {
  if (entry.revoked_at !== null) {
    const recording = statusRecordingOf(ctx, [{ ...entry, ledger_id }]);
    await writeRevocation(ctx, entry.certificate_id, [{ ...entry, issuer_id, changed: false }], [recording]);
    return;
  }
  if (there === "certificateHold") {
    const version = { issuer_id, serial_number: entry.serial };
    await repeatedly(async () => {
      const released = await releaseStatements(ctx, entry.certificate_id, [version]);
      await runBatch(ctx.db, [...released, ...markStatements(ctx, [{ ...entry, ledger_id }])]);
    }, UNTIL_WRITTEN);
    return;
  }
  await ledgerOf(ctx, ledger_id).revoke([entry.serial], there as RevocationReason | null);
}
