import { type SQL, sql } from "drizzle-orm";
import { targetsOfCertificate } from "../inventory/certificates/targets.ts";
import type { Context } from "../platform/context.ts";
import { forbidden } from "../platform/errors.ts";
import { agents, targets } from "./table.ts";

export interface MappedAgent {
  readonly id: string;
  readonly retired_at: string | null;
  readonly served: 0 | 1;
}

/**
 * The agents of a certificate's mapped targets, each once. `served`: a condition on an agent's id, evaluated for each
 * row.
 */
export function agentsOfCertificate(
  ctx: Context,
  certificateId: string | SQL,
  served: (agentId: SQL) => SQL = () => sql`0`,
) {
  return ctx.db.all<MappedAgent>(sql`
    select distinct a.id, a.retired_at, ${served(sql`a.id`)} as served
    from ${targets} t join ${agents} a on a.id = t.agent_id
    where t.id in ${targetsOfCertificate(certificateId)} order by a.id`);
}

/** 403 unless this agent is one of the certificate's. */
export function checkMapped(
  certificateId: string,
  { id }: Pick<MappedAgent, "id">,
  mapped: readonly MappedAgent[],
): void {
  if (mapped.some((agent) => agent.id === id)) return;
  throw forbidden(
    `no target of agent ${JSON.stringify(id)} has certificate ${JSON.stringify(certificateId)}`,
    "not_your_certificate",
  );
}

/**
 * Condition: an active agent still has a target of the certificate. Both arguments are expressions of the outer query.
 */
export function reaches(agentId: SQL, certificateId: SQL): SQL {
  return sql`exists (select 1 from ${targets} t join ${agents} a on a.id = t.agent_id
    where t.id in ${targetsOfCertificate(certificateId)} and a.id = ${agentId} and a.retired_at is null)`;
}

/** The ids of an agent's targets, as a subquery. */
export function targetsOfAgent(agentId: string): SQL {
  return sql`(select t.id from ${targets} t where t.agent_id = ${agentId})`;
}
