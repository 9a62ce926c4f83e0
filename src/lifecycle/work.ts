import { and, asc, eq } from "drizzle-orm";
import { type Agent, agentQuery, checkAtWork, mustBeOwn } from "../fleet/agents.ts";
import { agentsOfCertificate, checkMapped } from "../fleet/mapping.ts";
import { certificateQuery, certificatesByIds } from "../inventory/certificates/certificates.ts";
import { newestVersionQuery } from "../inventory/certificates/versions.ts";
import type { Context } from "../platform/context.ts";
import { AppError, notFound } from "../platform/errors.ts";
import { readTogether } from "../platform/writer.ts";
import { issuing } from "./jobs.ts";
import { type JobStatus, type JobType, jobs } from "./table.ts";

/** Items in one answer; the next poll brings more. */
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

/** Jobs that need a CSR from this agent, oldest first. Reading does not claim them. */
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

/**
 * The chain of the agent's newest version of a certificate. 403 for an agent's key on another agent's route, and if no
 * target of the agent has the certificate; 404 without agent, certificate or version; 410 for a retired agent.
 */
export async function pickUp(ctx: Context, agentId: string, certificateId: string): Promise<string> {
  mustBeOwn(ctx, agentId);
  const [[found], [certificate], mapped, [version]] = await readTogether(
    ctx,
    agentQuery(ctx, agentId),
    certificateQuery(ctx, certificateId),
    agentsOfCertificate(ctx, certificateId),
    newestVersionQuery(ctx, certificateId, agentId),
  );
  const agent = checkAtWork(agentId, found);
  if (!certificate) throw notFound("certificate", certificateId);
  checkMapped(certificateId, agent, mapped);
  if (!version)
    throw new AppError(404, "not_issued", `nothing was issued yet for this agent and ${JSON.stringify(certificateId)}`);
  return version.pem_chain;
}
