import { eq } from "drizzle-orm";
import { z } from "zod";
import type { Fact, Issued, RevocationReason } from "../authority/ledger.ts";
import { takeOver } from "../authority/local/reconcile.ts";
import type { Certified } from "../authority/orders.ts";
import { revokeCertificate } from "../authority/revocation.ts";
import { findCertificate } from "../inventory/certificates/certificates.ts";
import { type KeptRecord, recordOfNames, restoreStatements } from "../inventory/certificates/restored.ts";
import { issuedStatements, revocationOf } from "../inventory/certificates/state.ts";
import { addVersion } from "../inventory/certificates/versions.ts";
import { type Context, timestamp } from "../platform/context.ts";
import { runBatch, type Statement } from "../platform/database.ts";
import { sha256Hex } from "../platform/text.ts";
import { findJob, type Job, transition } from "./jobs.ts";
import { jobs } from "./table.ts";

/** What travels with an order, so that the version row can be written without the request that asked for it. */
const settlement = z.object({
  job_id: z.string().nullable().default(null),
  agent_id: z.string().nullable().default(null),
  csr_pem: z.string().nullable().default(null),
  key_algorithm: z.string(),
  key_size: z.number(),
  /** What the certificate record said, should the database lose it in a restore. */
  record: z.custom<KeptRecord>((value) => typeof value === "object" && value !== null).optional(),
});

export type Settlement = z.input<typeof settlement>;

export interface Settled {
  readonly version_id: string;
  readonly certificate_id: string;
}

/**
 * Writes what a CA issued into the inventory: version, certificate, job, audit event, in one transaction. Right however
 * often and late it comes: a serial has one version row, the status is computed from facts, a job that ended stays ended.
 */
export async function settleIssuance(
  ctx: Context,
  certified: Certified,
  known: Job | null = null,
  lost: readonly Statement[] = [],
): Promise<Settled> {
  const { certificate_id, certificate, issued_at } = certified;
  const of = settlement.parse(certified.settle);
  const version_id = `ver-${(await sha256Hex(certified.key)).slice(0, 32)}`;
  const job = known ?? (of.job_id === null ? null : await findJob(ctx, of.job_id));
  const now = timestamp(ctx);
  const results = await runBatch(ctx.db, [
    ...lost,
    addVersion(ctx, versionOf(certified, of, version_id)),
    ...(job ? completed(ctx, job, version_id) : []),
    ...issuedStatements(ctx, certificate_id, { version_id, issued_at, asked_at: job?.created_at ?? issued_at }, now),
    ctx.audit(
      "certificate.issue",
      certificate_id,
      {
        version_id,
        serial_number: certificate.serial,
        issuer_id: certified.issuer_id,
        ca_id: certified.ca_id,
        job_id: of.job_id,
        agent_id: of.agent_id,
        not_after: certificate.notAfter.toISOString(),
      },
      { id: `audit-${version_id}` },
    ),
    ...certified.recording.statements,
    revocationOf(ctx, certificate_id),
  ]);
  // Revoked while this was being signed: then this version is revoked as well.
  const [revocation] = results.at(-1) as { reason: string | null }[];
  if (revocation) await revokeCertificate(ctx, certificate_id, revocation.reason as RevocationReason | null);
  return { version_id, certificate_id };
}

/** A job that ended some other way stays ended, and knows what came of it all the same. */
function completed(ctx: Context, job: Job, version_id: string): Statement[] {
  // After a restore of the database the job may stand where it was before it was signed.
  if (job.completed_at === null) return transition(ctx, job, "Completed", { version_id, last_error: null }, true);
  return [ctx.db.update(jobs).set({ version_id }).where(eq(jobs.id, job.id))];
}

function versionOf({ certificate, ...certified }: Certified, of: z.output<typeof settlement>, id: string) {
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
    await settleIssuance(ctx, certified, null, await lostRecord(ctx, certified));
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
