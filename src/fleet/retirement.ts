import { and, asc, eq, isNull, type SQL, sql } from "drizzle-orm";
import { countActiveOn } from "../inventory/certificates/targets.ts";
import type { Context } from "../platform/context.ts";
import { guard, noRow, type Statement } from "../platform/database.ts";
import { nextUpdatedAt } from "../platform/rows.ts";
import { type Agent, isAtWork } from "./agents.ts";
import { agents, targets } from "./table.ts";

/** The fleet's part of retiring an agent. The jobs belong to the lifecycle (src/lifecycle/retirement.ts). */

type Target = typeof targets.$inferSelect;

export interface FleetDependencies {
  readonly targets: readonly Target[];
  /** Unarchived certificates mapped to one of the targets. */
  readonly active_certificates: number;
}

/** What depends on an agent now. */
export async function dependenciesOf(ctx: Context, agentId: string): Promise<FleetDependencies> {
  const [active, active_certificates] = await Promise.all([
    ctx.db.select().from(targets).where(activeOf(agentId)).orderBy(asc(targets.id)),
    countActiveOn(ctx, sql`(select ${targets.id} from ${targets} where ${activeOf(agentId)})`),
  ]);
  return { targets: active, active_certificates };
}

function activeOf(agentId: string): SQL | undefined {
  return and(eq(targets.agent_id, agentId), isNull(targets.retired_at));
}

/**
 * Statements that retire an agent and these targets of it. The batch fails (ChangedMeanwhile) if the agent has
 * meanwhile retired or got another target.
 */
export function retireStatements(
  ctx: Context,
  agent: Agent,
  of: readonly Target[],
  retired: { readonly retired_at: string; readonly retired_reason: string | null },
): Statement[] {
  return [
    guard(isAtWork(agent.id)),
    ...of.flatMap((target) => [
      ctx.db
        .update(targets)
        .set({ ...retired, updated_at: nextUpdatedAt(ctx, target) })
        .where(eq(targets.id, target.id)),
      ctx.audit("target.retire", target.id, { agent_id: agent.id, name: target.name }),
    ]),
    guard(noRow(targets, activeOf(agent.id))),
    ctx.db
      .update(agents)
      .set({ ...retired, updated_at: nextUpdatedAt(ctx, agent) })
      .where(eq(agents.id, agent.id)),
  ];
}
