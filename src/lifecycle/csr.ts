import { type Approved, type Ca, findCa, type Order } from "../authority/ca.ts";
import { approve, mustMayAsk, type RequestToIssue } from "../authority/gate.ts";
import { collect, type OrderOutcome, place } from "../authority/orders.ts";
import { type Agent, agentAtWork } from "../fleet/agents.ts";
import { agentsOfCertificate, checkMapped } from "../fleet/mapping.ts";
import { type Certificate, mustFindCertificate, unchangedSince } from "../inventory/certificates/certificates.ts";
import { keptRecord } from "../inventory/certificates/restored.ts";
import { refreshStatus } from "../inventory/certificates/state.ts";
import { type Csr, parseCsr } from "../pki/csr.ts";
import { PkiError } from "../pki/errors.ts";
import { type Context, timestamp } from "../platform/context.ts";
import { guard, runBatch } from "../platform/database.ts";
import { AppError, conflict, forbidden, invalid, notFound, unavailable } from "../platform/errors.ts";
import { describeError } from "../platform/log.ts";
import { ifUnchanged, repeatedly } from "../platform/race.ts";
import { hex, sha256Hex } from "../platform/text.ts";
import { type Settlement, settleIssuance } from "./issuance.ts";
import { findJob, type Job, jobsOfAgent, keepOrder, noteError, transition } from "./jobs.ts";

/** Who begins to sign holds the job for so long; then the sweep takes it up. */
const LEASE_MS = 60_000;
const MAX_LEASE_MS = 3_600_000;
/** What could not be signed in a day ends; should the ledger have signed it all the same, its outbox still brings it. */
const GIVE_UP_MS = 24 * 3_600_000;
/** A CA that took an order may let people look at it. */
const ORDER_GIVE_UP_MS = 30 * GIVE_UP_MS;
/** The soonest that a CA is asked again for what it answers later. */
const MIN_POLL_MS = 5_000;
/** So often a record may change under a submission before it gives up. */
const TRIES = 5;

export interface Submission {
  readonly csr_pem: string;
  readonly certificate_id?: string | undefined;
  readonly job_id?: string | undefined;
}

export interface Signed {
  readonly status: "csr_signed";
  readonly job_id: string;
  readonly version_id: string;
  /** What of the request came to nothing; absent where all of it counted. */
  readonly ignored?: readonly string[];
}

/** The CA has the order and answers later. */
export interface Ordered {
  readonly status: "csr_ordered";
  readonly job_id: string;
  readonly version_id: null;
  readonly ignored?: readonly string[];
}

/**
 * An agent's CSR for a job that waits for it (wire.md "Certificates"). Everything is checked before anything changes; then one
 * submission takes the job (AwaitingCSR to Running), has it signed under the job's id, and stores what came of it. The same
 * key and names again get the same answer; another CSR is a 409.
 */
export async function submitCsr(ctx: Context, agent: Agent, submission: Submission): Promise<Signed | Ordered> {
  try {
    const csr = readCsr(submission.csr_pem);
    const signed = await submit(ctx, agent, submission, await digestOf(csr));
    return csr.ignored.length > 0 ? { ...signed, ignored: csr.ignored } : signed;
  } catch (error) {
    // Who was retired in between is told so (410), not that its job has ended.
    if (error instanceof AppError && error.status === 409) await agentAtWork(ctx, agent.id);
    throw error;
  }
}

async function submit(ctx: Context, agent: Agent, submission: Submission, digest: string): Promise<Signed | Ordered> {
  for (let left = TRIES; left > 0; left--) {
    const job = await jobFor(ctx, agent, submission, digest);
    if (job.status === "Completed" || job.status === "Running") {
      if (job.csr_digest === digest) return finishAgain(ctx, job);
      throw taken(job);
    }
    if (job.status !== "AwaitingCSR")
      throw conflict("job_ended", `job_id: job ${job.id} is ${job.status}: it takes no CSR any more`);
    const begun = await begin(ctx, job, submission.csr_pem, digest);
    if (begun) return finish(ctx, begun.job, begun.ca);
  }
  throw unavailable("changed_meanwhile", "the certificate record changes all the time: submit again");
}

function taken(job: Job): AppError {
  return conflict(
    "another_csr",
    `job_id: job ${job.id} has ${job.status === "Completed" ? "signed" : "begun to sign"} another key or other names`,
  );
}

/** The job that a submission is for; whether this agent may answer it. */
async function jobFor(ctx: Context, agent: Agent, submission: Submission, digest: string): Promise<Job> {
  const { job_id, certificate_id } = submission;
  if (job_id !== undefined) {
    const job = await findJob(ctx, job_id);
    if (!job) throw notFound("job", job_id);
    if (job.agent_id !== agent.id) throw forbidden("job_id: the job is another agent's", "not_your_job");
    if (certificate_id !== undefined && certificate_id !== job.certificate_id)
      throw invalid("certificate_id", `job ${job_id} is for certificate ${JSON.stringify(job.certificate_id)}`);
    checkMapped(job.certificate_id, agent, await agentsOfCertificate(ctx, job.certificate_id));
    return job;
  }
  if (certificate_id === undefined) throw invalid("job_id", "job_id or certificate_id must say what the CSR is for");
  await mustFindCertificate(ctx, certificate_id);
  checkMapped(certificate_id, agent, await agentsOfCertificate(ctx, certificate_id));
  const jobs = await jobsOfAgent(ctx, certificate_id, agent.id);
  const job =
    jobs.find(({ status }) => status === "AwaitingCSR") ??
    jobs.find(({ status, csr_digest }) => csr_digest === digest && (status === "Running" || status === "Completed")) ??
    jobs.find(({ status }) => status === "Running");
  if (!job)
    throw conflict(
      "no_job_waits",
      `certificate_id: no job of this agent waits for a CSR of ${JSON.stringify(certificate_id)}`,
    );
  return job;
}

export function readCsr(pem: string): Csr {
  try {
    return parseCsr(pem);
  } catch (error) {
    if (error instanceof PkiError) throw invalid("csr_pem", error.message, "csr_invalid");
    throw error;
  }
}

/** Public key and names, so that a second CSR of one key is the same although its signature differs. */
export async function digestOf(csr: Csr): Promise<string> {
  const names = csr.sans.map(({ type, value }) => `${type}:${value}`).sort();
  return sha256Hex(JSON.stringify([hex(csr.publicKey.spki), csr.commonName ?? "", ...names]));
}

/** A job that is being signed, and the CA that it was approved for. */
interface Begun {
  readonly job: Job;
  readonly ca: Ca;
}

/** Takes the job for this CSR; null when somebody was faster or the record changed meanwhile. */
async function begin(ctx: Context, job: Job, pem: string, digest: string): Promise<Begun | null> {
  const certificate = await mustFindCertificate(ctx, job.certificate_id);
  const { change, ca } = await changeOf(ctx, certificate, job, pem, digest);
  const statements = [guard(unchangedSince(certificate)), ...transition(ctx, job, "Running", change)];
  if (!(await ifUnchanged(() => runBatch(ctx.db, statements)))) return null;
  return { job: { ...job, ...change, status: "Running" }, ca };
}

/** What a job that begins to sign keeps: exactly what is to be signed. Throws what stands against it. */
export async function changeOf(ctx: Context, certificate: Certificate, job: Job, pem: string, csr_digest: string) {
  const request = recordRequest(ctx, certificate, job, pem);
  mustMayAsk(request);
  checkIssuable(certificate, job);
  const { approved, csr_pem, ca } = await approve(ctx, request);
  const lease_until = new Date(ctx.clock.now().getTime() + LEASE_MS).toISOString();
  const kept = { ...approved, record: keptRecord(certificate) };
  return { change: { approved: kept, csr_pem, csr_digest, lease_until, last_error: null }, ca };
}

/** The request of a job: the names of its record, for its agent or whoever brings a key. */
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

/**
 * Has a job's CSR signed and stored, as often as it is called: the CA knows the job's id, or the job what the CA calls the order.
 * `ca`: the job was begun just now, and nobody else can be faster.
 */
export async function finish(ctx: Context, job: Job, ca?: Ca): Promise<Signed | Ordered> {
  if (job.status === "Completed" && job.version_id !== null) return signed(job, job.version_id);
  const order = orderOf(job);
  try {
    const at = ca ?? (await caOf(ctx, order.approved));
    const { order_reference: reference } = job;
    const outcome = await (reference === null ? place(ctx, at, order) : collect(ctx, at, order, reference));
    if ("reference" in outcome) {
      await noteOrder(ctx, job, outcome);
      return ordered(job);
    }
    // Of many who ask at once, most find it stored already.
    const now = ca ? job : await findJob(ctx, job.id);
    if (now?.status === "Completed" && now.version_id !== null) return signed(job, now.version_id);
    const { version_id } = await settleIssuance(ctx, outcome.certified, now);
    outcome.certified.recording.done();
    return signed(job, version_id);
  } catch (error) {
    if (error instanceof AppError && error.status < 500) {
      await fail(ctx, job.id, error.message);
      throw error;
    }
    const last_error = describeError(error);
    ctx.log.error("issuance.failed", { job_id: job.id, error: last_error });
    ctx.defer(noteError(ctx, job, last_error).catch(() => undefined));
    throw unavailable("issuance_pending", `job ${job.id} is not finished yet: submit the same CSR again`, 5, error);
  }
}

/** The same for a submission that comes again: the CA of an order is asked when that is due, not at every submission. */
export async function finishAgain(ctx: Context, job: Job): Promise<Signed | Ordered> {
  const { status, order_reference, lease_until } = job;
  const waits = status === "Running" && order_reference !== null && (lease_until ?? "") > timestamp(ctx);
  return waits ? ordered(job) : finish(ctx, job);
}

function signed({ id }: Job, version_id: string): Signed {
  return { status: "csr_signed", job_id: id, version_id };
}

function ordered({ id }: Job): Ordered {
  return { status: "csr_ordered", job_id: id, version_id: null };
}

function orderOf(job: Job): Order {
  const { approved, csr_pem } = job;
  if (approved === null || csr_pem === null)
    throw new Error(`job ${job.id} is ${job.status} without an approved request`);
  const settle: Settlement = {
    job_id: job.id,
    agent_id: job.agent_id,
    csr_pem,
    key_algorithm: approved.key_algorithm,
    key_size: approved.key_size,
    record: approved.record,
  };
  return { request_id: job.id, certificate_id: job.certificate_id, approved, csr_pem, settle };
}

async function caOf(ctx: Context, approved: Approved): Promise<Ca> {
  const ca = await findCa(ctx, approved);
  if (ca) return ca;
  throw conflict("ca_absent", `the CA ${approved.ca_id} of issuer ${approved.issuer_id} is gone: renew again`);
}

/** Keeps what the CA calls the order, and when it is to be asked. */
async function noteOrder(ctx: Context, job: Job, order: Extract<OrderOutcome, { reference: string }>): Promise<void> {
  const pause = Math.min(MAX_LEASE_MS, Math.max(MIN_POLL_MS, (order.retry_seconds ?? 0) * 1000));
  const lease_until = new Date(ctx.clock.now().getTime() + pause).toISOString();
  await keepOrder(ctx, job, order.reference, order.retry_seconds === undefined ? {} : { lease_until });
}

/** Ends a job in failure; the certificate shows what that leaves it with. Nothing happens when the job has ended already. */
export function fail(ctx: Context, jobId: string, why: string): Promise<void> {
  return repeatedly(async () => {
    const job = await findJob(ctx, jobId);
    if (!job || job.completed_at !== null) return;
    await runBatch(ctx.db, [
      ...transition(ctx, job, "Failed", { last_error: why.slice(0, 1000) }),
      refreshStatus(ctx, job.certificate_id, timestamp(ctx)),
    ]);
  });
}

const limitOf = (job: Job): number => (job.order_reference === null ? GIVE_UP_MS : ORDER_GIVE_UP_MS);
const reasonOf = (job: Job): string =>
  job.order_reference === null
    ? "its holder was gone each time"
    : `the CA has not answered order ${job.order_reference}`;

/** Takes up a job whose holder is gone, or whose CA answers later. The next one may do so after a pause that doubles with each attempt. */
export async function resume(ctx: Context, job: Job): Promise<void> {
  const now = ctx.clock.now().getTime();
  if (job.started_at !== null && now - Date.parse(job.started_at) > limitOf(job))
    return fail(ctx, job.id, `not signed within ${limitOf(job) / 3_600_000} hours: ${job.last_error ?? reasonOf(job)}`);
  const pause = Math.min(MAX_LEASE_MS, LEASE_MS * 2 ** Math.min(job.attempts, 10));
  const lease_until = new Date(now + pause).toISOString();
  if (!(await ifUnchanged(() => runBatch(ctx.db, transition(ctx, job, "Running", { lease_until }))))) return;
  const mine = await findJob(ctx, job.id);
  if (mine?.status !== "Running") return;
  try {
    await finish(ctx, mine);
  } catch (error) {
    // A refusal ended the job; what is pending is tried again when the lease is over.
    if (!(error instanceof AppError)) throw error;
  }
}
