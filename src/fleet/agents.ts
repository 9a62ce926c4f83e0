import { and, eq, isNotNull, isNull, type SQL, sql } from "drizzle-orm";
import type { SQLiteColumn } from "drizzle-orm/sqlite-core";
import { grantStatement } from "../identity/grants.ts";
import { mintKey } from "../identity/keys.ts";
import { isActor, isReservedName, OTHER_THAN_AGENTS } from "../identity/names.ts";
import { commit } from "../platform/commit.ts";
import { type Context, timestamp } from "../platform/context.ts";
import { down, up } from "../platform/cursor.ts";
import { guard, rowExists, runBatch, UniqueViolation } from "../platform/database.ts";
import { conflict, forbidden, gone, invalid, notFound } from "../platform/errors.ts";
import type { Page, PageRequest } from "../platform/paging.ts";
import { freeId, listPage, nextUpdatedAt } from "../platform/rows.ts";
import { useStatements } from "./credentials.ts";
import { AGENT_STATUSES, type AgentStatus, agents } from "./table.ts";

export { AGENT_STATUSES };
export type Agent = typeof agents.$inferSelect;

/** An agent without a heartbeat for this long is offline: five heartbeats of a minute. */
const ONLINE_MS = 5 * 60_000;

export interface AgentFacts {
  readonly hostname?: string | undefined;
  readonly os?: string | undefined;
  readonly architecture?: string | undefined;
  readonly ip_address?: string | undefined;
  readonly version?: string | undefined;
}

/** The answer of the registration; the only one with the key. */
export type RegisteredAgent = Omit<Agent, "updated_at"> & { readonly status: AgentStatus; readonly api_key: string };

/** Online while the last heartbeat is younger than five minutes. */
export function statusOf(agent: Pick<Agent, "last_heartbeat_at" | "retired_at">, now: string): AgentStatus {
  if (agent.retired_at !== null || agent.last_heartbeat_at === null) return "Offline";
  return Date.parse(now) - Date.parse(agent.last_heartbeat_at) < ONLINE_MS ? "Online" : "Offline";
}

export async function findAgent(ctx: Context, id: string): Promise<Agent | null> {
  const [row] = await agentQuery(ctx, id);
  return row ?? null;
}

export function agentQuery(ctx: Context, id: string) {
  return ctx.db.select().from(agents).where(eq(agents.id, id));
}

/** Retired agents, most recently retired first. */
export function listRetiredAgents(ctx: Context, page: PageRequest): Promise<Page<Agent>> {
  return listPage(ctx, agents, page, {
    where: isNotNull(agents.retired_at),
    order: [down(agents.retired_at), up(agents.id)],
  });
}

/** Agents that are not retired. */
export function listAgents(ctx: Context, page: PageRequest): Promise<Page<Agent>> {
  return listPage(ctx, agents, page, {
    where: isNull(agents.retired_at),
    order: [up(agents.registered_at), up(agents.id)],
  });
}

/**
 * A new agent with its own key, which only this answer shows. Row, key, role, audit event and, when the agent enrols
 * itself, the use of its bootstrap credential are one transaction. 409 when the name or id is taken; 410 when the
 * credential is used up.
 */
export async function registerAgent(
  ctx: Context,
  body: AgentFacts & { id?: string | undefined; name: string; hostname: string },
): Promise<RegisteredAgent> {
  if (body.id !== undefined && isReservedName(body.id))
    throw invalid("id", `an agent cannot be called ${JSON.stringify(body.id)}`);
  const credential_id = ctx.actor.enrols_by ?? null;
  const row = await newAgent(ctx, body, credential_id);
  const { id } = row;
  const key = await mintKey(ctx, {
    actor_id: id,
    actor_type: "Agent",
    name: `agent ${body.name}`,
    // The agent owns its key even if a person registered it: a fleet must not stop when that person leaves.
    owner: { type: "Agent", id },
  });
  const { updated_at: _, ...facts } = row;
  const shown = { ...facts, status: statusOf(row, row.registered_at), api_key: key.value };
  const statements = [
    guard(sql`not ${isActor(id, OTHER_THAN_AGENTS)}`, () =>
      conflict("already_exists", `id: ${JSON.stringify(id)} is the name of an API key or user`),
    ),
    ...(credential_id === null ? [] : useStatements(ctx, credential_id)),
    ctx.db.insert(agents).values(row),
    ...key.statements,
    grantStatement(ctx, { id, type: "Agent" }, { role_id: "r-agent" }),
    ctx.audit(credential_id === null ? "agent.register" : "agent.enrol", id, {
      name: body.name,
      hostname: body.hostname,
      api_key_id: key.id,
      ...(credential_id === null ? {} : { credential_id, address: ctx.caller.address }),
    }),
  ];
  try {
    await commit(ctx, statements, { answer: { status: 201, body: shown } });
  } catch (error) {
    if (!(error instanceof UniqueViolation)) throw error;
    const field = error.columns.includes("agents.name") ? "name" : "id";
    throw conflict("already_exists", `${field}: an agent with ${field} ${JSON.stringify(row[field])} exists already`);
  }
  return shown;
}

async function newAgent(
  ctx: Context,
  body: AgentFacts & { id?: string | undefined; name: string; hostname: string },
  credential_id: string | null,
): Promise<Agent> {
  const now = timestamp(ctx);
  const id = body.id ?? (await freeId(ctx, agents, "agent-", body.name));
  return {
    id,
    name: body.name,
    hostname: body.hostname,
    os: body.os ?? "",
    architecture: body.architecture ?? "",
    ip_address: body.ip_address ?? "",
    version: body.version ?? "",
    last_heartbeat_at: null,
    registered_at: now,
    credential_id,
    updated_at: now,
    retired_at: null,
    retired_reason: null,
  };
}

/**
 * The agent that a route names. An agent's key reaches only its own id: 403 for any other id, existing or not. 404 for
 * an absent agent, 410 for a retired one.
 */
export async function agentAtWork(ctx: Context, id: string): Promise<Agent> {
  mustBeOwn(ctx, id);
  return checkAtWork(id, (await agentQuery(ctx, id))[0]);
}

/** 403 for an agent's key on the route of another id. */
export function mustBeOwn(ctx: Context, id: string): void {
  if (ctx.actor.type === "Agent" && ctx.actor.id !== id)
    throw forbidden("an agent's key reaches that agent's own routes only", "not_your_agent");
}

/** 404 for an absent agent, 410 for a retired one. */
export function checkAtWork(id: string, agent: Agent | undefined): Agent {
  if (!agent) throw notFound("agent", id);
  if (agent.retired_at !== null)
    throw gone("agent_retired", `agent ${JSON.stringify(id)} was retired at ${agent.retired_at}: stop`);
  return agent;
}

/** Records a heartbeat. Only changed facts are an audit event. */
export async function heartbeat(ctx: Context, agent: Agent, facts: AgentFacts): Promise<void> {
  const told = Object.entries(facts).filter(([, value]) => value !== undefined && value !== "");
  const changed = told.filter(([name, value]) => agent[name as keyof Agent] !== value).map(([name]) => name);
  const update = ctx.db
    .update(agents)
    .set({ ...Object.fromEntries(told), last_heartbeat_at: timestamp(ctx), updated_at: nextUpdatedAt(ctx, agent) })
    .where(and(eq(agents.id, agent.id), isNull(agents.retired_at)));
  if (changed.length === 0) {
    await update;
    return;
  }
  await runBatch(ctx.db, [update, ctx.audit("agent.update", agent.id, { fields: changed })]);
}

/** Time of the agent's retirement; null for an active or absent agent. A scalar subquery. */
export function retiredAt(id: string | SQLiteColumn): SQL {
  return sql`(select ${agents.retired_at} from ${agents} where ${agents.id} = ${id})`;
}

/** Condition: the agent exists and is not retired. */
export function isAtWork(id: string): SQL {
  return rowExists(agents, and(eq(agents.id, id), isNull(agents.retired_at)));
}
