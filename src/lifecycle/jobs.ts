import { and, asc, desc, eq, inArray, type SQL, sql } from "drizzle-orm";
import { placeOfCertificate, visibleByCertificate } from "../inventory/certificates/scope.ts";
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

/** Whatever can follow a status. What ends is final. (Completed without Running: the database had forgotten that it ran.) */
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

type Change = Partial<Pick<Job, "csr_pem" | "csr_digest" | "approved" | "version_id" | "last_error" | "lease_until">>;

/**
 * The one way a job moves: a compare-and-set on its status and fence, with the audit event of it. The batch fails
 * (ChangedMeanwhile) when somebody else moved the job first. `settling` instead moves whatever fence holds it, or nothing: who
 * else works on it writes the same, and the event of the issuance tells of it.
 */
export function transition(ctx: Context, job: Job, to: JobStatus, change: Change = {}, settling = false): Statement[] {
  if (!NEXT[job.status].includes(to)) throw new Error(`a job does not go from ${job.status} to ${to}`);
  const now = timestamp(ctx);
  const ends = !OPEN.includes(to);
  const still = and(eq(jobs.id, job.id), eq(jobs.status, job.status));
  const same = and(still, eq(jobs.fence, job.fence));
  const set = {
    ...change,
    status: to,
    updated_at: now,
    fence: sql`${jobs.fence} + 1`,
    ...(to === "Running" ? { attempts: job.attempts + 1, started_at: job.started_at ?? now } : {}),
    ...(ends ? { completed_at: now, lease_until: null } : {}),
  };
  if (settling) return [ctx.db.update(jobs).set(set).where(still)];
  const event = ctx.audit(`job.${to.toLowerCase() as Lowercase<JobStatus>}`, job.id, {
    from: job.status,
    certificate_id: job.certificate_id,
    ...(change.last_error ? { error: change.last_error } : {}),
    ...(change.version_id ? { version_id: change.version_id } : {}),
  });
  return [guard(rowExists(jobs, same)), ctx.db.update(jobs).set(set).where(same), event];
}

/** A new job that waits for a CSR of its agent, or of whoever brings one. */
export function newCsrJob(
  ctx: Context,
  of: { type: JobType; certificate_id: string; agent_id: string | null; max_attempts: number },
): { job: Job; statements: Statement[] } {
  const now = timestamp(ctx);
  const job: Job = {
    ...of,
    id: randomId(ctx.random, "job-"),
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
    lease_until: null,
    fence: 0,
  };
  const event = ctx.audit("job.create", job.id, {
    type: of.type,
    certificate_id: of.certificate_id,
    agent_id: of.agent_id,
  });
  return { job, statements: [ctx.db.insert(jobs).values(job), event] };
}

/** Keeps under which reference the CA of a job that goes on answers later. */
export async function keepOrder(
  ctx: Context,
  job: Job,
  order_reference: string,
  change: Pick<Change, "lease_until">,
): Promise<void> {
  await ctx.db
    .update(jobs)
    .set({ order_reference, ...change })
    .where(and(eq(jobs.id, job.id), eq(jobs.status, "Running")));
}

/** Writes down why a job that goes on has not got further. */
export async function noteError(ctx: Context, job: Job, last_error: string): Promise<void> {
  await ctx.db
    .update(jobs)
    .set({ last_error })
    .where(and(eq(jobs.id, job.id), eq(jobs.status, "Running")));
}

export async function findJob(ctx: Context, id: string): Promise<Job | null> {
  const [row] = await ctx.db.select().from(jobs).where(eq(jobs.id, id));
  return row ?? null;
}

/** For routes of a job `{id}`: where its certificate is; null when there is no such job. */
export function jobScope(ctx: Context, { id = "" }: Readonly<Record<string, string>>): Promise<ObjectScope | null> {
  return placeOfCertificate(ctx, sql`(select ${jobs.certificate_id} from ${jobs} where ${jobs.id} = ${id})`);
}

/** Jobs that issue and are not ended. */
export function openJobs(ctx: Context, certificateId: string) {
  return ctx.db
    .select()
    .from(jobs)
    .where(and(eq(jobs.certificate_id, certificateId), issuing(), inArray(jobs.status, [...OPEN])));
}

/** Every job of an agent that is not ended, the oldest first. */
export function openJobsOfAgent(ctx: Context, agentId: string): Promise<Job[]> {
  return ctx.db.select().from(jobs).where(openOf(agentId)).orderBy(asc(jobs.created_at), asc(jobs.id));
}

/** Condition: the agent has no job that is not ended. */
export function hasNoOpenJobs(agentId: string): SQL {
  return noRow(jobs, openOf(agentId));
}

function openOf(agentId: string): SQL | undefined {
  return and(eq(jobs.agent_id, agentId), inArray(jobs.status, [...OPEN]));
}

/** The jobs that issue of one certificate and agent, the newest first. */
export function jobsOfAgent(ctx: Context, certificateId: string, agentId: string): Promise<Job[]> {
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

/** One page of the jobs whose certificates the actor may see by job.read, and its total. */
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
