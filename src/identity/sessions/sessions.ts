import { and, eq, lte, ne, type SQL, sql } from "drizzle-orm";
import { commit } from "../../platform/commit.ts";
import { type AuditEntry, type Context, timestamp } from "../../platform/context.ts";
import type { Statement } from "../../platform/database.ts";
import { randomId } from "../../platform/ids.ts";
import type { ActorRef } from "../grants.ts";
import { oidcSessions } from "../table.ts";
import { csrfCookie, csrfToken, sessionCookie, sessionCookieValue } from "./cookie.ts";
import { signingKey } from "./signing-keys.ts";
import { sessionStore, shardOf } from "./store.ts";

/**
 * Opening and ending sessions. The audit event of an end is written before the actor's object is told: whatever dies in
 * between, no session is revoked without a trace, and the event's id is the session's own, so that a repetition is one event.
 * (A session that is opened while all of its actor's end goes with them, without an event: nobody has used it.)
 */

export interface OpenedSession {
  readonly session_id: string;
  /** Unix milliseconds. */
  readonly absolute_expires_at: number;
  /** Set-Cookie values: the session and its CSRF token. */
  readonly cookies: readonly string[];
}

/** Opens a session for an actor who has just proven who it is; always a new id (no fixation). */
export async function openSession(ctx: Context, actor: ActorRef): Promise<OpenedSession> {
  const { sessionIdleMs: idle_ms, sessionAbsoluteMs: absolute_ms } = ctx.settings.auth;
  const [shard, key] = await Promise.all([shardOf(actor), signingKey(ctx)]);
  const session_id = randomId(ctx.random, `ses-${shard}-`);
  const now = ctx.clock.now().getTime();
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
  const absolute_expires_at = now + absolute_ms;
  const [value, token] = await Promise.all([
    sessionCookieValue(key, session_id),
    csrfToken(key, session_id, csrf_generation),
  ]);
  const cookies = [sessionCookie(ctx, value, absolute_expires_at), csrfCookie(ctx, token, absolute_expires_at)];
  return { session_id, absolute_expires_at, cookies };
}

/** Ends all sessions of an actor, or all but one; how many held. */
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
 * Ends one session; false when it did not hold, and then nothing is recorded. `by` is who ended it where the context does not
 * know yet; `details` go into the audit event.
 */
export async function endSession(
  ctx: Context,
  session: { readonly id: string; readonly actor: ActorRef },
  details: AuditEntry["details"] = {},
  by?: ActorRef,
): Promise<boolean> {
  const { id, actor } = session;
  const store = sessionStore(ctx, await shardOf(actor));
  const now = ctx.clock.now().getTime();
  if ((await store.find(id, now)) === null) {
    await commit(ctx, [forgetSignIns(ctx, eq(oidcSessions.session_id, id))]);
    return false;
  }
  await commit(ctx, endStatements(ctx, id, actor, details, by));
  return store.revoke(id, now);
}

/** Gives all of an actor's sessions new CSRF tokens: its rights have changed. Each session gets its own with its next answer. */
export async function rotateCsrfOf(ctx: Context, actor: ActorRef): Promise<void> {
  await sessionStore(ctx, await shardOf(actor)).rotateCsrf();
}

/** Sweep: what back-channel logout knows of sessions that have reached their absolute end. */
export async function pruneSignIns(ctx: Context): Promise<null> {
  await ctx.db.delete(oidcSessions).where(lte(oidcSessions.expires_at, timestamp(ctx)));
  return null;
}

function endStatements(
  ctx: Context,
  id: string,
  actor: ActorRef,
  details: AuditEntry["details"],
  by?: ActorRef,
): Statement[] {
  return [audit(ctx, id, actor, details, by), forgetSignIns(ctx, eq(oidcSessions.session_id, id))];
}

function audit(ctx: Context, id: string, actor: ActorRef, details: AuditEntry["details"], by?: ActorRef): Statement {
  return ctx.audit({
    id: `audit-end-${id}`,
    action: "auth.session.revoke",
    resource_type: "session",
    resource_id: id,
    category: "auth",
    details: { actor_id: actor.id, actor_type: actor.type, ...details },
    ...(by ? { actor: by } : {}),
  });
}

function forgetSignIns(ctx: Context, which: SQL | undefined): Statement {
  return ctx.db.delete(oidcSessions).where(which ?? sql`0`);
}

function ofUser(id: string, except: string | null): SQL | undefined {
  return and(eq(oidcSessions.user_id, id), except === null ? undefined : ne(oidcSessions.session_id, except));
}
