import { sql } from "drizzle-orm";
import { mustFindCertificate } from "../inventory/certificates/certificates.ts";
import { releaseStatements, revokeStatements } from "../inventory/certificates/state.ts";
import { ledgersOf } from "../inventory/certificates/versions.ts";
import { holds, mustHold } from "../platform/access.ts";
import { commit } from "../platform/commit.ts";
import { type Context, timestamp } from "../platform/context.ts";
import { inList, type Statement } from "../platform/database.ts";
import { AppError, unavailable } from "../platform/errors.ts";
import { sha256Hex } from "../platform/text.ts";
import { enqueue, type WorkKinds } from "../platform/work/work.ts";
import {
  ledgerOf,
  type Refusal,
  type RevocationReason,
  type RevokedEntry,
  type RevokeResult,
  type SerialRevoked,
} from "./ledger.ts";
import { acknowledgeLater, markStatements } from "./marks.ts";
import { ocspTag } from "./public/ocsp.ts";
import { refusalError } from "./refusals.ts";
import { blockedKeys, certificateAuthorities } from "./table.ts";

/**
 * Revoking: the ledgers first, so that the very next OCSP answer is right; then one D1 batch with versions, certificate, audit
 * event, blocked key and the work for the edge. All of it may be repeated: what a crash left undone is done then.
 */

/** An entry with the ledger that holds it. */
interface Found extends RevokedEntry {
  readonly ledger_id: string;
}

const PURGE_KIND = "pki.purge";

/**
 * Revokes every still valid version of a certificate, also one that the inventory does not know yet. The same or no reason
 * again: the first time and reason stand. Throws 404 for what does not exist or was never issued, 400 for a reason that the
 * present one cannot become, and for a certificate that has expired, 503 while its first certificate is being signed.
 */
export async function revokeCertificate(ctx: Context, id: string, reason: RevocationReason | null): Promise<void> {
  await mustFindCertificate(ctx, id);
  const revoke = (ledgerId: string) => ledgerOf(ctx, ledgerId).revoke({ target: { certificate_id: id }, reason });
  const outcome = await inEachLedger(await ledgersFor(ctx, id), revoke);
  if (isNotIssued(outcome) && (await isBeingSigned(ctx, id))) throw beingSigned();
  await writeRevocation(ctx, id, entriesOrThrow(outcome));
  // What was being signed meanwhile: stored after this batch, its settlement sees the revocation; stored before, this does.
  const { entries } = await inEachLedger(await ledgersFor(ctx, id), revoke);
  await writeRevocation(
    ctx,
    id,
    entries.filter((entry) => entry.changed),
  );
}

/**
 * Lifts certificateHold; 409 for any other state. The actor also needs issuer.edit on the certificate's issuer and on each
 * that may have issued for it before it came there: their ledgers are what is written.
 */
export async function releaseHold(ctx: Context, id: string): Promise<void> {
  await mustFindCertificate(ctx, id);
  const ledgers = await ledgersFor(ctx, id);
  for (const issuer_id of await issuersOf(ctx, ledgers)) mustHold(ctx.actor, "issuer.edit", { issuer_id });
  const release = (ledgerId: string) => ledgerOf(ctx, ledgerId).release({ certificate_id: id });
  const entries = entriesOrThrow(await inEachLedger(ledgers, release));
  const purge = purgeEntry(ctx, entries);
  const versions = entries.map((entry) => ({ ledger_id: entry.ledger_id, serial_number: entry.serial }));
  const statements = [
    ...releaseStatements(ctx, id, versions, timestamp(ctx)),
    ctx.audit("certificate.release_hold", id, { serial_numbers: entries.map((entry) => entry.serial) }),
    purge.statement,
    ...markStatements(ctx, entries),
  ];
  await commit(ctx, statements, { wakeups: [purge.id] });
  acknowledgeLater(ctx, entries);
}

/**
 * Revokes by serial what no record knows, and what one knows too. Throws 404 for what this CA cannot have issued, 400 for the
 * serial of a CA and for a reason that the present one cannot become.
 */
export async function revokeSerial(
  ctx: Context,
  ca: { readonly issuer_id: string; readonly ca_id: string; readonly ledger_id: string },
  serial: string,
  reason: RevocationReason | null,
): Promise<SerialRevoked> {
  const result = await ledgerOf(ctx, ca.ledger_id).revokeSerial(serial, reason);
  if (!result.ok) throw refusalError(result);
  const { entry } = result;
  const found = { ...entry, ledger_id: ca.ledger_id };
  const audit = ctx.audit("issuer.revoke_serial", ca.issuer_id, {
    ca_id: ca.ca_id,
    serial_number: serial,
    reason: entry.reason,
    revoked_at: entry.revoked_at,
  });
  if (entry.certificate_id !== "") {
    await writeRevocation(ctx, entry.certificate_id, [found], [audit]);
    return result;
  }
  const purge = purgeEntry(ctx, [found]);
  await commit(ctx, [audit, purge.statement, ...markStatements(ctx, [found])], { wakeups: [purge.id] });
  acknowledgeLater(ctx, [found]);
  return result;
}

/** Brings the inventory to what ledgers say of revoked entries of one certificate, with `more` in the batch. May be repeated. */
export async function writeRevocation(
  ctx: Context,
  id: string,
  entries: readonly Found[],
  more: readonly Statement[] = [],
): Promise<void> {
  const revoked = entries.flatMap((entry) =>
    entry.revoked_at === null || entry.reason === null
      ? []
      : [{ ...entry, revoked_at: entry.revoked_at, reason: entry.reason }],
  );
  const [first] = [...revoked].sort(
    (a, b) => Number(b.changed) - Number(a.changed) || (a.revoked_at > b.revoked_at ? -1 : 1),
  );
  if (!first) return;
  const versions = revoked.map((entry) => ({
    ledger_id: entry.ledger_id,
    serial_number: entry.serial,
    revoked_at: entry.revoked_at,
    reason: entry.reason,
  }));
  // The same facts are one event, however often they are written down.
  const facts = versions.map((version) => Object.values(version).join("|")).sort();
  const purge = purgeEntry(ctx, revoked);
  const statements: Statement[] = [
    ...revokeStatements(ctx, id, { revoked_at: first.revoked_at, reason: first.reason }, versions, timestamp(ctx)),
    ...revoked.filter((entry) => entry.reason === "keyCompromise").map((entry) => blockKey(ctx, id, entry)),
    ctx.audit(
      "certificate.revoke",
      id,
      {
        reason: first.reason,
        revoked_at: first.revoked_at,
        serial_numbers: versions.map((version) => version.serial_number),
      },
      { id: `audit-rev-${(await sha256Hex([id, ...facts].join("\n"))).slice(0, 32)}` },
    ),
    purge.statement,
    ...markStatements(ctx, entries),
    ...more,
  ];
  await commit(ctx, statements, { wakeups: [purge.id] });
  acknowledgeLater(ctx, entries);
}

function blockKey(ctx: Context, certificate_id: string, entry: Found): Statement {
  const row = { spki_sha256: entry.spki_sha256, reason: "keyCompromise", certificate_id, created_at: timestamp(ctx) };
  return ctx.db.insert(blockedKeys).values(row).onConflictDoNothing();
}

/**
 * Every ledger that may have issued for the record: those of its versions and of its jobs, which store what will be signed before
 * it is. The issuer may have a thousand other CAs: those are not asked.
 */
async function ledgersFor(ctx: Context, certificateId: string): Promise<string[]> {
  const [known, signing] = await Promise.all([
    ledgersOf(ctx, certificateId),
    ctx.db.all<{ ledger_id: string }>(
      sql`select distinct json_extract(approved, '$.ledger_id') as ledger_id from jobs
        where certificate_id = ${certificateId} and approved is not null`,
    ),
  ]);
  return [...new Set([...known, ...signing.map((row) => row.ledger_id)])];
}

interface Outcome {
  readonly entries: readonly Found[];
  readonly refusals: readonly Refusal[];
}

async function inEachLedger(
  ledgers: readonly string[],
  change: (ledgerId: string) => Promise<RevokeResult>,
): Promise<Outcome> {
  const results = await Promise.all(ledgers.map(async (ledger_id) => ({ ledger_id, result: await change(ledger_id) })));
  const refusals: Refusal[] = [];
  const entries: Found[] = [];
  for (const { ledger_id, result } of results) {
    if (result.ok) entries.push(...result.entries.map((entry) => ({ ...entry, ledger_id })));
    else refusals.push(result);
  }
  return { entries, refusals };
}

/** What the refusals of several ledgers come to: the one that says most. */
const WEIGHT: readonly string[] = ["already_revoked", "not_on_hold", "expired", "not_issued"];

function entriesOrThrow({ entries, refusals }: Outcome): readonly Found[] {
  if (entries.length > 0) return entries;
  const worst = [...refusals].sort((a, b) => WEIGHT.indexOf(a.code) - WEIGHT.indexOf(b.code))[0];
  if (!worst || worst.code === "not_issued") throw neverIssued();
  throw refusalError(worst);
}

function isNotIssued({ entries, refusals }: Outcome): boolean {
  return entries.length === 0 && refusals.every(({ code }) => code === "not_issued");
}

/** A job that has begun to sign will have it signed, whatever the ledger says now. */
async function isBeingSigned(ctx: Context, certificateId: string): Promise<boolean> {
  const [row] = await ctx.db.all<{ n: number }>(
    sql`select exists (select 1 from jobs where certificate_id = ${certificateId} and status = 'Running') as n`,
  );
  return row?.n === 1;
}

function beingSigned(): AppError {
  return unavailable("issuance_in_progress", "a certificate is being signed for this record: revoke it again", 2);
}

function neverIssued(): AppError {
  return new AppError(404, "not_issued", "nothing was ever issued for this certificate: there is nothing to revoke");
}

async function issuersOf(ctx: Context, ledgers: readonly string[]): Promise<string[]> {
  if (holds(ctx.actor, "issuer.edit")) return [];
  const { issuer_id, ledger_id } = certificateAuthorities;
  const rows = await ctx.db
    .selectDistinct({ issuer_id })
    .from(certificateAuthorities)
    .where(inList(ledger_id, ledgers));
  return rows.map((row) => row.issuer_id);
}

// ------------------------------------------------------------------------------------------------------------ edge purge

/** The work that has the edge forget the answers about these certificates; its statement belongs into the batch. */
export function purgeEntry(ctx: Context, entries: readonly Pick<Found, "ledger_id" | "serial">[]) {
  const tags = entries.map((entry) => ({
    tag: ocspTag(entry.ledger_id, entry.serial),
    whole: `ledger-${entry.ledger_id}`,
  }));
  return enqueue(ctx, PURGE_KIND, { tags });
}

/** The same for everything that is said of a CA. */
export function purgeLedger(ctx: Context, ledgerId: string) {
  const whole = `ledger-${ledgerId}`;
  return enqueue(ctx, PURGE_KIND, { tags: [{ tag: whole, whole }] });
}

interface PurgeBuffer {
  add(tags: unknown): Promise<void>;
}

/** What the outbox does for this wing. */
export const authorityWork: WorkKinds = {
  [PURGE_KIND]: {
    async run(ctx, payload) {
      await (ctx.bindings.PURGE.getByName("edge") as unknown as PurgeBuffer).add(payload.tags);
    },
  },
};
