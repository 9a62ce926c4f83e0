import { eq } from "drizzle-orm";
import { z } from "zod";
import { type Certified, certify } from "../authority/gate.ts";
import type { Fact, Issued, RevocationReason } from "../authority/ledger.ts";
import { factOf, markStatements } from "../authority/marks.ts";
import { settleStatus } from "../authority/reconcile.ts";
import { revokeCertificate, writeRevocation } from "../authority/revocation.ts";
import { findCertificate } from "../inventory/certificates/certificates.ts";
import { type KeptRecord, recordOfNames, restoreStatements } from "../inventory/certificates/restored.ts";
import { issuedStatements, revocationOf } from "../inventory/certificates/state.ts";
import { addVersion, versionsOfSerials } from "../inventory/certificates/versions.ts";
import { parseCertificate } from "../pki/certificate.ts";
import { type Context, timestamp } from "../platform/context.ts";
import { runBatch, type Statement } from "../platform/database.ts";
import { describeError } from "../platform/log.ts";
import { sha256Hex } from "../platform/text.ts";
import { findJob, type Job, transition } from "./jobs.ts";
import { jobs } from "./table.ts";

/** What travels through the ledger, so that the version row can be written without the request that asked for it. */
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
 * Writes what a ledger issued into the inventory: version, certificate, job, audit event, in one transaction. Right however
 * often and late it comes: a serial has one version row, the status is computed from facts, a job that ended stays ended.
 */
export async function settleIssuance(
  ctx: Context,
  certified: Certified,
  known: Job | null = null,
  lost: readonly Statement[] = [],
): Promise<Settled> {
  const { issued } = certified;
  const of = settlement.parse(issued.settle);
  const version_id = `ver-${(await sha256Hex(`${certified.ledger_id}/${issued.serial}`)).slice(0, 32)}`;
  const job = known ?? (of.job_id === null ? null : await findJob(ctx, of.job_id));
  const now = timestamp(ctx);
  const results = await runBatch(ctx.db, [
    ...lost,
    addVersion(ctx, versionOf(certified, of, version_id)),
    ...(job ? completed(ctx, job, version_id) : []),
    ...issuedStatements(
      ctx,
      issued.certificate_id,
      { version_id, issued_at: issued.issued_at, asked_at: job?.created_at ?? issued.issued_at },
      now,
    ),
    ctx.audit(
      "certificate.issue",
      issued.certificate_id,
      {
        version_id,
        serial_number: issued.serial,
        issuer_id: certified.issuer_id,
        ca_id: certified.ca_id,
        job_id: of.job_id,
        agent_id: of.agent_id,
        not_after: issued.not_after,
      },
      { id: `audit-${version_id}` },
    ),
    ...markStatements(ctx, [issued]),
    revocationOf(ctx, issued.certificate_id),
  ]);
  // Revoked while this was being signed: then this version is revoked as well.
  const [revocation] = results.at(-1) as { reason: string | null }[];
  if (revocation) await revokeCertificate(ctx, issued.certificate_id, revocation.reason as RevocationReason | null);
  return { version_id, certificate_id: issued.certificate_id };
}

/** A job that ended some other way stays ended, and knows what came of it all the same. */
function completed(ctx: Context, job: Job, version_id: string): Statement[] {
  // After a restore of the database the job may stand where it was before it was signed.
  if (job.completed_at === null) return transition(ctx, job, "Completed", { version_id, last_error: null }, true);
  return [ctx.db.update(jobs).set({ version_id }).where(eq(jobs.id, job.id))];
}

function versionOf({ issued, ...certified }: Certified, of: z.output<typeof settlement>, id: string) {
  return {
    id,
    certificate_id: issued.certificate_id,
    issuer_id: certified.issuer_id,
    ca_id: certified.ca_id,
    ledger_id: certified.ledger_id,
    serial_number: issued.serial,
    not_before: issued.not_before,
    not_after: issued.not_after,
    fingerprint_sha256: certified.fingerprint_sha256,
    pem_chain: certified.pem_chain,
    csr_pem: of.csr_pem,
    key_algorithm: of.key_algorithm,
    key_size: of.key_size,
    agent_id: of.agent_id,
    job_id: of.job_id,
    revoked_at: issued.revoked_at,
    revocation_reason: issued.revocation_reason,
    created_at: issued.issued_at,
  };
}

/** What a ledger hands over because nobody acknowledged it. Answers the facts that the inventory has now. */
export async function settleOutbox(ctx: Context, issued: readonly Issued[]): Promise<Fact[]> {
  const settled: Fact[] = [];
  for (const entry of issued) {
    try {
      await settle(ctx, entry);
      settled.push(factOf(entry));
    } catch (error) {
      ctx.log.error("issuance.settle_failed", { request_id: entry.request_id, error: describeError(error) });
    }
  }
  return settled;
}

async function settle(ctx: Context, issued: Issued): Promise<void> {
  const [version] = await versionsOfSerials(ctx, issued.ledger_id, [issued.serial]);
  if (issued.kind === "leaf" && !version) {
    const certified = await certify(ctx, issued);
    await settleIssuance(ctx, certified, null, await lostRecord(ctx, certified));
    const { revocation_reason: reason } = issued;
    if (reason !== null) await writeRevocation(ctx, issued.certificate_id, [{ ...issued, reason, changed: false }]);
  } else {
    await settleStatus(ctx, issued, version);
  }
}

/** The statements that write the certificate record again where the database lost it in a restore. */
async function lostRecord(ctx: Context, { issued, issuer_id }: Certified): Promise<Statement[]> {
  if (await findCertificate(ctx, issued.certificate_id)) return [];
  const { record } = settlement.parse(issued.settle);
  if (record) return restoreStatements(ctx, issued.certificate_id, issuer_id, record);
  const { subject, subjectAltName } = parseCertificate(issued.der);
  const sans = (subjectAltName?.names ?? []).map((name) => name.value);
  const common_name = subject.commonName ?? sans[0] ?? issued.certificate_id;
  return restoreStatements(
    ctx,
    issued.certificate_id,
    issuer_id,
    recordOfNames(issued.certificate_id, common_name, sans),
  );
}
