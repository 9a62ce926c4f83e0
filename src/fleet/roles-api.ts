import { grantRoutes } from "../identity/grant-routes.ts";
import { gone, notFound } from "../platform/errors.ts";
import { findAgent } from "./agents.ts";

/** Permissions of an agent's key beyond an agent's own work. The key still reaches only that agent's routes. */
export const agentRoleRoutes = grantRoutes({
  path: "/api/v1/agents/{id}",
  tag: "Agents",
  whose: "an agent",
  assign: "assignAgentRole",
  revoke: "revokeAgentRole",
  list: { operationId: "listAgentRoles", access: "agent.read" },
  errors: [410],
  actor: async (ctx, id, gaining) => {
    const agent = await findAgent(ctx, id);
    if (!agent) throw notFound("agent", id);
    if (gaining && agent.retired_at !== null) throw gone("agent_retired", `agent ${JSON.stringify(id)} is retired`);
    return { id: agent.id, type: "Agent" };
  },
});
