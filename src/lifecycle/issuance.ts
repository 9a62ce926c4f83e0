import { sql } from "drizzle-orm";
import { z } from "zod";
import type { Fact, Issued, RevocationReason } from "../authority/ledger.ts";
import { takeOver } from "../authority/local/reconcile.ts";
import type { Certified } from "../authority/orders.ts";
import { revokeCertificate } from "../authority/revocation.ts";
import { findCertificate } from "../inventory/certificates/certificates.ts";
import { type KeptRecord, recordOfNames, restoreStatements } from "../inventory/certificates/restored.ts";
import { issuedQueries, issuedStatements, standing } from "../inventory/certificates/state.ts";
import { addVersion, isCurrent, type Version } from "../inventory/certificates/versions.ts";
import type { Context } from "../platform/context.ts";
import { runBatch, type Statement } from "../platform/database.ts";
import { ChangedMeanwhile, unavailable } from "../platform/errors.ts";
import { repeatedly, UNTIL_WRITTEN } from "../platform/race.ts";
import { sha256Hex } from "../platform/text.ts";
import { readTogether, runTogether } from "../platform/writer.ts";
import { completed, digestOfJob, JOB_TYPES, jobQuery } from "./jobs.ts";

/** Stored with an order, so that the version row can be written without the original request. */
const settlement = z.object({
  job_id: z.string().nullable().default(null),
  agent_id: z.string().nullable().default(null),
  csr_pem: z.string().nullable().default(null),
  csr_digest: z.string().nullable().default(null),
  /** Of a job that is created with its certificate. */
  job: z
    .object({ type: z.enum(JOB_TYPES), created_at: z.string() })
    .nullable()
    .default(null),
  key_algorithm: z.string(),
  key_size: z.number(),
  /** The certificate record's content, in case the database loses it in a restore. */
  record: z.custom<KeptRecord>((value) => typeof value === "object" && value !== null).optional(),
});

export type Settlement = z.input<typeof settlement>;

export interface Settled {
  readonly version: Version;
  /** True if it was revoked while being signed; the version is then revoked too. */
  readonly revoked: boolean;
  /** The newest version of its certificate and agent. */
  readonly current: boolean;
  /** Digest of the CSR that the job has had signed; null without a job or a recorded digest. */
  readonly csr_digest: string | null;
}

/**
 * Writes an issued certificate into the inventory: version, certificate, job and audit event in one transaction.
 * Idempotent, also when late: a serial has one version row, the status is computed from facts, an ended job stays
 * ended.
 */
export async function settleIssuance(ctx: Context, certified: Certified): Promise<Settled> {
  const of = settlement.parse(certified.settle);
  const version = versionOf(certified, of, `ver-${(await sha256Hex(certified.key)).slice(0, 32)}`);
  const now = await untilWritten(() => store(ctx, certified, of, version));
  // Revoked during signing: revoke this version too.
  if (now?.revoked === 1) await revokeCertificate(ctx, version.certificate_id, now.reason);
  return { version, revoked: now?.revoked === 1, current: now?.current === 1, csr_digest: now?.csr_digest ?? null };
}

/** The state of a certificate after one of its versions was stored. */
interface Standing {
  readonly revoked: 0 | 1;
  readonly reason: RevocationReason | null;
  readonly current: 0 | 1;
  readonly csr_digest: string | null;
}

/** One attempt: reads, then writes unless the certificate was written meanwhile. */
async function store(
  ctx: Context,
  certified: Certified,
  of: z.output<typeof settlement>,
  version: Version,
): Promise<Standing | undefined> {
  const { id: version_id, certificate_id } = version;
  const { job_id, csr_digest, job: born } = of;
  const [[job], ...found] = await readTogether(
    ctx,
    jobQuery(ctx, job_id ?? ""),
    ...issuedQueries(ctx, version, job_id),
  );
  const asked_at = born?.created_at ?? job?.created_at ?? version.created_at;
  const results = await runTogether(ctx, [
    ...issuedStatements(ctx, found, version, { asked_at, more: job?.completed_at === null }),
    addVersion(ctx, version),
    ...(job_id === null ? [] : completed(ctx, { job_id, certificate_id, version_id, csr_digest, born })),
    issueEvent(ctx, certified, of, version_id),
    ...certified.recording.statements,
    standing(ctx, certificate_id, {
      current: isCurrent(version_id),
      csr_digest: job_id === null ? sql`null` : digestOfJob(job_id),
    }),
  ]);
  const [now] = results.at(-1) as Standing[];
  return now;
}

/** The CA has already signed: concurrent writes to the certificate must not fail it. */
async function untilWritten<T>(attempt: () => Promise<T>): Promise<T> {
  try {
    return await repeatedly(attempt, UNTIL_WRITTEN);
  } catch (error) {
    if (!(error instanceof ChangedMeanwhile)) throw error;
    throw unavailable("changed_meanwhile", "the certificate record changes all the time", 5, error);
  }
}

function issueEvent(
  ctx: Context,
  certified: Certified,
  of: z.output<typeof settlement>,
  version_id: string,
): Statement {
  const { certificate_id, certificate, issuer_id, ca_id } = certified;
  const details = {
    version_id,
    serial_number: certificate.serial,
    issuer_id,
    ca_id,
    job_id: of.job_id,
    agent_id: of.agent_id,
    not_after: certificate.notAfter.toISOString(),
  };
  return ctx.audit("certificate.issue", certificate_id, details, { id: `audit-${version_id}` });
}

function versionOf({ certificate, ...certified }: Certified, of: z.output<typeof settlement>, id: string): Version {
  return {
    id,
    certificate_id: certified.certificate_id,
    issuer_id: certified.issuer_id,
    ca_id: certified.ca_id,
    serial_number: certificate.serial,
    not_before: certificate.notBefore.toISOString(),
    not_after: certificate.notAfter.toISOString(),
    fingerprint_sha256: certified.fingerprint_sha256,
    pem_chain: certified.pem_chain,
    csr_pem: of.csr_pem,
    key_algorithm: of.key_algorithm,
    key_size: of.key_size,
    agent_id: of.agent_id,
    job_id: of.job_id,
    revoked_at: certified.revoked_at,
    revocation_reason: certified.revocation_reason,
    created_at: certified.issued_at,
  };
}

/** Takes over unacknowledged certificates from a ledger. Returns the facts that the inventory now has. */
export function settleOutbox(ctx: Context, issued: readonly Issued[]): Promise<Fact[]> {
  return takeOver(ctx, issued, async (_, certified) => {
    // A record without its version is harmless: the ledger hands the version over until it is acknowledged.
    await runBatch(ctx.db, await lostRecord(ctx, certified));
    await settleIssuance(ctx, certified);
  });
}

/** Statements that write the certificate record again if the database lost it in a restore. */
async function lostRecord(ctx: Context, certified: Certified): Promise<Statement[]> {
  const { certificate_id, issuer_id, certificate, settle } = certified;
  if (await findCertificate(ctx, certificate_id)) return [];
  const { record } = settlement.parse(settle);
  if (record) return restoreStatements(ctx, certificate_id, issuer_id, record);
  const { subject, subjectAltName } = certificate;
  const sans = (subjectAltName?.names ?? []).map((name) => name.value);
  const common_name = subject.commonName ?? sans[0] ?? certificate_id;
  return restoreStatements(ctx, certificate_id, issuer_id, recordOfNames(certificate_id, common_name, sans));
}
