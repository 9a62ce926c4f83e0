import { approve, gateQueries, mustMayAsk, type RequestToIssue } from "../authority/gate.ts";
import { type Agent, agentAtWork, agentQuery, checkAtWork, mustBeOwn } from "../fleet/agents.ts";
import { agentsOfCertificate, checkMapped } from "../fleet/mapping.ts";
import { type Certificate, certificateQuery, referenceOf } from "../inventory/certificates/certificates.ts";
import { keptRecord } from "../inventory/certificates/restored.ts";
import { type Csr, parseCsr } from "../pki/csr.ts";
import { PkiError } from "../pki/errors.ts";
import type { Context } from "../platform/context.ts";
import { AppError, conflict, forbidden, invalid, notFound, unavailable } from "../platform/errors.ts";
import { hex, sha256Hex } from "../platform/text.ts";
import { readTogether } from "../platform/writer.ts";
import { certificateOfJob, type Job, jobQuery, jobsOfAgent } from "./jobs.ts";
import { type Approval, begin, finish, finishAgain, type Ordered, type Signed, signAtOnce, taken } from "./signing.ts";

/** Attempts while the record keeps changing during a submission. */
const TRIES = 5;

export interface Submission {
  readonly csr_pem: string;
  readonly certificate_id?: string | undefined;
  readonly job_id?: string | undefined;
}

/** A parsed CSR with its identity. */
export interface ReadCsr {
  readonly csr: Csr;
  readonly pem: string;
  /**
   * Digest of public key and names: a second CSR with both the same is the same submission, although its signature
   * differs.
   */
  readonly digest: string;
  /** SHA-256 of its SubjectPublicKeyInfo. */
  readonly spki_sha256: string;
}

/**
 * An agent's CSR for a job that waits for it (wire.md "Certificates"). Everything is read in one round trip and checked
 * before anything changes; then the CSR is signed under the job's id, and the result is stored with the end of the job
 * in one transaction. For a CA that does not keep orders, the order is stored first (AwaitingCSR to Running). The same
 * key and names again get the same answer; another CSR is a 409.
 */
export async function submitCsr(ctx: Context, agentId: string, submission: Submission): Promise<Signed | Ordered> {
  mustBeOwn(ctx, agentId);
  try {
    const read = await readCsr(submission.csr_pem);
    const signed = await submit(ctx, agentId, submission, read);
    return read.csr.ignored.length > 0 ? { ...signed, ignored: read.csr.ignored } : signed;
  } catch (error) {
    // For an agent that is absent or was retired meanwhile, 404 or 410 takes precedence over other errors.
    if (error instanceof AppError && (error.status === 409 || error.code === "csr_invalid"))
      await agentAtWork(ctx, agentId);
    throw error;
  }
}

async function submit(ctx: Context, agentId: string, submission: Submission, read: ReadCsr): Promise<Signed | Ordered> {
  for (let left = TRIES; left > 0; left--) {
    const { job, certificate, facts } = await jobFor(ctx, agentId, submission, read);
    if (job.status === "Completed" || job.status === "Running") {
      if (job.csr_digest === read.digest) return finishAgain(ctx, job);
      throw taken(job);
    }
    if (job.status !== "AwaitingCSR")
      throw conflict("job_ended", `job_id: job ${job.id} is ${job.status}: it takes no CSR any more`);
    const approval = await approveFor(ctx, certificate, job, read, facts);
    if (approval.ca.keepsOrders) return (await signAtOnce(ctx, approval)).answer;
    const begun = await begin(ctx, approval);
    if (begun) return finish(ctx, begun, approval.ca);
  }
  throw unavailable("changed_meanwhile", "the certificate record changes all the time: submit again");
}

/** The submission's job, its record and the gate's reads; checks that this agent may answer the job. */
async function jobFor(
  ctx: Context,
  agentId: string,
  { job_id, certificate_id }: Submission,
  { digest, spki_sha256 }: ReadCsr,
): Promise<{ job: Job; certificate: Certificate; facts: readonly unknown[] }> {
  const about = job_id === undefined ? (certificate_id ?? "") : certificateOfJob(job_id);
  const [[found], jobs, [certificate], mapped, ...facts] = await readTogether(
    ctx,
    agentQuery(ctx, agentId),
    job_id === undefined ? jobsOfAgent(ctx, certificate_id ?? "", agentId) : jobQuery(ctx, job_id),
    certificateQuery(ctx, about),
    agentsOfCertificate(ctx, about),
    ...gateQueries(ctx, {
      issuer_id: referenceOf(about, "issuer_id"),
      profile_id: referenceOf(about, "certificate_profile_id"),
      spki_sha256,
    }),
  );
  const agent = checkAtWork(agentId, found);
  const job =
    job_id === undefined
      ? jobOfCertificate(certificate_id, certificate, agent, mapped, jobs, digest)
      : jobOfId(job_id, certificate_id, agent, mapped, jobs);
  if (!certificate) throw notFound("certificate", job.certificate_id);
  return { job, certificate, facts };
}

type Mapped = Parameters<typeof checkMapped>[2];

function jobOfId(
  jobId: string,
  certificateId: string | undefined,
  agent: Agent,
  mapped: Mapped,
  [job]: readonly Job[],
): Job {
  if (!job) throw notFound("job", jobId);
  if (job.agent_id !== agent.id) throw forbidden("job_id: the job is another agent's", "not_your_job");
  if (certificateId !== undefined && certificateId !== job.certificate_id)
    throw invalid("certificate_id", `job ${jobId} is for certificate ${JSON.stringify(job.certificate_id)}`);
  checkMapped(job.certificate_id, agent, mapped);
  return job;
}

function jobOfCertificate(
  id: string | undefined,
  certificate: Certificate | undefined,
  agent: Agent,
  mapped: Mapped,
  jobs: readonly Job[],
  digest: string,
): Job {
  if (id === undefined) throw invalid("job_id", "job_id or certificate_id must say what the CSR is for");
  if (!certificate) throw notFound("certificate", id);
  checkMapped(id, agent, mapped);
  const job =
    jobs.find(({ status }) => status === "AwaitingCSR") ??
    jobs.find(({ status, csr_digest }) => csr_digest === digest && (status === "Running" || status === "Completed")) ??
    jobs.find(({ status }) => status === "Running");
  if (!job)
    throw conflict("no_job_waits", `certificate_id: no job of this agent waits for a CSR of ${JSON.stringify(id)}`);
  return job;
}

/** Throws 400 for an invalid CSR. */
export async function readCsr(pem: string): Promise<ReadCsr> {
  const csr = parsed(pem);
  const names = csr.sans.map(({ type, value }) => `${type}:${value}`).sort();
  const text = JSON.stringify([hex(csr.publicKey.spki), csr.commonName ?? "", ...names]);
  const [digest, spki] = await Promise.all([sha256Hex(text), crypto.subtle.digest("SHA-256", csr.publicKey.spki)]);
  return { csr, pem, digest, spki_sha256: hex(new Uint8Array(spki)) };
}

function parsed(pem: string): Csr {
  try {
    return parseCsr(pem);
  } catch (error) {
    if (error instanceof PkiError) throw invalid("csr_pem", error.message, "csr_invalid");
    throw error;
  }
}

/** What to sign for a job. Throws the reason why it may not be signed. */
export async function approveFor(
  ctx: Context,
  certificate: Certificate,
  job: Job,
  { pem, digest }: ReadCsr,
  facts: readonly unknown[],
): Promise<Approval> {
  const request = recordRequest(ctx, certificate, job, pem);
  mustMayAsk(request);
  checkIssuable(certificate, job);
  const { approved, csr_pem, ca } = await approve(ctx, request, facts);
  return {
    certificate,
    job,
    approved: { ...approved, record: keptRecord(certificate) },
    csr_pem,
    csr_digest: digest,
    ca,
  };
}

/** The request of a job: the names of its record, for its agent or for the actor that brings a key. */
export function recordRequest(
  ctx: Pick<Context, "actor">,
  { issuer_id, certificate_profile_id, common_name, sans }: Certificate,
  { agent_id }: Pick<Job, "agent_id">,
  csr: string,
): RequestToIssue {
  return {
    actor: ctx.actor,
    holder: agent_id === null ? { type: "upload" } : { type: "agent", id: agent_id },
    issuer_id,
    profile_id: certificate_profile_id,
    names: { source: "record", common_name, sans },
    csr,
  };
}

function checkIssuable(certificate: Certificate, job: Job): void {
  if (certificate.status === "Archived")
    throw conflict("certificate_archived", "certificate_id: the certificate is archived");
  if (certificate.revocation_noted_at !== null && certificate.revocation_noted_at >= job.created_at)
    throw conflict(
      "certificate_revoked",
      "certificate_id: the certificate was revoked after this job was made: renew it again",
    );
}
