import { type Agent, findAgent } from "../fleet/agents.ts";
import { dependenciesOf, retireStatements } from "../fleet/retirement.ts";
import { forgetActors } from "../identity/actors.ts";
import { commit } from "../platform/commit.ts";
import { type Context, timestamp } from "../platform/context.ts";
import { guard, type Statement } from "../platform/database.ts";
import { notFound } from "../platform/errors.ts";
import { repeatedly } from "../platform/race.ts";
import { endStatements, hasNoOpenJobs, type Job, openJobsOfAgent } from "./jobs.ts";

export interface DependencyCounts {
  readonly active_targets: number;
  readonly active_certificates: number;
  readonly pending_jobs: number;
}

export interface Retirement {
  readonly retired_at: string;
  readonly already_retired: boolean;
  /** Whether targets or jobs ended with the agent. */
  readonly cascade: boolean;
  readonly counts: DependencyCounts;
}

export type RetirementOutcome =
  | { readonly kind: "retired"; readonly retirement: Retirement }
  | { readonly kind: "before" }
  | { readonly kind: "blocked"; readonly counts: DependencyCounts };

/** Maximum number of an agent's jobs that end in its transaction; further jobs end before that. */
const JOBS_AT_ONCE = 80;

/**
 * Retires an agent for good: each of its routes is a 410 from then on. Refused while it has targets, certificates or
 * open jobs, unless `force`: then its targets retire and its jobs are cancelled in the same transaction. 404 for an
 * absent agent.
 */
export function retireAgent(
  ctx: Context,
  id: string,
  { force, reason }: { readonly force: boolean; readonly reason: string | null },
): Promise<RetirementOutcome> {
  return repeatedly(async () => {
    const agent = await findAgent(ctx, id);
    if (!agent) throw notFound("agent", id);
    if (agent.retired_at !== null) return { kind: "before" };
    const [{ targets, active_certificates }, jobs] = await Promise.all([
      dependenciesOf(ctx, id),
      openJobsOfAgent(ctx, id),
    ]);
    const counts = { active_targets: targets.length, active_certificates, pending_jobs: jobs.length };
    const cascade = targets.length + active_certificates + jobs.length > 0;
    if (cascade && !force) return { kind: "blocked", counts };
    for (let at = JOBS_AT_ONCE; at < jobs.length; at += JOBS_AT_ONCE)
      await commit(ctx, await cancelled(ctx, agent, jobs.slice(at, at + JOBS_AT_ONCE)));
    const retired_at = timestamp(ctx);
    await commit(ctx, [
      ...retireStatements(ctx, agent, targets, { retired_at, retired_reason: reason }),
      ...(await cancelled(ctx, agent, jobs.slice(0, JOBS_AT_ONCE))),
      guard(hasNoOpenJobs(id)),
      ctx.audit("agent.retire", id, { name: agent.name, reason, force, ...counts }),
    ]);
    forgetActors();
    return { kind: "retired", retirement: { retired_at, already_retired: false, cascade, counts } };
  });
}

function cancelled(ctx: Context, agent: Agent, jobs: readonly Job[]): Promise<Statement[]> {
  return endStatements(ctx, jobs, "Cancelled", `agent ${agent.id} was retired`);
}
