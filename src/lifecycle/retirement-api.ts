import { z } from "@hono/zod-openapi";
import { invalid } from "../platform/errors.ts";
import { noContent, ok, type Reply, type Route, route } from "../platform/route.ts";
import { type DependencyCounts, retireAgent } from "./retirement.ts";

const counts = z
  .object({
    active_targets: z.number().int(),
    active_certificates: z.number().int(),
    pending_jobs: z.number().int(),
  })
  .openapi("AgentDependencyCounts");

const flag = z
  .enum(["true", "false", "1", "0"])
  .optional()
  .openapi({ type: "boolean", default: false, description: "Retire its targets and cancel its jobs along with it" });

export const retirementRoutes: Route[] = [
  route({
    operationId: "retireAgent",
    method: "delete",
    path: "/api/v1/agents/{id}",
    whenFull: "served",
    access: "agent.retire",
    tag: "Agents",
    summary: "Retire an agent for good: every route of it is a 410 from then on",
    description:
      "Refused while the agent has targets, certificates or open jobs, unless `force` with a `reason`: then its targets retire " +
      "with it and its open jobs are cancelled, all at once.",
    params: z.object({ id: z.string() }),
    query: z.object({
      force: flag,
      reason: z
        .string()
        .trim()
        .max(1000)
        .regex(/^[^\p{Cc}]*$/u, "must not have control characters")
        .optional(),
    }),
    answers: {
      200: {
        description: "Retired now",
        schema: z
          .object({
            retired_at: z.string().openapi({ format: "date-time" }),
            already_retired: z.boolean(),
            cascade: z.boolean(),
            counts,
          })
          .openapi("RetireAgentResponse"),
      },
      204: { description: "It was retired before; nothing changed" },
      409: {
        description: "Something still hangs on it",
        schema: z
          .object({ error: z.string(), message: z.string(), request_id: z.string(), counts })
          .openapi("BlockedByDependenciesResponse"),
      },
    },
    errors: [400, 405],
    handler: async (ctx, { params, query }) => {
      const force = query.force === "true" || query.force === "1";
      const reason = query.reason || null;
      if (force && reason === null) throw invalid("reason", "force needs a reason, which the record keeps");
      const outcome = await retireAgent(ctx, params.id, { force, reason });
      if (outcome.kind === "before") return noContent();
      if (outcome.kind === "retired") return ok(outcome.retirement);
      return blocked(ctx.requestId, params.id, outcome.counts);
    },
  }),
];

function blocked(request_id: string, id: string, of: DependencyCounts): Reply {
  const { active_targets, active_certificates, pending_jobs } = of;
  const message =
    `agent ${JSON.stringify(id)} still has ${active_targets} active targets, ${active_certificates} certificates ` +
    `and ${pending_jobs} open jobs: move them, or retire it with force=true and a reason`;
  return { status: 409, body: { error: "blocked_by_dependencies", message, request_id, counts: of } };
}
