import { z } from "@hono/zod-openapi";
import { type Context, timestamp } from "../platform/context.ts";
import { invalid, notFound } from "../platform/errors.ts";
import { pageAnswer, pageOf, pageQuery } from "../platform/paging.ts";
import { created, ok, type Route, route } from "../platform/route.ts";
import { etagOf, idSchema, lineSchema, nameSchema } from "../platform/rows.ts";
import {
  AGENT_STATUSES,
  type Agent,
  agentAtWork,
  findAgent,
  heartbeat,
  listAgents,
  listRetiredAgents,
  registerAgent,
  statusOf,
} from "./agents.ts";
import { bootstrapCredential } from "./credentials.ts";
import { credentialRoutes } from "./credentials-api.ts";
import { agentRoleRoutes } from "./roles-api.ts";
import { targetRoutes } from "./targets.ts";

const tag = "Agents";
const time = z.string().openapi({ format: "date-time" });

const agentAnswer = z
  .object({
    id: z.string(),
    name: z.string(),
    hostname: z.string(),
    status: z.enum(AGENT_STATUSES),
    last_heartbeat_at: time.nullable(),
    registered_at: time,
    credential_id: z.string().nullable().openapi({
      description: "The bootstrap credential by which it enrolled itself; null where somebody registered it",
    }),
    os: z.string(),
    architecture: z.string(),
    ip_address: z.string(),
    version: z.string(),
    retired_at: time.nullable(),
    retired_reason: z.string().nullable(),
  })
  .openapi("Agent");

const fact = lineSchema.max(255);
const facts = { os: fact, architecture: fact, ip_address: fact, version: fact };

const registration = z.strictObject({
  id: idSchema.optional(),
  name: nameSchema.max(128),
  hostname: lineSchema.trim().min(1).max(253),
  ...z.object(facts).partial().shape,
  // Server-managed: accepted and ignored.
  status: z.enum(AGENT_STATUSES).nullish(),
  last_heartbeat_at: time.nullish(),
  registered_at: time.nullish(),
  credential_id: z.string().nullish(),
  retired_at: time.nullish(),
  retired_reason: z.string().nullish(),
});

const show = (ctx: Context, { updated_at: _, ...agent }: Agent) => ({
  ...agent,
  status: statusOf(agent, timestamp(ctx)),
});

/** 16 random characters out of 64 cannot be guessed. */
const MIN_ENROLMENT_KEY = 16;

/**
 * A whole fleet may share one bootstrap credential, and bodies can be guessed: only the Idempotency-Key prevents
 * replaying the answer, with an agent's key, to another host. Throws a 400 for a short one.
 */
function mustBeHardToGuess(ctx: Context): void {
  if (ctx.actor.enrols_by === undefined || ctx.idempotency === null) return;
  if (ctx.idempotency.key.length < MIN_ENROLMENT_KEY)
    throw invalid("Idempotency-Key", `must be random, of ${MIN_ENROLMENT_KEY} characters at least, to enrol an agent`);
}

export const fleetRoutes: Route[] = [
  route({
    operationId: "listAgents",
    method: "get",
    path: "/api/v1/agents",
    access: "agent.read",
    tag,
    summary: "List agents; retired ones are not among them",
    query: pageQuery,
    answers: { 200: { description: "One page", schema: pageOf(agentAnswer) } },
    errors: [400],
    handler: async (ctx, { query }) => {
      return ok(pageAnswer(query, await listAgents(ctx, query), (agent) => show(ctx, agent)));
    },
  }),
  route({
    operationId: "registerAgent",
    method: "post",
    path: "/api/v1/agents",
    access: "agent.edit",
    credentials: [bootstrapCredential],
    tag,
    summary: "Register an agent; the answer shows its API key once",
    description:
      "With a bootstrap credential of /api/v1/agent-credentials as the Bearer token an agent registers itself. 410 when that " +
      "has had all its uses. Its Idempotency-Key must then be random, of 16 characters at least.",
    body: registration,
    location: "/api/v1/agents",
    answers: {
      201: {
        description: "The agent with its key, which is shown here only",
        schema: agentAnswer.extend({ api_key: z.string() }).openapi("RegisteredAgent"),
      },
    },
    errors: [400, 409, 410, 429],
    handler: async (ctx, { body }) => {
      mustBeHardToGuess(ctx);
      const agent = await registerAgent(ctx, body);
      return created(agent);
    },
  }),
  // Before the route with an id, which would match "retired".
  route({
    operationId: "listRetiredAgents",
    method: "get",
    path: "/api/v1/agents/retired",
    access: "agent.read",
    tag,
    summary: "List retired agents, who retired last first",
    query: pageQuery,
    answers: { 200: { description: "One page", schema: pageOf(agentAnswer) } },
    errors: [400],
    handler: async (ctx, { query }) => {
      return ok(pageAnswer(query, await listRetiredAgents(ctx, query), (agent) => show(ctx, agent)));
    },
  }),
  route({
    operationId: "getAgent",
    method: "get",
    path: "/api/v1/agents/{id}",
    access: "agent.read",
    tag,
    summary: "Get an agent, also a retired one",
    params: z.object({ id: z.string() }),
    answers: { 200: { description: "The agent", schema: agentAnswer } },
    errors: [400],
    handler: async (ctx, { params }) => {
      const agent = await findAgent(ctx, params.id);
      if (!agent) throw notFound("agent", params.id);
      return ok(show(ctx, agent), { ETag: etagOf(agent) });
    },
  }),
  route({
    operationId: "agentHeartbeat",
    method: "post",
    path: "/api/v1/agents/{id}/heartbeat",
    access: "agent.heartbeat",
    forAgents: true,
    tag,
    summary: "An agent is alive and tells what it is",
    params: z.object({ id: z.string() }),
    body: z.object({ ...facts, hostname: lineSchema.max(253) }).partial(),
    bodyOptional: true,
    bodyLimit: 16_384,
    tolerant: true,
    answers: { 200: { description: "Heard", schema: z.object({ status: z.string() }) } },
    errors: [410],
    handler: async (ctx, { params, body }) => {
      const agent = await agentAtWork(ctx, params.id);
      await heartbeat(ctx, agent, body);
      return ok({ status: "ok" });
    },
  }),
  ...credentialRoutes,
  ...agentRoleRoutes,
  ...targetRoutes,
];
