import { gateQueries } from "../authority/gate.ts";
import { agentsOfCertificate, type MappedAgent } from "../fleet/mapping.ts";
import { type Certificate, certificateQuery, referenceOf } from "../inventory/certificates/certificates.ts";
import { placeOf } from "../inventory/certificates/scope.ts";
import { findVersion, newestJobOf, newestVersionQuery, type VersionView } from "../inventory/certificates/versions.ts";
import { mustHold } from "../platform/access.ts";
import type { Context } from "../platform/context.ts";
import { ChangedMeanwhile, conflict, notFound } from "../platform/errors.ts";
import { repeatedly } from "../platform/race.ts";
import { sha256Hex } from "../platform/text.ts";
import { readTogether } from "../platform/writer.ts";
import { approveFor, type ReadCsr, readCsr } from "./csr.ts";
import { type Job, newCsrJob, openOrNamed } from "./jobs.ts";
import { type Approval, begin, finish, finishAgain, type Ordered, type Signed, signAtOnce } from "./signing.ts";

/** The result, with the version in the API's form. */
export interface CertifiedCsr extends Signed {
  readonly version: VersionView;
}

type Outcome = { readonly answer: Signed | Ordered; readonly version?: VersionView };

/**
 * Signs a CSR for a certificate without a target: no agent makes its key, so an actor that may issue brings one. The
 * same key and names get the same version again while that is Active; an issuance under way is finished. 409 if the
 * certificate has targets, is archived, or has another CSR being signed.
 */
export async function certifyCsr(ctx: Context, certificateId: string, pem: string): Promise<CertifiedCsr | Ordered> {
  const read = await readCsr(pem);
  const { answer, version } = await repeatedly(() => certify(ctx, certificateId, read));
  const { ignored } = read.csr;
  const told = ignored.length > 0 ? { ...answer, ignored } : answer;
  if (told.version_id === null) return told;
  const shown = version ?? (await findVersion(ctx, told.version_id));
  if (!shown) throw new Error(`version ${told.version_id} was stored and is not there`);
  return { ...told, version: shown };
}

async function certify(ctx: Context, id: string, read: ReadCsr): Promise<Outcome> {
  const [[certificate], mapped, [newest], jobs, ...facts] = await readTogether(
    ctx,
    certificateQuery(ctx, id),
    agentsOfCertificate(ctx, id),
    newestVersionQuery(ctx, id),
    openOrNamed(ctx, id, newestJobOf(id)),
    ...gateQueries(ctx, {
      issuer_id: referenceOf(id, "issuer_id"),
      profile_id: referenceOf(id, "certificate_profile_id"),
      spki_sha256: read.spki_sha256,
    }),
  );
  if (!certificate) throw notFound("certificate", id);
  mustHold(ctx.actor, "cert.issue", placeOf(certificate));
  mustHaveNoTarget(id, mapped);
  const under = jobs.find(({ completed_at }) => completed_at === null);
  if (under) {
    if (under.csr_digest === read.digest) return { answer: await finishAgain(ctx, under) };
    throw anotherCsr(under);
  }
  const made = jobs.find((job) => job.id === newest?.job_id);
  if (certificate.status === "Active" && made?.csr_digest === read.digest && made.version_id === newest?.id)
    return { answer: await finish(ctx, made) };
  const { job, statements } = newCsrJob(ctx, {
    id: await jobIdOf(certificate),
    type: newest ? "Renewal" : "Issuance",
    certificate_id: id,
    agent_id: null,
    max_attempts: 1,
  });
  return sign(ctx, { ...(await approveFor(ctx, certificate, job, read, facts)), birth: statements });
}

async function sign(ctx: Context, approval: Approval): Promise<Outcome> {
  if (approval.ca.keepsOrders) {
    const { answer, settled } = await signAtOnce(ctx, approval);
    const { version, current } = settled;
    return settled.revoked ? { answer } : { answer, version: { ...version, current } };
  }
  const begun = await begin(ctx, approval);
  if (!begun) throw new ChangedMeanwhile();
  return { answer: await finish(ctx, begun, approval.ca) };
}

/**
 * One job id for each state of a record: of concurrent CSRs, a CA that keeps orders signs one, and the same key gets
 * the same certificate.
 */
async function jobIdOf({ id, updated_at }: Certificate): Promise<string> {
  return `job-${(await sha256Hex(JSON.stringify([id, updated_at]))).slice(0, 32)}`;
}

function anotherCsr({ id }: Pick<Job, "id">) {
  return conflict("another_csr", `another CSR of this certificate is being signed (job ${id}): repeat this one`);
}

function mustHaveNoTarget(certificateId: string, [agent]: readonly MappedAgent[]): void {
  if (agent)
    throw conflict(
      "certificate_has_targets",
      `target_ids: agent ${agent.id} makes the key of this certificate; POST /api/v1/certificates/${certificateId}/renew asks it`,
    );
}
