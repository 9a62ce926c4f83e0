import { type Approved, type Ca, findCa, type Order } from "../authority/ca.ts";
import { collect, type OrderOutcome, place } from "../authority/orders.ts";
import { type Certificate, unchangedSince } from "../inventory/certificates/certificates.ts";
import type { KeptRecord } from "../inventory/certificates/restored.ts";
import { changeStatements, factsOf } from "../inventory/certificates/state.ts";
import type { Context } from "../platform/context.ts";
import { guard, runBatch, type Statement } from "../platform/database.ts";
import { AppError, conflict, unavailable } from "../platform/errors.ts";
import { describeError } from "../platform/log.ts";
import { ifUnchanged, repeatedly, UNTIL_WRITTEN } from "../platform/race.ts";
import { enqueue, type Payload, type Rest, type WorkKinds, wake } from "../platform/work/work.ts";
import { type Settled, type Settlement, settleIssuance } from "./issuance.ts";
import { endStatements, findJob, type Job, keepOrder, noteError, transition } from "./jobs.ts";

/** Has a job's approved CSR signed and stores the result. */

/** Work: finishes signing that a request began. */
const SIGN = "job.sign";
/** Work: polls a CA that answers later. */
const POLL = "job.poll";
/** Time for the request that stored the order to finish it itself. */
const FIRST_SECONDS = 60;
/** A job unsigned for a day fails; if the ledger signed it nevertheless, its outbox delivers the certificate. */
const GIVE_UP_MS = 24 * 3_600_000;
/** Longer for an accepted order: the CA may have people review it. */
const ORDER_GIVE_UP_MS = 30 * GIVE_UP_MS;
/** Bounds on the delay between polls of a CA that answers later. */
const MIN_POLL_SECONDS = 5;
const MAX_POLL_SECONDS = 3_600;
/** Maximum length of a job's stored error, in characters. */
const MAX_ERROR = 1000;

export interface Signed {
  readonly status: "csr_signed";
  readonly job_id: string;
  readonly version_id: string;
  /** Parts of the request that were ignored; absent if none. */
  readonly ignored?: readonly string[];
}

/** The CA has accepted the order and answers later. */
export interface Ordered {
  readonly status: "csr_ordered";
  readonly job_id: string;
  readonly version_id: null;
  readonly ignored?: readonly string[];
}

/** What may be signed for a job, and by which CA. */
export interface Approval {
  readonly certificate: Certificate;
  readonly job: Job;
  readonly approved: Approved & { readonly record: KeptRecord };
  readonly csr_pem: string;
  readonly csr_digest: string;
  readonly ca: Ca;
  /** Statements that create the job, if it starts with its CSR and does not exist yet. */
  readonly birth?: readonly Statement[];
}

export function taken(job: Pick<Job, "id" | "status">): AppError {
  const done = job.status === "Completed" ? "signed" : "begun to sign";
  return conflict("another_csr", `job_id: job ${job.id} has ${done} another key or other names`);
}

/**
 * Has a CA that keeps orders sign, then stores the result: the first write of this path. The CA knows the job's id, so
 * a repeat gets the same certificate, and the CA itself hands over what this caller fails to store.
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

/** Stores the order for queued work to finish; returns the error that says so. */
async function keptForLater(ctx: Context, approval: Approval, error: unknown): Promise<AppError> {
  const { job } = approval;
  const last_error = describeError(error);
  ctx.log.error("issuance.failed", { job_id: job.id, error: last_error });
  ctx.defer(begin(ctx, approval, last_error).catch(() => undefined));
  return unavailable("issuance_pending", `job ${job.id} is not finished yet: submit the same CSR again`, 5, error);
}

/** The CA refused: fails the job. */
async function refused(ctx: Context, { certificate, job, birth }: Approval, error: AppError): Promise<void> {
  if (!birth) return fail(ctx, job.id, error.message);
  const attempt = async () => {
    const facts = await factsOf(ctx, [certificate.id]);
    const last_error = error.message.slice(0, MAX_ERROR);
    await runBatch(ctx.db, [
      ...birth,
      ...transition(ctx, job, "Failed", { last_error }),
      ...facts.flatMap((before) => changeStatements(ctx, before, { last_failed: true })),
    ]);
  };
  await ifUnchanged(() => repeatedly(attempt));
}

/**
 * Stores the order of a job that starts signing; null if another request was faster or the record changed meanwhile.
 */
export async function begin(ctx: Context, approval: Approval, last_error: string | null = null): Promise<Job | null> {
  const { certificate, job, approved, csr_pem, csr_digest, birth = [] } = approval;
  const change = { approved, csr_pem, csr_digest, last_error };
  const signing = enqueue(ctx, SIGN, { job_id: job.id }, FIRST_SECONDS);
  const born = birth.length > 0 ? await factsOf(ctx, [certificate.id]) : [];
  const statements = [
    guard(unchangedSince(certificate)),
    ...birth,
    ...transition(ctx, job, "Running", change),
    signing.statement,
    ...born.flatMap((before) => changeStatements(ctx, before, { asked_at: job.created_at })),
  ];
  if (!(await ifUnchanged(() => runBatch(ctx.db, statements)))) return null;
  wake(ctx, [signing.id], FIRST_SECONDS);
  return { ...job, ...change, status: "Running", fence: job.fence + 1 };
}

/**
 * Has a job's CSR signed and stores the result. Idempotent: the CA knows the job's id, or the job has the CA's
 * reference. `ca`: the job was begun just now by this caller, so no other can be ahead.
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

/**
 * The same for a repeated submission: an order that the CA answers later is left to queued work, which polls when due.
 */
export async function finishAgain(ctx: Context, job: Job): Promise<Signed | Ordered> {
  return job.status === "Running" && job.order_reference !== null ? ordered(job) : finish(ctx, job);
}

function signed({ id }: Job, version_id: string): Signed {
  return { status: "csr_signed", job_id: id, version_id };
}

function ordered({ id }: Job): Ordered {
  return { status: "csr_ordered", job_id: id, version_id: null };
}

/** `born`: the job is created when its certificate is stored. */
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

/** Stores the CA's reference of the order, and the work that polls it. */
async function noteOrder(ctx: Context, job: Job, order: Extract<OrderOutcome, { reference: string }>): Promise<void> {
  const seconds = Math.min(MAX_POLL_SECONDS, Math.max(MIN_POLL_SECONDS, order.retry_seconds ?? FIRST_SECONDS));
  const polling = enqueue(ctx, POLL, { job_id: job.id }, seconds);
  const statements = [...keepOrder(ctx, job, order.reference), polling.statement];
  if (await ifUnchanged(() => runBatch(ctx.db, statements))) wake(ctx, [polling.id], seconds);
}

/** Fails a job and updates its certificate's status. Does nothing if the job has already ended. */
export function fail(ctx: Context, jobId: string, why: string): Promise<void> {
  return repeatedly(async () => {
    const job = await findJob(ctx, jobId);
    if (!job || job.completed_at !== null) return;
    await runBatch(ctx.db, await endStatements(ctx, [job], "Failed", why.slice(0, MAX_ERROR)));
  }, UNTIL_WRITTEN);
}

/** Work for jobs that a request began but did not finish. */
export const jobWork: WorkKinds = {
  [SIGN]: { run: (ctx, { job_id }) => signLater(ctx, String(job_id)), dead: endJob, attempts: 60 },
  [POLL]: { run: (ctx, { job_id }) => pollLater(ctx, String(job_id)), dead: endJob, attempts: 1_000 },
};

/** The same order under the same id: nothing is signed twice. */
async function signLater(ctx: Context, jobId: string): Promise<undefined> {
  const job = await findJob(ctx, jobId);
  if (job?.status !== "Running" || job.order_reference !== null) return;
  if (runningMs(ctx, job) > GIVE_UP_MS) {
    await fail(ctx, job.id, `not signed within 24 hours: ${job.last_error ?? "its holder was gone each time"}`);
    return;
  }
  await runBatch(ctx.db, transition(ctx, job, "Running"));
  await unlessRefused(finish(ctx, job));
}

/** Polls again after as long as the order has already taken. */
async function pollLater(ctx: Context, jobId: string): Promise<Rest | undefined> {
  const job = await findJob(ctx, jobId);
  if (job?.status !== "Running" || job.order_reference === null) return undefined;
  const running = runningMs(ctx, job);
  if (running > ORDER_GIVE_UP_MS) {
    await fail(ctx, job.id, `not signed within 30 days: the CA has not answered order ${job.order_reference}`);
    return undefined;
  }
  const answer = await unlessRefused(finish(ctx, job));
  if (answer?.status !== "csr_ordered") return undefined;
  const inSeconds = Math.min(MAX_POLL_SECONDS, Math.max(FIRST_SECONDS, Math.floor(running / 1000)));
  return { payload: { job_id: jobId }, inSeconds };
}

/** Null if the CA refused, which has failed the job. A pending order is thrown, and retried. */
async function unlessRefused(finishing: Promise<Signed | Ordered>): Promise<Signed | Ordered | null> {
  try {
    return await finishing;
  } catch (error) {
    if (error instanceof AppError && error.status < 500) return null;
    throw error;
  }
}

async function endJob(ctx: Context, { job_id }: Payload, error: string): Promise<void> {
  const job = await findJob(ctx, String(job_id));
  await fail(ctx, String(job_id), `not signed: ${job?.last_error ?? error}`);
}

function runningMs(ctx: Context, { started_at, created_at }: Job): number {
  return ctx.clock.now().getTime() - Date.parse(started_at ?? created_at);
}
