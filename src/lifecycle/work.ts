import { and, asc, eq } from "drizzle-orm";
import type { Agent } from "../fleet/agents.ts";
import { certificatesByIds } from "../inventory/certificates/certificates.ts";
import type { Context } from "../platform/context.ts";
import { issuing } from "./jobs.ts";
import { type JobStatus, type JobType, jobs } from "./table.ts";

/** An agent gets so many at once; the next poll brings more. */
const AT_ONCE = 500;

export interface WorkItem {
  readonly id: string;
  readonly type: JobType;
  readonly certificate_id: string;
  readonly common_name: string;
  readonly sans: readonly string[];
  readonly target_id: string | null;
  readonly target_type: string | null;
  readonly target_config: Readonly<Record<string, unknown>> | null;
  readonly status: JobStatus;
}

/** What waits for this agent, the oldest first: jobs that need a CSR from it. Looking takes nothing. */
export async function workOf(ctx: Context, agent: Agent): Promise<WorkItem[]> {
  const waiting = await ctx.db
    .select()
    .from(jobs)
    .where(and(eq(jobs.agent_id, agent.id), eq(jobs.status, "AwaitingCSR"), issuing()))
    .orderBy(asc(jobs.created_at), asc(jobs.id))
    .limit(AT_ONCE);
  const records = await certificatesByIds(
    ctx,
    waiting.map((job) => job.certificate_id),
  );
  return waiting.flatMap((job) => {
    const record = records.get(job.certificate_id);
    if (!record || record.status === "Archived" || record.status === "Revoked") return [];
    return [
      {
        id: job.id,
        type: job.type,
        certificate_id: job.certificate_id,
        common_name: record.common_name,
        sans: record.sans,
        target_id: null,
        target_type: null,
        target_config: null,
        status: job.status,
      },
    ];
  });
}
