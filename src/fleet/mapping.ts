import { type SQL, sql } from "drizzle-orm";
import type { Context } from "../platform/context.ts";
import { agents, targets } from "./table.ts";

export interface MappedAgent {
  readonly id: string;
  readonly retired_at: string | null;
}

/** The agents of a certificate: those of its mapped targets, each once. */
export function agentsOfCertificate(ctx: Context, certificateId: string): Promise<MappedAgent[]> {
  return ctx.db.all<MappedAgent>(sql`
    select distinct a.id, a.retired_at from certificate_targets m
    join ${targets} t on t.id = m.target_id join ${agents} a on a.id = t.agent_id
    where m.certificate_id = ${certificateId} order by a.id`);
}

/** Whether one of the certificate's targets is this agent's. */
export async function isMapped(ctx: Context, certificateId: string, agentId: string): Promise<boolean> {
  return (await agentsOfCertificate(ctx, certificateId)).some((agent) => agent.id === agentId);
}

/** Condition: an agent at work still has a target of the certificate. Both are expressions of the outer query. */
export function reaches(agentId: SQL, certificateId: SQL): SQL {
  return sql`exists (select 1 from certificate_targets m
    join ${targets} t on t.id = m.target_id join ${agents} a on a.id = t.agent_id
    where m.certificate_id = ${certificateId} and a.id = ${agentId} and a.retired_at is null)`;
}
