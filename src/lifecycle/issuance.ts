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

/** What travels with an order, so that the version row can be written without the request that asked for it. */
const settlement = z.object({
  job_id: z.string().nullable().default(null),
  agent_id: z.string().nullable().default(null),
  csr_pem: z.string().nullable().default(null),
  csr_digest: z.string().nullable().default(null),
  /** Of a job that is made with its certificate. */
  job: z
    .object({ type: z.enum(JOB_TYPES), created_at: z.string() })
    .nullable()
    .default(null),
  key_algorithm: z.string(),
  key_size: z.number(),
  /** What the certificate record said, should the database lose it in a restore. */
  record: z.custom<KeptRecord>((value) => typeof value === "object" && value !== null).optional(),
});

export type Settlement = z.input<typeof settlement>;

export interface Settled {
  readonly version: Version;
  /** It was revoked while it was being signed, and so is the version. */
  readonly revoked: boolean;
  /** The newest of its certificate and agent. */
  readonly current: boolean;
  /** Which CSR the job has had signed; null where there is no job, or nobody told. */
  readonly csr_digest: string | null;
}

/**
 * Writes what a CA issued into the inventory: version, certificate, job, audit event, in one transaction. Right however
 * often and late it comes: a serial has one version row, the status is computed from facts, a job that ended stays ended.
 */
export async function settleIssuance(ctx: Context, certified: Certified): Promise<Settled> {
  const of = settlement.parse(certified.settle);
  const version = versionOf(certified, of, `ver-${(await sha256Hex(certified.key)).slice(0, 32)}`);
  const now = await untilWritten(() => store(ctx, certified, of, version));
  // Revoked while this was being signed: then this version is revoked as well.
  if (now?.revoked === 1) await revokeCertificate(ctx, version.certificate_id, now.reason);
  return { version, revoked: now?.revoked === 1, current: now?.current === 1, csr_digest: now?.csr_digest ?? null };
}

/** What there is of a certificate after one of its versions was stored. */
interface Standing {
  readonly revoked: 0 | 1;
  readonly reason: RevocationReason | null;
  readonly current: 0 | 1;
  readonly csr_digest: string | null;
}

/** One attempt: reads, and writes unless somebody else has written the certificate meanwhile. */
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

/** The CA has signed it: that others write the same certificate is no reason to refuse it. */
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

/** What a ledger hands over because nobody acknowledged it. Answers the facts that the inventory has now. */
export function settleOutbox(ctx: Context, issued: readonly Issued[]): Promise<Fact[]> {
  return takeOver(ctx, issued, async (_, certified) => {
    // A record without its version is harmless: until that is acknowledged, it is handed over again.
    await runBatch(ctx.db, await lostRecord(ctx, certified));
    await settleIssuance(ctx, certified);
  });
}

/** The statements that write the certificate record again where the database lost it in a restore. */
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
