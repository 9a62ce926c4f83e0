import { z } from "@hono/zod-openapi";
import { notFound } from "../platform/errors.ts";
import { pageAnswer, pageOf, pageQuery } from "../platform/paging.ts";
import { created, noContent, ok, type Route, route } from "../platform/route.ts";
import { nameSchema } from "../platform/rows.ts";
import { createCredential, findCredential, listCredentials, revokeCredential, shown } from "./credentials.ts";

const tag = "Agents";
const path = "/api/v1/agent-credentials";
const params = z.object({ id: z.string() });
const time = z.string().openapi({ format: "date-time" });

const answer = z
  .object({
    id: z.string(),
    name: z.string(),
    prefix: z.string(),
    max_uses: z.number().int(),
    uses: z.number().int(),
    expires_at: time,
    revoked_at: time.nullable(),
    last_used_at: time.nullable(),
    created_by: z.string(),
    owner_type: z.string(),
    owner_id: z.string(),
    created_at: time,
  })
  .openapi("AgentCredential");

/**
 * Bootstrap credentials of agents, shown to actors that may register agents. The token is not stored and never shown
 * again.
 */
export const credentialRoutes: Route[] = [
  route({
    operationId: "createAgentCredential",
    method: "post",
    path,
    access: "agent.edit",
    tag,
    summary: "Make a credential by which agents enrol themselves; the answer shows its token once",
    description:
      "Show it as the Bearer token of `POST /api/v1/agents`: each use registers one agent and yields that agent's own key. " +
      "Needs the rights of the role r-agent too: nobody gives what they lack.",
    body: z.strictObject({
      name: nameSchema.max(128),
      max_uses: z.number().int().min(1).max(100_000).default(1),
      expires_at: z.iso.datetime({ offset: true }).optional(),
      ttl_seconds: z
        .number()
        .int()
        .min(1)
        .max(90 * 86_400)
        .optional()
        .openapi({ description: "Instead of expires_at; a day without either" }),
    }),
    bodyLimit: 16_384,
    location: path,
    answers: {
      201: {
        description: "The credential with its token, which is shown here only",
        schema: answer.extend({ token: z.string() }).openapi("NewAgentCredential"),
      },
    },
    errors: [400, 409],
    handler: async (ctx, { body }) => {
      const credential = await createCredential(ctx, body);
      return created(credential);
    },
  }),
  route({
    operationId: "listAgentCredentials",
    method: "get",
    path,
    access: "agent.edit",
    tag,
    summary: "List the credentials by which agents enrol themselves",
    query: pageQuery,
    answers: { 200: { description: "One page", schema: pageOf(answer) } },
    errors: [400],
    handler: async (ctx, { query }) => {
      return ok(pageAnswer(query, await listCredentials(ctx, query), shown));
    },
  }),
  route({
    operationId: "getAgentCredential",
    method: "get",
    path: `${path}/{id}`,
    access: "agent.edit",
    tag,
    summary: "Get a credential by which agents enrol themselves",
    params,
    answers: { 200: { description: "The credential", schema: answer } },
    errors: [400],
    handler: async (ctx, input) => {
      const credential = await findCredential(ctx, input.params.id);
      if (!credential) throw notFound("agent credential", input.params.id);
      return ok(shown(credential));
    },
  }),
  route({
    operationId: "revokeAgentCredential",
    method: "delete",
    path: `${path}/{id}`,
    whenFull: "served",
    access: "agent.edit",
    tag,
    summary: "End a credential at once; the agents that it enrolled go on",
    params,
    answers: { 204: { description: "Revoked, now or before" } },
    errors: [400],
    handler: async (ctx, input) => {
      await revokeCredential(ctx, input.params.id);
      return noContent();
    },
  }),
];
