import { mustFindCertificate } from "../inventory/certificates/certificates.ts";
import { releaseStatements, revokeStatements } from "../inventory/certificates/state.ts";
import { casOfVersions, type Version, validVersions } from "../inventory/certificates/versions.ts";
import { sha256Hex as digestOf } from "../pki/bytes.ts";
import { parseCertificate } from "../pki/certificate.ts";
import { certificatesFromPem } from "../pki/pem.ts";
import { mustHold } from "../platform/access.ts";
import { commit } from "../platform/commit.ts";
import { type Context, timestamp } from "../platform/context.ts";
import type { Statement } from "../platform/database.ts";
import { AppError, unavailable } from "../platform/errors.ts";
import { repeatedly, UNTIL_WRITTEN } from "../platform/race.ts";
import { sha256Hex } from "../platform/text.ts";
import {
  type Ca,
  type CaReference,
  findCa,
  type KnownVersion,
  type Recording,
  type RevocationOutcome,
  type RevokedVersion,
} from "./ca.ts";
import type { Refusal, RevocationReason } from "./ledger.ts";
import { refusalError } from "./refusals.ts";
import { blockedKeys } from "./table.ts";

/**
 * Revokes at the CAs first, so that the very next OCSP answer is right; then one D1 batch writes versions, certificate,
 * audit event, blocked key and what the CAs want recorded. All of it is idempotent: a repeat completes what a crash
 * left undone.
 */

/** A version with its issuer. */
interface Found extends RevokedVersion {
  readonly issuer_id: string;
}

/**
 * Revokes every unexpired version of a certificate; a version being signed is revoked when it is settled. Repeated with
 * the same or no reason, the first time and reason stand. Throws 404 for a certificate that does not exist or was never
 * issued, 400 for a reason that the present one cannot change to and for an expired certificate, 503 while its first
 * version is being signed.
 */
export async function revokeCertificate(ctx: Context, id: string, reason: RevocationReason | null): Promise<void> {
  await mustFindCertificate(ctx, id);
  const outcome = await atEachCa(ctx, id, await casFor(ctx, id), (ca, of) => ca.revoke({ ...of, reason }));
  if (isNotIssued(outcome) && (await ctx.wiring.orders.areRunning(ctx, id))) throw beingSigned();
  await writeRevocation(ctx, id, entriesOrThrow(outcome), outcome.recordings);
  // A version stored after this batch learns of the revocation when it is settled; one stored before is caught here.
  const again = await atEachCa(ctx, id, await casFor(ctx, id), (ca, of) => ca.revoke({ ...of, reason }));
  const changed = again.entries.filter((entry) => entry.changed);
  await writeRevocation(ctx, id, changed, again.recordings);
}

/**
 * Lifts certificateHold; 409 in any other state. The actor also needs issuer.edit on the certificate's issuer and on
 * every earlier issuer of the record: their CAs change.
 */
export async function releaseHold(ctx: Context, id: string): Promise<void> {
  await mustFindCertificate(ctx, id);
  const cas = await casFor(ctx, id);
  for (const { issuer_id } of cas) mustHold(ctx.actor, "issuer.edit", { issuer_id });
  const outcome = await atEachCa(ctx, id, cas, (ca, of) => ca.release(of));
  const versions = entriesOrThrow(outcome).map(versionOf);
  const recording = merged(outcome.recordings);
  await record(ctx, recording, async () => [
    ...(await releaseStatements(ctx, id, versions)),
    ctx.audit("certificate.release_hold", id, { serial_numbers: versions.map((version) => version.serial_number) }),
  ]);
}

/** Brings the inventory to the CAs' status of one certificate's versions, with `more` in the batch. Idempotent. */
export async function writeRevocation(
  ctx: Context,
  id: string,
  entries: readonly Found[],
  recordings: readonly Recording[],
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
    ...versionOf(entry),
    revoked_at: entry.revoked_at,
    reason: entry.reason,
  }));
  // The same facts are one audit event, however often they are written.
  const facts = versions.map((version) => Object.values(version).join("|")).sort();
  const event = `audit-rev-${(await sha256Hex([id, ...facts].join("\n"))).slice(0, 32)}`;
  await record(ctx, merged(recordings), async () => [
    ...(await revokeStatements(ctx, id, { revoked_at: first.revoked_at, reason: first.reason }, versions)),
    ...revoked.filter((entry) => entry.reason === "keyCompromise").map((entry) => blockKey(ctx, id, entry)),
    ctx.audit(
      "certificate.revoke",
      id,
      {
        reason: first.reason,
        revoked_at: first.revoked_at,
        serial_numbers: versions.map((version) => version.serial_number),
      },
      { id: event },
    ),
    ...more,
  ]);
}

/** Writes what the CAs answered; `decide` reads and decides again if a concurrent write changed the certificate. */
export async function record(ctx: Context, recording: Recording, decide: () => Promise<Statement[]>): Promise<void> {
  await repeatedly(async () => {
    const statements = [...(await decide()), ...recording.statements];
    await commit(ctx, statements, { wakeups: recording.wakeups });
  }, UNTIL_WRITTEN);
  recording.done();
}

function merged(recordings: readonly Recording[]): Recording {
  return {
    statements: recordings.flatMap((recording) => recording.statements),
    wakeups: recordings.flatMap((recording) => recording.wakeups),
    done: () => {
      for (const recording of recordings) recording.done();
    },
  };
}

function versionOf({ issuer_id, serial }: Found) {
  return { issuer_id, serial_number: serial };
}

function blockKey(ctx: Context, certificate_id: string, entry: Found): Statement {
  const row = { spki_sha256: entry.spki_sha256, reason: "keyCompromise", certificate_id, created_at: timestamp(ctx) };
  return ctx.db.insert(blockedKeys).values(row).onConflictDoNothing();
}

/** A CA that may have issued for a record, and its known unexpired versions. */
interface IssuingCa extends CaReference {
  readonly versions: readonly KnownVersion[];
}

/**
 * Every CA that may have issued for the record: those of its versions and of its orders, which are stored before
 * signing. The issuer's other CAs, possibly a thousand, are not asked.
 */
async function casFor(ctx: Context, certificateId: string): Promise<IssuingCa[]> {
  const [issuing, valid, ordered] = await Promise.all([
    casOfVersions(ctx, certificateId),
    validVersions(ctx, certificateId),
    ctx.wiring.orders.casOf(ctx, certificateId),
  ]);
  const same = (a: CaReference, b: CaReference) => a.issuer_id === b.issuer_id && a.ca_id === b.ca_id;
  // A CA that issued a version is never deleted, so its id names no other CA.
  const others = ordered.filter((ca) => !issuing.some((known) => same(known, ca)));
  const cas: readonly CaReference[] = [...issuing, ...others];
  return Promise.all(
    cas.map(async (ca) => ({
      ...ca,
      versions: await Promise.all(valid.filter((version) => same(version, ca)).map(knownVersion)),
    })),
  );
}

async function knownVersion(version: Version): Promise<KnownVersion> {
  const [der] = certificatesFromPem(version.pem_chain);
  if (!der) throw new Error(`the certificate ${version.serial_number} is not PEM`);
  return {
    serial: version.serial_number,
    certificate_id: version.certificate_id,
    spki_sha256: await digestOf(parseCertificate(der).publicKey.spki),
    revoked_at: version.revoked_at,
    reason: version.revocation_reason as RevocationReason | null,
  };
}

interface Outcome {
  readonly entries: readonly Found[];
  readonly recordings: readonly Recording[];
  readonly refusals: readonly Refusal[];
}

/** Has each CA change the versions it issued. A CA that no longer exists has nothing to change. */
async function atEachCa(
  ctx: Context,
  certificate_id: string,
  cas: readonly IssuingCa[],
  change: (ca: Ca, of: { certificate_id: string; versions: readonly KnownVersion[] }) => Promise<RevocationOutcome>,
): Promise<Outcome> {
  const asked = cas.map(async ({ versions, ...reference }) => {
    const ca = await findCa(ctx, reference);
    return { issuer_id: reference.issuer_id, result: ca && (await change(ca, { certificate_id, versions })) };
  });
  const outcome = { entries: [] as Found[], recordings: [] as Recording[], refusals: [] as Refusal[] };
  for (const { issuer_id, result } of await Promise.all(asked)) {
    if (result?.ok) {
      outcome.entries.push(...result.entries.map((entry) => ({ ...entry, issuer_id })));
      outcome.recordings.push(result.recording);
    } else if (result) outcome.refusals.push(result);
  }
  return outcome;
}

/** Refusals in order of precedence when several CAs refuse. */
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

function beingSigned(): AppError {
  return unavailable("issuance_in_progress", "a certificate is being signed for this record: revoke it again", 2);
}

function neverIssued(): AppError {
  return new AppError(404, "not_issued", "nothing was ever issued for this certificate: there is nothing to revoke");
}
