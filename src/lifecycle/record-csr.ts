import { sql } from "drizzle-orm";
import type { Ca } from "../authority/ca.ts";
import { agentsOfCertificate } from "../fleet/mapping.ts";
import { type Certificate, mustFindCertificate, unchangedSince } from "../inventory/certificates/certificates.ts";
import { placeOf } from "../inventory/certificates/scope.ts";
import { refreshStatus, renewing } from "../inventory/certificates/state.ts";
import { findVersion, newestVersion, type VersionView } from "../inventory/certificates/versions.ts";
import { mustHold } from "../platform/access.ts";
import { type Context, timestamp } from "../platform/context.ts";
import { guard, runBatch } from "../platform/database.ts";
import { conflict } from "../platform/errors.ts";
import { repeatedly } from "../platform/race.ts";
import { changeOf, digestOf, finish, finishAgain, type Ordered, readCsr, type Signed } from "./csr.ts";
import { findJob, type Job, newCsrJob, openJobs, transition } from "./jobs.ts";

/** What came of it, with the version as it is shown. */
export interface CertifiedCsr extends Signed {
  readonly version: VersionView;
}

/**
 * A CSR for a certificate without a target: no agent makes its key, so whoever may issue brings one. The same key and names
 * again get the version that they have, as long as that is Active; what is under way is finished. 409 where the certificate
 * has targets, for an archived one, and while another CSR is being signed.
 */
export async function certifyCsr(ctx: Context, certificateId: string, pem: string): Promise<CertifiedCsr | Ordered> {
  const csr = readCsr(pem);
  const digest = await digestOf(csr);
  const outcome = await repeatedly(async () => {
    const certificate = await mustFindCertificate(ctx, certificateId);
    mustHold(ctx.actor, "cert.issue", placeOf(certificate));
    await mustHaveNoTarget(ctx, certificateId);
    const [under] = await openJobs(ctx, certificateId);
    if (under) {
      if (under.csr_digest === digest) return finishAgain(ctx, under);
      throw conflict(
        "another_csr",
        `another CSR of this certificate is being signed (job ${under.id}): repeat this one`,
      );
    }
    const newest = await newestVersion(ctx, certificateId);
    const made = newest?.job_id ? await findJob(ctx, newest.job_id) : null;
    if (certificate.status === "Active" && made?.csr_digest === digest && made.version_id === newest?.id)
      return finish(ctx, made);
    const { job, ca } = await beginAlone(ctx, certificate, newest !== null, pem, digest);
    return finish(ctx, job, ca);
  });
  const told = csr.ignored.length > 0 ? { ignored: csr.ignored } : {};
  if (outcome.version_id === null) return { ...outcome, ...told };
  const version = await findVersion(ctx, outcome.version_id);
  if (!version) throw new Error(`version ${outcome.version_id} was stored and is not there`);
  return { ...outcome, version, ...told };
}

async function mustHaveNoTarget(ctx: Context, certificateId: string): Promise<void> {
  const [agent] = await agentsOfCertificate(ctx, certificateId);
  if (agent)
    throw conflict(
      "certificate_has_targets",
      `target_ids: agent ${agent.id} makes the key of this certificate; POST /api/v1/certificates/${certificateId}/renew asks it`,
    );
}

/** A job that nobody waits for: it begins with its CSR. ChangedMeanwhile when somebody was faster. */
async function beginAlone(
  ctx: Context,
  certificate: Certificate,
  renews: boolean,
  pem: string,
  digest: string,
): Promise<{ readonly job: Job; readonly ca: Ca }> {
  const { job, statements } = newCsrJob(ctx, {
    type: renews ? "Renewal" : "Issuance",
    certificate_id: certificate.id,
    agent_id: null,
    max_attempts: 1,
  });
  const { change, ca } = await changeOf(ctx, certificate, job, pem, digest);
  await runBatch(ctx.db, [
    guard(unchangedSince(certificate)),
    guard(sql`not ${renewing(ctx, certificate.id)}`),
    ...statements,
    ...transition(ctx, job, "Running", change),
    refreshStatus(ctx, certificate.id, timestamp(ctx)),
  ]);
  return { job: { ...job, ...change, status: "Running", fence: job.fence + 1 }, ca };
}
