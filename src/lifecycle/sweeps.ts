import { and, asc, eq, lte, not, sql } from "drizzle-orm";
import { reaches } from "../fleet/mapping.ts";
import { dueForStatus, type StatusChange, statusStatements } from "../inventory/certificates/state.ts";
import { commit } from "../platform/commit.ts";
import type { Context } from "../platform/context.ts";
import { runBatch } from "../platform/database.ts";
import { ifUnchanged } from "../platform/race.ts";
import type { SweepStep } from "../platform/work/sweep.ts";
import { endStatements, issuing, type Job } from "./jobs.ts";
import { fail } from "./signing.ts";
import { jobs } from "./table.ts";

const SLICE = 50;
/** An agent that has not answered a job in a day will not. */
const AWAIT_CSR_MS = 24 * 3_600_000;

/** Fails jobs that no agent answered. */
export const expireJobs: SweepStep = async (ctx) => {
  const before = new Date(ctx.clock.now().getTime() - AWAIT_CSR_MS).toISOString();
  const due = await ctx.db
    .select({ id: jobs.id })
    .from(jobs)
    .where(and(eq(jobs.status, "AwaitingCSR"), lte(jobs.created_at, before)))
    .orderBy(asc(jobs.created_at))
    .limit(SLICE);
  for (const { id } of due) await fail(ctx, id, "the agent sent no CSR within 24 hours");
  return due.length < SLICE ? null : "more";
};

/**
 * Cancels jobs of an agent that lost the certificate while they waited: no agent may answer them, and they would block
 * the next renewal.
 */
export const cancelOrphanedJobs: SweepStep = async (ctx) => {
  const orphaned = await ctx.db
    .select()
    .from(jobs)
    .where(
      and(eq(jobs.status, "AwaitingCSR"), issuing(), not(reaches(sql`${jobs}.agent_id`, sql`${jobs}.certificate_id`))),
    )
    .orderBy(asc(jobs.created_at))
    .limit(SLICE);
  for (const job of orphaned) await cancelOrphan(ctx, job);
  return orphaned.length < SLICE ? null : "more";
};

async function cancelOrphan(ctx: Context, job: Job): Promise<void> {
  const why = "no target of this agent has the certificate any more";
  await ifUnchanged(async () => commit(ctx, await endStatements(ctx, [job], "Cancelled", why)));
}

/** Updates certificates whose status changed with time: Active, Expiring, Expired, also during a renewal. */
export const refreshCertificates: SweepStep = async (ctx) => {
  const due = await dueForStatus(ctx, SLICE);
  const write = (changes: readonly StatusChange[]) =>
    ifUnchanged(() =>
      runBatch(
        ctx.db,
        changes.flatMap((change) => statusStatements(ctx, change)),
      ),
    );
  // A concurrent writer has set the right status.
  if (!(await write(due))) for (const change of due) await write([change]);
  return due.length < SLICE ? null : "more";
};
