import { type Approved, type Ca, findCa, type Order } from "../authority/ca.ts";
import { collect, type OrderOutcome, place } from "../authority/orders.ts";
import { type Certificate, unchangedSince } from "../inventory/certificates/certificates.ts";
import type { KeptRecord } from "../inventory/certificates/restored.ts";
import { refreshStatus } from "../inventory/certificates/state.ts";
import { type Context, timestamp } from "../platform/context.ts";
import { guard, runBatch, type Statement } from "../platform/database.ts";
import { AppError, conflict, unavailable } from "../platform/errors.ts";
import { describeError } from "../platform/log.ts";
import { ifUnchanged, repeatedly } from "../platform/race.ts";
import { type Settled, type Settlement, settleIssuance } from "./issuance.ts";
import { findJob, type Job, keepOrder, noteError, transition } from "./jobs.ts";

/** Has signed what was approved for a job, and stores what came of it. */

/** Who begins to sign holds the job for so long; then the sweep takes it up. */
const LEASE_MS = 60_000;
const MAX_LEASE_MS = 3_600_000;
/** What could not be signed in a day ends; should the ledger have signed it all the same, its outbox still brings it. */
const GIVE_UP_MS = 24 * 3_600_000;
/** A CA that took an order may let people look at it. */
const ORDER_GIVE_UP_MS = 30 * GIVE_UP_MS;
/** The soonest that a CA is asked again for what it answers later. */
const MIN_POLL_MS = 5_000;

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

/** What may be signed for a job, by which CA. */
export interface Approval {
  readonly certificate: Certificate;
  readonly job: Job;
  readonly approved: Approved & { readonly record: KeptRecord };
  readonly csr_pem: string;
  readonly csr_digest: string;
  readonly ca: Ca;
  /** The statements that make the job, where it begins with its CSR and is not there yet. */
  readonly birth?: readonly Statement[];
}

export function taken(job: Pick<Job, "id" | "status">): AppError {
  const done = job.status === "Completed" ? "signed" : "begun to sign";
  return conflict("another_csr", `job_id: job ${job.id} has ${done} another key or other names`);
}

/**
 * Has signed by a CA that keeps its orders, and stores what came of it: the first write of this path. The CA knows the job's id, so
 * that whoever comes again gets the same certificate, and it hands over by itself what this caller has no time to store.
 */
export async function signAtOnce(ctx: Context, approval: Approval): Promise<{ answer: Signed; settled: Settled }> {
  const { ca, job, csr_digest } = approval;
  const order = orderOf({ ...job, ...approval }, approval.birth ? job : null);
  try {
    const outcome = await place(ctx, ca, order);
    if ("reference" in outcome) throw new Error(`CA ${ca.ca_id} keeps its orders and answers none at once`);
    const settled = await settleIssuance(ctx, outcome.certified);
    outcome.certified.recording.done();
    if (settled.csr_digest !== null && settled.csr_digest !== csr_digest) throw taken({ ...job, status: "Completed" });
    return { answer: signed(job, settled.version.id), settled };
  } catch (error) {
    if (!(error instanceof AppError) || error.status >= 500) throw await keptForLater(ctx, approval, error);
    if (error.code === "request_conflict") throw taken(job);
    if (error.code !== "another_csr") await refused(ctx, approval, error);
    throw error;
  }
}

/** The order is stored, so that the sweep goes on with it; the error that tells of that. */
async function keptForLater(ctx: Context, approval: Approval, error: unknown): Promise<AppError> {
  const { job } = approval;
  const last_error = describeError(error);
  ctx.log.error("issuance.failed", { job_id: job.id, error: last_error });
  ctx.defer(begin(ctx, approval, last_error).catch(() => undefined));
  return unavailable("issuance_pending", `job ${job.id} is not finished yet: submit the same CSR again`, 5, error);
}

/** The CA refuses: the job has failed. */
async function refused(ctx: Context, { job, birth }: Approval, error: AppError): Promise<void> {
  if (!birth) return fail(ctx, job.id, error.message);
  await ifUnchanged(() => runBatch(ctx.db, [...birth, ...failed(ctx, job, error.message)]));
}

/** Stores the order of a job that begins to sign; null when somebody was faster or the record changed meanwhile. */
export async function begin(ctx: Context, approval: Approval, last_error: string | null = null): Promise<Job | null> {
  const { certificate, job, approved, csr_pem, csr_digest, birth = [] } = approval;
  const lease_until = new Date(ctx.clock.now().getTime() + LEASE_MS).toISOString();
  const change = { approved, csr_pem, csr_digest, lease_until, last_error };
  const statements = [
    guard(unchangedSince(certificate)),
    ...birth,
    ...transition(ctx, job, "Running", change),
    ...(birth.length > 0 ? [refreshStatus(ctx, certificate.id, timestamp(ctx))] : []),
  ];
  if (!(await ifUnchanged(() => runBatch(ctx.db, statements)))) return null;
  return { ...job, ...change, status: "Running", fence: job.fence + 1 };
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
    const { version } = await settleIssuance(ctx, outcome.certified);
    outcome.certified.recording.done();
    return signed(job, version.id);
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

/** `born`: the job is made by what is stored of its certificate. */
function orderOf(
  job: Pick<Job, "id" | "certificate_id" | "agent_id" | "approved" | "csr_pem" | "csr_digest" | "status">,
  born: Job | null = null,
): Order {
  const { approved, csr_pem } = job;
  if (approved === null || csr_pem === null)
    throw new Error(`job ${job.id} is ${job.status} without an approved request`);
  const settle: Settlement = {
    job_id: job.id,
    agent_id: job.agent_id,
    csr_pem,
    csr_digest: job.csr_digest,
    key_algorithm: approved.key_algorithm,
    key_size: approved.key_size,
    record: approved.record,
    ...(born ? { job: { type: born.type, created_at: born.created_at } } : {}),
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
    await runBatch(ctx.db, failed(ctx, job, why));
  });
}

function failed(ctx: Context, job: Job, why: string): Statement[] {
  return [
    ...transition(ctx, job, "Failed", { last_error: why.slice(0, 1000) }),
    refreshStatus(ctx, job.certificate_id, timestamp(ctx)),
  ];
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
