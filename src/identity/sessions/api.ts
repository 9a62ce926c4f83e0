import { z } from "@hono/zod-openapi";
import { may } from "../../platform/access.ts";
import type { ActorType, Context } from "../../platform/context.ts";
import { forbidden, notFound } from "../../platform/errors.ts";
import { describeError } from "../../platform/log.ts";
import { noContent, ok, type Reply, type Route, route } from "../../platform/route.ts";
import type { ActorRef } from "../grants.ts";
import { endSessionUrl } from "../oidc/logout-url.ts";
import { clearedPending } from "../oidc/pending.ts";
import { actorType } from "../schemas.ts";
import { authenticateSession } from "./authenticate.ts";
import { clearedCookies } from "./cookie.ts";
import { endSession, endSessionsOf } from "./sessions.ts";
import { type LiveSession, SESSION_ID, type SessionRow, sessionStore, shardOf } from "./store.ts";

const time = z.string().openapi({ format: "date-time" });

const authSession = z
  .object({
    id: z.string(),
    actor_id: z.string(),
    actor_type: actorType,
    ip_address: z.string(),
    user_agent: z.string(),
    created_at: time,
    last_seen_at: time,
    idle_expires_at: time,
    absolute_expires_at: time,
    revoked: z.boolean(),
  })
  .openapi("AuthSession", { description: "A session that holds: what was revoked or has expired is not listed." });

function describe(actor: ActorRef, row: SessionRow) {
  const iso = (at: number) => new Date(at).toISOString();
  return {
    id: row.id,
    actor_id: actor.id,
    actor_type: actor.type,
    ip_address: row.ip_address,
    user_agent: row.user_agent,
    created_at: iso(row.created_at),
    last_seen_at: iso(row.last_seen_at),
    idle_expires_at: iso(row.idle_expires_at),
    absolute_expires_at: iso(row.absolute_expires_at),
    revoked: false,
  };
}

/**
 * The actor whose sessions are requested: the caller by default. An id without a type means the caller, if it is the
 * caller's id, or else a user.
 */
function askedFor(
  ctx: Context,
  query: { actor_id?: string | undefined; actor_type?: ActorType | undefined },
): ActorRef {
  const { id, type } = ctx.actor;
  const asked = query.actor_id ?? id;
  return { id: asked, type: query.actor_type ?? (asked === id ? type : "User") };
}

async function list(ctx: Context, of: ActorRef) {
  const own = of.id === ctx.actor.id && of.type === ctx.actor.type;
  if (!own && !may(ctx.actor, "auth.session.list.all", "everywhere"))
    throw forbidden("the sessions of somebody else need the permission auth.session.list.all");
  const rows = await sessionStore(ctx, await shardOf(of)).list(ctx.clock.now().getTime());
  return { sessions: rows.map((row) => describe(of, row)) };
}

/**
 * A session that the caller may revoke. Throws 403 without the right over another actor's session, whether or not it
 * exists (its id reveals the actor), and 404 if it does not exist.
 */
async function revocable(ctx: Context, id: string): Promise<LiveSession> {
  const shard = SESSION_ID.exec(id)?.[1] ?? "";
  if (shard !== (await shardOf(ctx.actor)) && !may(ctx.actor, "auth.session.revoke", "everywhere"))
    throw forbidden("a session that is not your own needs the permission auth.session.revoke");
  const session = await sessionStore(ctx, shard).find(id, ctx.clock.now().getTime());
  if (!session) throw notFound("session", id);
  return session;
}

async function revoke(ctx: Context, id: string): Promise<Reply> {
  const { actor_id, actor_type } = await revocable(ctx, id);
  await endSession(ctx, { id, actor: { id: actor_id, type: actor_type } });
  return id === ctx.caller.session_id ? { ...noContent(), cookies: clearedCookies() } : noContent();
}

/** Ends the session of the cookie, if there is one, and clears the cookies. */
async function logout(ctx: Context, request: Request): Promise<Reply> {
  const cookies = [...clearedCookies(), clearedPending()];
  const session = await authenticateSession(ctx, request);
  if (!session) return { ...noContent(), cookies };
  const { actor, session_id } = session;
  // Read first, because the provider's data goes with the session. A failing provider must not keep anyone signed in
  // here.
  const end_session_url = await endSessionUrl(ctx, session_id).catch((error) => {
    ctx.log.warn("logout.provider_failed", { error: describeError(error) });
    return null;
  });
  await endSession(ctx, { id: session_id, actor }, { reason: "logout" }, actor);
  return { ...(end_session_url === null ? noContent() : ok({ end_session_url })), cookies };
}

export const sessionRoutes: Route[] = [
  route({
    operationId: "listAuthSessions",
    method: "get",
    path: "/api/v1/auth/sessions",
    access: { authenticated: "everybody may see their own; others' need auth.session.list.all" },
    tag: "Auth",
    summary: "Sessions that hold, the newest first",
    description: "One's own, or with `auth.session.list.all` those of `actor_id` (of `actor_type`, a user by default).",
    query: z.object({ actor_id: z.string().min(1).max(255).optional(), actor_type: actorType.optional() }),
    answers: { 200: { description: "The sessions", schema: z.object({ sessions: z.array(authSession) }) } },
    errors: [400],
    handler: async (ctx, { query }) => ok(await list(ctx, askedFor(ctx, query))),
  }),
  route({
    operationId: "revokeAuthSessionsExceptCurrent",
    method: "delete",
    path: "/api/v1/auth/sessions",
    whenFull: "served",
    access: { authenticated: "everybody may end their own sessions" },
    tag: "Auth",
    summary: "Revoke all of one's own sessions but the one that asks",
    description: "Asked with an API key there is no current session: all sessions of the key's actor end.",
    query: z.object({ except: z.literal("current") }),
    answers: {
      200: { description: "How many ended", schema: z.object({ revoked_count: z.number().int() }) },
    },
    errors: [400],
    handler: async (ctx) => ok({ revoked_count: await endSessionsOf(ctx, ctx.actor, ctx.caller.session_id) }),
  }),
  route({
    operationId: "revokeAuthSession",
    method: "delete",
    path: "/api/v1/auth/sessions/{id}",
    whenFull: "served",
    access: { authenticated: "everybody may end their own sessions; others' need auth.session.revoke" },
    tag: "Auth",
    summary: "Revoke a session: its very next request fails",
    params: z.object({ id: z.string().regex(SESSION_ID, "must be the id of a session: ses-...") }),
    answers: { 204: { description: "Revoked" } },
    errors: [400],
    handler: async (ctx, { params }) => revoke(ctx, params.id),
  }),
  route({
    operationId: "postAuthLogout",
    method: "post",
    path: "/auth/logout",
    whenFull: "served",
    access: { public: "a cookie that no longer holds must go away too; one that holds needs its CSRF token" },
    tag: "Auth",
    summary: "Sign out: the session of the cookie ends and the cookies are cleared",
    description:
      "With a session that holds, the header `X-CSRF-Token` is needed. Where the provider has RP-initiated logout, the answer says where the browser should go to end the provider's session as well.",
    answers: {
      200: { description: "Signed out here", schema: z.object({ end_session_url: z.string() }) },
      204: { description: "Signed out" },
    },
    errors: [403],
    handler: async (ctx, { request }) => logout(ctx, request),
  }),
];
