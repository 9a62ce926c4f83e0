import { actorOfKey } from "../src/identity/keys.ts";
import { holds } from "../src/identity/permissions.ts";
import { type Actor, ANONYMOUS_ACTOR, type Context } from "../src/platform/context.ts";
import { forbidden, unauthorized } from "../src/platform/errors.ts";
import type { Route } from "../src/platform/route.ts";

/**
 * The actor of a request to a route. Throws 401 without a valid credential, 403 without the permission, and for an agent's key
 * on a route that is not made for agents: cert.read does not open the whole inventory to it (invariant 7).
 */
export async function authenticate(
  ctx: Context,
  request: Request,
  { access, forAgents }: Pick<Route, "access" | "forAgents">,
): Promise<Actor> {
  if (typeof access === "object" && "public" in access) return ANONYMOUS_ACTOR;
  const header = request.headers.get("Authorization");
  if (header === null) throw unauthorized();
  const token = /^Bearer +(\S+) *$/i.exec(header)?.[1];
  if (token === undefined) throw unauthorized("the Authorization header must be: Bearer <API key>");
  const actor = await actorOfKey(ctx, token);
  if (!actor) throw unauthorized("the API key is not valid: unknown, expired or revoked");
  if (typeof access === "string" && !holds(actor, access)) throw forbidden(`this needs the permission ${access}`);
  if (typeof access === "string" && actor.type === "Agent" && !forAgents)
    throw forbidden("an agent's key reaches that agent's own routes only", "not_for_agents");
  return actor;
}
