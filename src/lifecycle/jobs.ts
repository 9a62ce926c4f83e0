import { and, asc, desc, eq, inArray, isNull, or, type SQL, sql } from "drizzle-orm";
import type { SQLiteColumn } from "drizzle-orm/sqlite-core";
import { placeOfCertificate, visibleByCertificate } from "../inventory/certificates/scope.ts";
import { changeStatements, factsOf } from "../inventory/certificates/state.ts";
import type { ObjectScope } from "../platform/access.ts";
import { type Context, timestamp } from "../platform/context.ts";
import { up } from "../platform/cursor.ts";
import { guard, noRow, rowExists, type Statement } from "../platform/database.ts";
import { randomId } from "../platform/ids.ts";
import type { Page, PageRequest } from "../platform/paging.ts";
import { listPage } from "../platform/rows.ts";
import { JOB_STATUSES, JOB_TYPES, type JobStatus, type JobType, jobs } from "./table.ts";

export { JOB_STATUSES, JOB_TYPES };
export type Job = typeof jobs.$inferSelect;

/**
 * Allowed transitions. Terminal states have none. (Completed without Running: a restored database forgot that the job
 * ran.)
 */
const NEXT: Readonly<Record<JobStatus, readonly JobStatus[]>> = {
  Pending: ["Running", "Completed", "Failed", "Cancelled"],
  AwaitingApproval: ["Pending", "AwaitingCSR", "Completed", "Failed", "Cancelled"],
  AwaitingCSR: ["Running", "Completed", "Failed", "Cancelled"],
  Running: ["Running", "Completed", "Failed", "Cancelled"],
  Completed: [],
  Failed: [],
  Cancelled: [],
};

export const OPEN: readonly JobStatus[] = ["Pending", "AwaitingCSR", "AwaitingApproval", "Running"];

type Change = Partial<Pick<Job, "csr_pem" | "csr_digest" | "approved" | "last_error">>;

/**
 * The only way to move a job: a compare-and-set on status and fence, with its audit event. The batch fails
 * (ChangedMeanwhile) if the job has moved meanwhile.
 */
export function transition(ctx: Context, job: Job, to: JobStatus, change: Change = {}): Statement[] {
  if (!NEXT[job.status].includes(to)) throw new Error(`a job does not go from ${job.status} to ${to}`);
  const now = timestamp(ctx);
  const ends = !OPEN.includes(to);
  const same = and(eq(jobs.id, job.id), eq(jobs.status, job.status), eq(jobs.fence, job.fence));
  const set = {
    ...change,
    status: to,
    updated_at: now,
    fence: sql`${jobs.fence} + 1`,
    ...(to === "Running" ? { attempts: job.attempts + 1, started_at: job.started_at ?? now } : {}),
    ...(ends ? { completed_at: now } : {}),
  };
  const event = ctx.audit(`job.${to.toLowerCase() as Lowercase<JobStatus>}`, job.id, {
    from: job.status,
    certificate_id: job.certificate_id,
    ...(change.last_error ? { error: change.last_error } : {}),
  });
  return [guard(rowExists(jobs, same)), ctx.db.update(jobs).set(set).where(same), event];
}

/**
 * Ends jobs and updates the status of their certificates. The batch fails if a job or certificate was written
 * meanwhile.
 */
export async function endStatements(
  ctx: Context,
  ending: readonly Job[],
  to: "Failed" | "Cancelled",
  last_error: string,
): Promise<Statement[]> {
  const certificates = await factsOf(ctx, [...new Set(ending.map((job) => job.certificate_id))], {
    jobs: ending.map((job) => job.id),
    failed: to === "Failed",
  });
  return [
    ...ending.flatMap((job) => transition(ctx, job, to, { last_error })),
    ...certificates.flatMap((facts) => changeStatements(ctx, facts)),
  ];
}

/** The certificate issued for a job. */
export interface Outcome {
  readonly job_id: string;
  readonly certificate_id: string;
  readonly version_id: string;
  readonly csr_digest: string | null;
  /** Set for a job that is created with its certificate. */
  readonly born: Pick<Job, "type" | "created_at"> | null;
}

/**
 * Completes a job whose certificate is stored, from any open state; the issuance is its audit event. A job that has
 * otherwise ended stays ended but records its result. Idempotent.
 */
export function completed(
  ctx: Context,
  { job_id, certificate_id, version_id, csr_digest, born }: Outcome,
): Statement[] {
  const now = timestamp(ctx);
  const ifOpen = (value: unknown, otherwise: SQLiteColumn) =>
    sql`case when ${jobs.completed_at} is null then ${value} else ${otherwise} end`;
  const set = {
    version_id,
    csr_digest: sql`coalesce(${jobs.csr_digest}, ${csr_digest})`,
    status: ifOpen("Completed", jobs.status),
    last_error: ifOpen(null, jobs.last_error),
    attempts: ifOpen(sql`max(${jobs.attempts}, 1)`, jobs.attempts),
    started_at: ifOpen(sql`coalesce(${jobs.started_at}, ${now})`, jobs.started_at),
    completed_at: sql`coalesce(${jobs.completed_at}, ${now})`,
    // Both are in the version and in the CA's own records.
    approved: null,
    csr_pem: null,
    fence: sql`${jobs.fence} + 1`,
    updated_at: now,
  };
  const news = sql`${jobs.version_id} is not ${version_id}`;
  if (born === null)
    return [
      ctx.db
        .update(jobs)
        .set(set)
        .where(and(eq(jobs.id, job_id), news)),
    ];
  const job = newJob(born.created_at, { ...born, id: job_id, certificate_id, agent_id: null, max_attempts: 1 });
  const ended = { status: "Completed", attempts: 1, started_at: born.created_at, completed_at: now } as const;
  return [
    ctx.db
      .insert(jobs)
      .values({ ...job, ...ended, version_id, csr_digest, updated_at: now })
      .onConflictDoUpdate({ target: jobs.id, set, setWhere: news }),
    createEvent(ctx, job),
  ];
}

interface NewJob {
  readonly id: string;
  readonly type: JobType;
  readonly certificate_id: string;
  readonly agent_id: string | null;
  readonly max_attempts: number;
}

/** A new job that waits for a CSR from its agent or from an actor that brings a key; its id is random unless given. */
export function newCsrJob(
  ctx: Context,
  of: Omit<NewJob, "id"> & { id?: string },
): { job: Job; statements: Statement[] } {
  const job = newJob(timestamp(ctx), { id: randomId(ctx.random, "job-"), ...of });
  return { job, statements: [ctx.db.insert(jobs).values(job), createEvent(ctx, job)] };
}

/** The event's id follows from the job's, since concurrent requests may create the same job. */
function createEvent(ctx: Context, { id, type, certificate_id, agent_id }: Job): Statement {
  return ctx.audit("job.create", id, { type, certificate_id, agent_id }, { id: `audit-${id}` });
}

function newJob(now: string, of: NewJob): Job {
  return {
    ...of,
    target_id: null,
    status: "AwaitingCSR",
    attempts: 0,
    last_error: null,
    scheduled_at: now,
    started_at: null,
    completed_at: null,
    created_at: now,
    updated_at: now,
    csr_pem: null,
    csr_digest: null,
    approved: null,
    order_reference: null,
    version_id: null,
    fence: 0,
  };
}

/** Stores the CA's reference of a job's order; ChangedMeanwhile if the job has ended or already has one. */
export function keepOrder(ctx: Context, { id }: Job, order_reference: string): Statement[] {
  const waits = and(eq(jobs.id, id), eq(jobs.status, "Running"), isNull(jobs.order_reference));
  return [guard(rowExists(jobs, waits)), ctx.db.update(jobs).set({ order_reference }).where(waits)];
}

/** Records why an open job makes no progress. */
export async function noteError(ctx: Context, job: Job, last_error: string): Promise<void> {
  await ctx.db
    .update(jobs)
    .set({ last_error })
    .where(and(eq(jobs.id, job.id), eq(jobs.status, "Running")));
}

export async function findJob(ctx: Context, id: string): Promise<Job | null> {
  const [row] = await jobQuery(ctx, id);
  return row ?? null;
}

/** Reads the job, for the caller's batch. */
export function jobQuery(ctx: Context, id: string) {
  return ctx.db.select().from(jobs).where(eq(jobs.id, id));
}

/** Expression: the certificate of a job. */
export function certificateOfJob(id: string): SQL {
  return sql`(select ${jobs.certificate_id} from ${jobs} where ${jobs.id} = ${id})`;
}

/** Expression: digest of a job's CSR. */
export function digestOfJob(id: string): SQL<string | null> {
  return sql`(select ${jobs.csr_digest} from ${jobs} where ${jobs.id} = ${id})`;
}

/** For routes of a job `{id}`: the place of its certificate; null if there is no such job. */
export function jobScope(ctx: Context, { id = "" }: Readonly<Record<string, string>>): Promise<ObjectScope | null> {
  return placeOfCertificate(ctx, certificateOfJob(id));
}

/** Open issuing jobs. */
export function openJobs(ctx: Context, certificateId: string) {
  return ctx.db
    .select()
    .from(jobs)
    .where(and(eq(jobs.certificate_id, certificateId), issuing(), inArray(jobs.status, [...OPEN])));
}

/** Open issuing jobs and the job with this id, an expression. */
export function openOrNamed(ctx: Context, certificateId: string, id: SQL) {
  const open = and(issuing(), inArray(jobs.status, [...OPEN]));
  return ctx.db
    .select()
    .from(jobs)
    .where(and(eq(jobs.certificate_id, certificateId), or(open, eq(jobs.id, id))));
}

/** Every open job of an agent, oldest first. */
export function openJobsOfAgent(ctx: Context, agentId: string): Promise<Job[]> {
  return ctx.db.select().from(jobs).where(openOf(agentId)).orderBy(asc(jobs.created_at), asc(jobs.id));
}

/** Condition: the agent has no open job. */
export function hasNoOpenJobs(agentId: string): SQL {
  return noRow(jobs, openOf(agentId));
}

function openOf(agentId: string): SQL | undefined {
  return and(eq(jobs.agent_id, agentId), inArray(jobs.status, [...OPEN]));
}

/** Issuing jobs of one certificate and agent, newest first. */
export function jobsOfAgent(ctx: Context, certificateId: string, agentId: string) {
  return ctx.db
    .select()
    .from(jobs)
    .where(and(eq(jobs.certificate_id, certificateId), eq(jobs.agent_id, agentId), issuing()))
    .orderBy(desc(jobs.created_at), desc(jobs.id))
    .limit(50);
}

export function issuing(): SQL {
  return inArray(jobs.type, ["Issuance", "Renewal"]);
}

/** One page of the jobs whose certificates the actor may see by job.read, with their total. */
export function listJobs(
  ctx: Context,
  page: PageRequest,
  filter: { status?: JobStatus | undefined; type?: JobType | undefined; certificate_id?: string | undefined },
): Promise<Page<Job>> {
  const is = <T>(value: T | undefined, condition: (value: T) => SQL) =>
    value === undefined ? undefined : condition(value);
  return listPage(ctx, jobs, page, {
    where: and(
      is(filter.status, (value) => eq(jobs.status, value)),
      is(filter.type, (value) => eq(jobs.type, value)),
      is(filter.certificate_id, (value) => eq(jobs.certificate_id, value)),
      visibleByCertificate(ctx.actor, "job.read", jobs.certificate_id),
    ),
    order: [up(jobs.created_at), up(jobs.id)],
  });
}
