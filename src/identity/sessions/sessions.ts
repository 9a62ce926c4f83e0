import { and, eq, lte, ne, type SQL, sql } from "drizzle-orm";
import { commit } from "../../platform/commit.ts";
import { type AuditDetails, type Context, timestamp } from "../../platform/context.ts";
import type { Statement } from "../../platform/database.ts";
import { randomId } from "../../platform/ids.ts";
import type { ActorRef } from "../grants.ts";
import { oidcSessions } from "../table.ts";
import {
  csrfCookie,
  csrfToken,
  readCookie,
  SESSION_COOKIE,
  sessionCookie,
  sessionCookieValue,
  verifySessionCookie,
} from "./cookie.ts";
import { signingKey } from "./signing-keys.ts";
import { sessionStore, shardOf } from "./store.ts";

/**
 * Opens and ends sessions. The audit event is written before the actor's Durable Object is called, so a crash in
 * between never leaves an unrecorded change. The event's id derives from the session's, so a repetition is recorded
 * once.
 * (A session opened while all of its actor's sessions are being ended ends with them, without an event: it was never
 * used.)
 */

/** A session about to be opened. */
export interface ComingSession {
  readonly session_id: string;
  /** Unix milliseconds. */
  readonly absolute_expires_at: number;
}

export interface Opening {
  /** How the actor signed in, for the audit event. */
  readonly by?: "oidc" | "breakglass";
  /** Statements to commit before the session exists. */
  readonly record?: (session: ComingSession) => Promise<readonly Statement[]>;
}

export interface OpenedSession extends ComingSession {
  /** Set-Cookie values: the session and its CSRF token. */
  readonly cookies: readonly string[];
}

/** Opens a session for an actor that has just signed in. Always uses a new id, against session fixation. */
export async function openSession(ctx: Context, actor: ActorRef, { by, record }: Opening = {}): Promise<OpenedSession> {
  const { sessionIdleMs: idle_ms, sessionAbsoluteMs: absolute_ms } = ctx.settings.auth;
  const [shard, key] = await Promise.all([shardOf(actor), signingKey(ctx)]);
  const session_id = randomId(ctx.random, `ses-${shard}-`);
  const now = ctx.clock.now().getTime();
  const coming: ComingSession = { session_id, absolute_expires_at: now + absolute_ms };
  await commit(ctx, [...((await record?.(coming)) ?? []), opened(ctx, session_id, actor, by)]);
  const { csrf_generation, displaced } = await sessionStore(ctx, shard).open({
    id: session_id,
    actor_id: actor.id,
    actor_type: actor.type,
    ip_address: ctx.caller.address,
    user_agent: ctx.caller.user_agent,
    idle_ms,
    absolute_ms,
    now,
  });
  if (displaced.length > 0) {
    const ends = displaced.flatMap((id) => endStatements(ctx, id, actor, { reason: "too_many_sessions" }, actor));
    await commit(ctx, ends);
  }
  const { absolute_expires_at } = coming;
  const [value, token] = await Promise.all([
    sessionCookieValue(key, session_id),
    csrfToken(key, session_id, csrf_generation),
  ]);
  const cookies = [sessionCookie(ctx, value, absolute_expires_at), csrfCookie(ctx, token, absolute_expires_at)];
  return { ...coming, cookies };
}

/** Ends all of an actor's sessions except `except`. Returns how many were alive. */
export async function endSessionsOf(ctx: Context, actor: ActorRef, except: string | null = null): Promise<number> {
  const store = sessionStore(ctx, await shardOf(actor));
  const now = ctx.clock.now().getTime();
  const ending = (await store.list(now)).filter(({ id }) => id !== except);
  await commit(ctx, [
    ...ending.map(({ id }) => audit(ctx, id, actor, {})),
    ...(actor.type === "User" ? [forgetSignIns(ctx, ofUser(actor.id, except))] : []),
  ]);
  return store.revokeAll(now, except);
}

/**
 * Ends one session. Returns false, and records nothing, if it was not alive. `by` is the actor who ended it, where the
 * context has none yet; `details` go into the audit event.
 */
export async function endSession(
  ctx: Context,
  session: { readonly id: string; readonly actor: ActorRef },
  details: AuditDetails | undefined = {},
  by?: ActorRef,
): Promise<boolean> {
  const { id, actor } = session;
  const store = sessionStore(ctx, await shardOf(actor));
  const now = ctx.clock.now().getTime();
  if ((await store.find(id, now)) === null) {
    await commit(ctx, [forgetSignIns(ctx, eq(oidcSessions.session_id, id))]);
    // The session may still be opening: either its sign-in finds the record gone, or the session exists by now.
    if ((await store.find(id, now)) === null) return false;
  }
  await commit(ctx, endStatements(ctx, id, actor, details, by));
  return store.revoke(id, now);
}

/**
 * Ends the session of this request's cookie, because a new one has just been opened in the same browser and replaces
 * the cookie. `by` is the actor who signed in.
 */
export async function endReplaced(ctx: Context, request: Request, by: ActorRef): Promise<void> {
  const cookie = readCookie(request, SESSION_COOKIE);
  const signed = cookie === null ? null : await verifySessionCookie(ctx, cookie);
  if (!signed) return;
  const now = ctx.clock.now().getTime();
  const session = await sessionStore(ctx, signed.shard).find(signed.session_id, now);
  if (!session) return;
  const actor = { id: session.actor_id, type: session.actor_type };
  await endSession(ctx, { id: session.id, actor }, { reason: "replaced" }, by);
}

/**
 * Gives all of an actor's sessions new CSRF tokens after a change of rights. Each session receives its token with its
 * next answer.
 */
export async function rotateCsrfOf(ctx: Context, actor: ActorRef): Promise<void> {
  await sessionStore(ctx, await shardOf(actor)).rotateCsrf();
}

/** Sweep: deletes the back-channel logout data of sessions past their absolute end. */
export async function pruneSignIns(ctx: Context): Promise<null> {
  await ctx.db.delete(oidcSessions).where(lte(oidcSessions.expires_at, timestamp(ctx)));
  return null;
}

function opened(ctx: Context, id: string, actor: ActorRef, by: Opening["by"]): Statement {
  const { address, user_agent } = ctx.caller;
  return ctx.audit(
    "auth.session.open",
    id,
    { actor_id: actor.id, actor_type: actor.type, address, user_agent, ...(by ? { by } : {}) },
    { id: `audit-open-${id}`, actor },
  );
}

function endStatements(
  ctx: Context,
  id: string,
  actor: ActorRef,
  details: AuditDetails | undefined,
  by?: ActorRef,
): Statement[] {
  return [audit(ctx, id, actor, details, by), forgetSignIns(ctx, eq(oidcSessions.session_id, id))];
}

function audit(ctx: Context, id: string, actor: ActorRef, details: AuditDetails | undefined, by?: ActorRef): Statement {
  return ctx.audit(
    "auth.session.revoke",
    id,
    { actor_id: actor.id, actor_type: actor.type, ...details },
    { id: `audit-end-${id}`, ...(by ? { actor: by } : {}) },
  );
}

function forgetSignIns(ctx: Context, which: SQL | undefined): Statement {
  return ctx.db.delete(oidcSessions).where(which ?? sql`0`);
}

function ofUser(id: string, except: string | null): SQL | undefined {
  return and(eq(oidcSessions.user_id, id), except === null ? undefined : ne(oidcSessions.session_id, except));
}
