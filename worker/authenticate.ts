import { enrollingActor, isEnrolmentToken } from "../src/fleet/credentials.ts";
import { demoActor } from "../src/identity/demo.ts";
import type { LookupContext } from "../src/identity/grants.ts";
import { actorOfKey } from "../src/identity/keys.ts";
import { authenticateSession } from "../src/identity/sessions/authenticate.ts";
import { globalOnly, holds, holdsSomewhere, lacks, mustHold } from "../src/platform/access.ts";
import { type Actor, ANONYMOUS_ACTOR, type Caller, type Context } from "../src/platform/context.ts";
import { forbidden, gone, unauthorized } from "../src/platform/errors.ts";
import type { Route } from "../src/platform/route.ts";
import { limitActor } from "./middleware/limits.ts";

export interface Authenticated {
  readonly actor: Actor;
  readonly caller: Caller;
  /** Set-Cookie values to send along with whatever is answered. */
  readonly cookies: readonly string[];
  /** Of a session: goes out with each answer, in the header in which it has to come back. */
  readonly csrf_token?: string;
}

/**
 * Who a request is of. Throws 401 without a valid credential on a route that needs one, 403 when it is a session's and lacks
 * its CSRF token, or the demo mode's and comes from elsewhere, and 429 when its actor asks too much.
 */
export async function authenticate(
  ctx: LookupContext,
  caller: Caller,
  request: Request,
  { access }: Pick<Route, "access">,
): Promise<Authenticated> {
  if (typeof access === "object" && "public" in access) return { actor: ANONYMOUS_ACTOR, caller, cookies: [] };
  const who = await identify(ctx, caller, request);
  await limitActor(ctx, who.actor);
  return who;
}

async function identify(ctx: LookupContext, caller: Caller, request: Request): Promise<Authenticated> {
  const header = request.headers.get("Authorization");
  if (header === null) {
    if (ctx.settings.auth.type === "none") return { actor: demoActor(ctx, request), caller, cookies: [] };
    const session = await authenticateSession(ctx, request);
    if (!session) throw unauthorized();
    const { session_id, ...who } = session;
    return { ...who, caller: { ...caller, session_id } };
  }
  const token = /^Bearer +(\S+) *$/i.exec(header)?.[1];
  if (token === undefined)
    throw unauthorized("the Authorization header must be: Bearer <API key>", "credential_malformed");
  if (isEnrolmentToken(token)) return { actor: await enrollingActor(ctx, caller, token), caller, cookies: [] };
  const actor = await actorOfKey(ctx, token);
  if (!actor) throw unauthorized("the API key is not valid: unknown, expired or revoked", "api_key_invalid");
  return { actor, caller, cookies: [] };
}

/**
 * Whether the actor may call the route with these path parameters. Throws 403 without the permission, in its scope where the
 * route knows scopes, and for an agent's key on a route that is not made for agents: cert.read does not open the whole
 * inventory to it (invariant 7). An agent's bootstrap credential opens the enrolment alone.
 */
export async function authorize(
  ctx: Context,
  { access, scope, forAgents, forEnrolment }: Pick<Route, "access" | "scope" | "forAgents" | "forEnrolment">,
  params: Readonly<Record<string, string>>,
): Promise<void> {
  const { actor } = ctx;
  if (actor.enrols_by !== undefined) {
    if (forEnrolment) return;
    throw forbidden("an agent's bootstrap credential opens POST /api/v1/agents only", "for_enrolment_only");
  }
  if (actor.retired_at !== undefined)
    throw gone("agent_retired", `agent ${JSON.stringify(actor.id)} was retired at ${actor.retired_at}: stop`);
  if (typeof access !== "string") return;
  if (actor.type === "Agent" && !forAgents)
    throw forbidden("an agent's key reaches that agent's own routes only", "not_for_agents");
  if (holds(actor, access)) return;
  if (!holdsSomewhere(actor, access)) throw lacks(access);
  if (scope === null) throw globalOnly(access);
  if (scope !== "handler") mustHold(actor, access, await scope(ctx, params));
}
