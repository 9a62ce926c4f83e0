import { z } from "@hono/zod-openapi";
import { type Context, timestamp } from "../platform/context.ts";
import { guard, type Statement } from "../platform/database.ts";
import { ChangedMeanwhile, conflict, invalid, notFound } from "../platform/errors.ts";
import { type Change, type Prepared, resource } from "../platform/resource.ts";
import { ok, type Route, route } from "../platform/route.ts";
import { nameSchema } from "../platform/rows.ts";
import { utf8 } from "../platform/text.ts";
import { findAgent, isAtWork, statusOf } from "./agents.ts";
import { targets as table } from "./table.ts";
import { readConfig, TARGET_TYPE_NAMES } from "./target-config.ts";

type Target = typeof table.$inferSelect;

declare module "../platform/context.ts" {
  interface Wiring {
    /** Statements that must run before a target's row is deleted. */
    targetDeleted(ctx: Context, id: string): Statement[];
  }
}

const config = z.record(z.string(), z.unknown());

const answer = z
  .object({
    id: z.string(),
    name: z.string(),
    type: z.enum(TARGET_TYPE_NAMES),
    agent_id: z.string(),
    config,
    enabled: z.boolean(),
    retired_at: z.string().openapi({ format: "date-time" }).nullable(),
    retired_reason: z.string().nullable(),
    created_at: z.string().openapi({ format: "date-time" }),
    updated_at: z.string().openapi({ format: "date-time" }),
  })
  .openapi("DeploymentTarget");

/** Places where agents deploy certificates. Credentials in a configuration are sealed and never shown again. */
const targets = resource({
  name: "Target",
  idPrefix: "tgt-",
  table,
  answer,
  create: z.object({
    name: nameSchema,
    type: z.enum(TARGET_TYPE_NAMES),
    agent_id: z.string(),
    config: config.default({}),
    enabled: z.boolean().default(true),
  }),
  sentOnUpdate: ["name", "type", "agent_id"],
  filters: ["agent_id", "type"],
  prepare,
  show: ({ sealed_secrets: _, ...shown }) => shown,
});

/** The agent must exist and be active. Secrets are sealed and do not carry over to another type or agent. */
async function prepare(ctx: Context, { row, before }: Change<Target>): Promise<Prepared<Target>> {
  if (row === null) return { statements: ctx.wiring.targetDeleted(ctx, before.id) };
  if (before && before.retired_at !== null)
    throw conflict("target_retired", `target ${JSON.stringify(row.id)} retired with its agent: make a new one`);
  if (row.agent_id !== before?.agent_id) {
    const agent = await findAgent(ctx, row.agent_id);
    if (agent && agent.retired_at !== null)
      throw invalid("agent_id", `agent ${JSON.stringify(row.agent_id)} is retired`);
  }
  const sameHolder = before !== null && before.type === row.type && before.agent_id === row.agent_id;
  const stored = sameHolder ? await openSecrets(ctx, before) : {};
  const { shown, secrets } = readConfig(row.type, row.config, stored);
  return {
    row: { ...row, config: shown, sealed_secrets: await sealSecrets(ctx, row.id, secrets) },
    statements: [
      guard(
        isAtWork(row.agent_id),
        () => new ChangedMeanwhile(`agent ${JSON.stringify(row.agent_id)} was changed by another request: repeat`),
      ),
    ],
  };
}

async function sealSecrets(ctx: Context, id: string, secrets: Record<string, string>): Promise<string | null> {
  if (Object.keys(secrets).length === 0) return null;
  await ctx.sealer.register(ctx.db, ctx.clock.now());
  return ctx.sealer.seal(utf8(JSON.stringify(secrets)), `target|${id}`);
}

async function openSecrets(ctx: Context, row: Target): Promise<Record<string, string>> {
  if (row.sealed_secrets === null) return {};
  const opened = await ctx.sealer.open(row.sealed_secrets, `target|${row.id}`);
  return JSON.parse(new TextDecoder().decode(opened));
}

const testTarget = route({
  operationId: "testTargetConnection",
  method: "post",
  path: "/api/v1/targets/{id}/test",
  access: "target.edit",
  tag: "Targets",
  summary: "Whether the target's agent could do work now",
  description: "Looks at the agent: registered, not retired, heard from in the last five minutes. Connects to nothing.",
  params: z.object({ id: z.string() }),
  answers: {
    200: {
      description: "`status` is `success` or `failed`; `message` says why",
      schema: z.object({ status: z.string(), message: z.string() }),
    },
  },
  errors: [400],
  handler: async (ctx, { params }) => {
    const target = await targets.find(ctx, params.id);
    if (!target) throw notFound("target", params.id);
    return ok(await reachability(ctx, target));
  },
});

async function reachability(ctx: Context, target: Target): Promise<{ status: "success" | "failed"; message: string }> {
  const failed = (message: string) => ({ status: "failed" as const, message });
  const agent = await findAgent(ctx, target.agent_id);
  if (!agent) return failed(`agent ${JSON.stringify(target.agent_id)} does not exist`);
  if (agent.retired_at !== null) return failed(`agent ${JSON.stringify(agent.name)} is retired`);
  if (!target.enabled) return failed("the target is disabled");
  if (agent.last_heartbeat_at === null) return failed(`agent ${JSON.stringify(agent.name)} was never heard from`);
  if (statusOf(agent, timestamp(ctx)) !== "Online")
    return failed(`agent ${JSON.stringify(agent.name)} was last heard from at ${agent.last_heartbeat_at}`);
  return {
    status: "success",
    message: `agent ${JSON.stringify(agent.name)} is online (last heard from at ${agent.last_heartbeat_at}); the target itself is not contacted`,
  };
}

export const targetRoutes: Route[] = [...targets.routes, testTarget];
