import { bootstrapCredential } from "../src/fleet/credentials.ts";
import { demoActor } from "../src/identity/demo.ts";
import { actorOfKey } from "../src/identity/keys.ts";
import { authenticateSession } from "../src/identity/sessions/authenticate.ts";
import { may, mustHold } from "../src/platform/access.ts";
import { type Actor, ANONYMOUS_ACTOR, type Caller, type Context, type LookupContext } from "../src/platform/context.ts";
import { bearerToken, type Credential, type Shown } from "../src/platform/credential.ts";
import { type AppError, forbidden, gone, unauthorized } from "../src/platform/errors.ts";
import type { Route } from "../src/platform/route.ts";
import { limitActor } from "./middleware/limits.ts";

export interface Authenticated {
  readonly actor: Actor;
  readonly caller: Caller;
  /** Set-Cookie values to send with any answer. */
  readonly cookies: readonly string[];
  /** The session's CSRF token, sent with every answer in the header that the client must return it in. */
  readonly csrf_token?: string;
  /** The credential, which the route must declare; absent for an API key, a session and anonymous requests. */
  readonly by?: Credential;
}

/**
 * Credentials sent like API keys. Recognised on every route, so that other routes can refuse them with a specific
 * error.
 */
const LIKE_API_KEYS: readonly Credential[] = [bootstrapCredential];

/**
 * Authenticates a request. Throws 401 without a valid credential on a route that needs one; 403 for a session without
 * its CSRF token and for a demo mode request from elsewhere; 429 when the actor is over its rate limit.
 */
export async function authenticate(
  ctx: LookupContext,
  shown: Shown,
  { access, credentials }: Pick<Route, "access" | "credentials">,
): Promise<Authenticated> {
  if (typeof access === "object" && "public" in access)
    return { actor: ANONYMOUS_ACTOR, caller: shown.caller, cookies: [] };
  const isProtocol = typeof access === "object" && "protocol" in access;
  const who =
    (await declared(ctx, shown, isProtocol ? credentials : [...credentials, ...LIKE_API_KEYS])) ??
    (isProtocol ? null : await usual(ctx, shown));
  if (who === null) throw nothingShown(credentials);
  await limitActor(ctx, who.actor);
  return who;
}

/** The actor of the first of these credentials that the request carries. */
async function declared(
  ctx: LookupContext,
  shown: Shown,
  credentials: readonly Credential[],
): Promise<Authenticated | null> {
  for (const by of credentials) {
    const found = by.identify(ctx, shown);
    if (found) return { actor: await found, caller: shown.caller, cookies: [], by };
  }
  return null;
}

function nothingShown(credentials: readonly Credential[]): AppError {
  const challenges = credentials.flatMap(({ challenge }) => challenge ?? []);
  const message = `this needs a credential: ${credentials.map(({ title }) => title).join(", or ")}`;
  return unauthorized(message, "unauthorized", challenges.join(", ") || null);
}

/** Authenticates by API key or session, or as the demo actor. */
async function usual(ctx: LookupContext, { request, caller }: Shown): Promise<Authenticated> {
  const header = request.headers.get("Authorization");
  if (header === null) {
    if (ctx.settings.auth.type === "none") return { actor: demoActor(ctx, request), caller, cookies: [] };
    const session = await authenticateSession(ctx, request);
    if (!session) throw unauthorized();
    const { session_id, ...who } = session;
    return { ...who, caller: { ...caller, session_id } };
  }
  const token = bearerToken(request);
  if (token === null) throw unauthorized("the Authorization header must be: Bearer <API key>", "credential_malformed");
  const actor = await actorOfKey(ctx, token);
  if (!actor) throw unauthorized("the API key is not valid: unknown, expired or revoked", "api_key_invalid");
  return { actor, caller, cookies: [] };
}

/**
 * Checks that the actor may call the route with these path parameters. Throws 403 without the permission, in the
 * object's scope if the route has a scope rule, and for an agent's key on a route not meant for agents: cert.read must
 * not open the whole inventory to an agent (invariant 7). A declared credential `by` needs no permission and opens no
 * other route.
 */
export async function authorize(
  ctx: Context,
  { access, scope, forAgents, credentials }: Pick<Route, "access" | "scope" | "forAgents" | "credentials">,
  params: Readonly<Record<string, string>>,
  by?: Credential,
): Promise<void> {
  const { actor } = ctx;
  if (by) {
    if (credentials.includes(by)) return;
    throw by.elsewhere?.() ?? forbidden(`${by.title} does not open this route`);
  }
  if (actor.retired_at !== undefined)
    throw gone("agent_retired", `agent ${JSON.stringify(actor.id)} was retired at ${actor.retired_at}: stop`);
  if (typeof access !== "string") return;
  if (actor.type === "Agent" && !forAgents)
    throw forbidden("an agent's key reaches that agent's own routes only", "not_for_agents");
  mustHold(actor, access, scope === null ? "everywhere" : "somewhere");
  if (typeof scope === "function" && !may(actor, access, "everywhere"))
    mustHold(actor, access, await scope(ctx, params));
}
