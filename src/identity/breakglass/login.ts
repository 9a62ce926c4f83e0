import { and, eq, isNull, type SQL, sql } from "drizzle-orm";
import { addressKey } from "../../platform/caller.ts";
import { commit } from "../../platform/commit.ts";
import { type Context, timestamp } from "../../platform/context.ts";
import { guard } from "../../platform/database.ts";
import { type AppError, tooManyRequests, unauthorized } from "../../platform/errors.ts";
import { describeError } from "../../platform/log.ts";
import type { ActorRef } from "../grants.ts";
import { type OnceStore, onceFor } from "../once.ts";
import { endSession, type OpenedSession, openSession } from "../sessions/sessions.ts";
import { breakglassCredentials as credentials, oidcProviders, users } from "../table.ts";
import { type BreakglassEvent, logLoudly, recorded } from "./events.ts";
import { hashPassword, isOutdated, verifyPassword, withSlot } from "./password.ts";

/** Attempts per address, successful or not. */
const PER_MINUTE = 5;
const MINUTE_MS = 60_000;

/** The exact, global attempt counter of one account, kept by one Durable Object. */
export function attemptsAt(ctx: Pick<Context, "bindings">, actorId: string): OnceStore {
  return onceFor(ctx, "breakglass", actorId);
}

/**
 * Signs in with the emergency password, for when the provider is down. An unknown or deactivated user, a disabled
 * provider, a locked account and a wrong password give the same 401 after the same work. Attempts are counted before
 * hashing, so parallel guesses gain nothing over sequential ones. Throws 429 if an address tries too often, 503 if too
 * many requests are waiting.
 */
export async function login(ctx: Context, actorId: string, password: string): Promise<OpenedSession> {
  await brake(ctx);
  return withSlot(async () => {
    const attempts = attemptsAt(ctx, actorId);
    const { threshold, lockMs } = ctx.settings.auth.breakglass;
    const attempt = await attempts.attempt(actorId, threshold, lockMs);
    const account = await accountOf(ctx, actorId);
    const hash = attempt.allowed && account && shutOut(account) === null ? account.password_hash : null;
    const right = await verifyPassword(hash, password);
    if (!right || hash === null) {
      const reason = !attempt.allowed ? "locked" : !account ? "unknown" : (shutOut(account) ?? "wrong_password");
      await tellOfFailure(ctx, actorId, reason, attempt.allowed && attempt.left === 0);
      throw refused();
    }
    const session = await signIn(ctx, { id: actorId, type: "User" }, hash, password);
    await attempts
      .clear(actorId)
      .catch((error) => ctx.log.warn("breakglass.clear_failed", { error: describeError(error) }));
    return session;
  });
}

async function brake(ctx: Context): Promise<void> {
  const from = addressKey(ctx.caller.address);
  if (from === null) return;
  const { allowed, retry_after_ms } = await onceFor(ctx, "breakglass-address", from).attempt(
    from,
    PER_MINUTE,
    MINUTE_MS,
  );
  if (!allowed) throw tooManyRequests("too many attempts from this address", retry_after_ms / 1000);
}

function refused(): AppError {
  return unauthorized("actor_id or password is not right, or the account is locked", "breakglass_refused");
}

/**
 * Why an account may not sign in even with the right password; null if it may. Break-glass covers a provider that is
 * down, not one that was disabled.
 */
function shutOut(account: { readonly deactivated_at: string | null; readonly provider_enabled: boolean | null }) {
  if (account.deactivated_at !== null) return "deactivated";
  return account.provider_enabled === true ? null : "provider_disabled";
}

async function accountOf(ctx: Context, actorId: string) {
  const [row] = await ctx.db
    .select({
      password_hash: credentials.password_hash,
      deactivated_at: users.deactivated_at,
      provider_enabled: oidcProviders.enabled,
    })
    .from(credentials)
    .innerJoin(users, eq(users.id, credentials.actor_id))
    .leftJoin(oidcProviders, eq(oidcProviders.id, users.oidc_provider_id))
    .where(eq(credentials.actor_id, actorId));
  return row ?? null;
}

/**
 * Audits failures on existing accounts, whose number the lock bounds. Unknown names and attempts on a locked account
 * are only counted, by the door like every 401: anyone can cause any number of them.
 */
async function tellOfFailure(ctx: Context, actor_id: string, reason: string, locks: boolean): Promise<void> {
  if (reason === "unknown" || reason === "locked") return;
  const failed: BreakglassEvent = { verb: "login_failed", actor_id, reason };
  await tell(ctx, locks ? [failed, { verb: "locked", actor_id }] : [failed]);
}

async function tell(ctx: Context, events: readonly BreakglassEvent[]): Promise<void> {
  await commit(ctx, recorded(ctx, events));
  logLoudly(ctx, events);
}

/**
 * Opens the session first, then records it on condition that the password is still valid. Removing the password ends
 * the user's sessions afterwards, and so includes this one.
 */
async function signIn(ctx: Context, user: ActorRef, hash: string, password: string): Promise<OpenedSession> {
  const events: BreakglassEvent[] = [{ verb: "login", actor_id: user.id, by: user }];
  const renewed = isOutdated(hash) ? { password_hash: await hashPassword(ctx.random, password.normalize("NFC")) } : {};
  const session = await openSession(ctx, user, { by: "breakglass" });
  try {
    await commit(ctx, [
      guard(stillHolds(user.id, hash), refused),
      ctx.db
        .update(credentials)
        .set({ last_used_at: timestamp(ctx), ...renewed })
        .where(eq(credentials.actor_id, user.id)),
      ...recorded(ctx, events),
    ]);
  } catch (error) {
    await endSession(ctx, { id: session.session_id, actor: user }, { reason: "password_changed" }, user);
    throw error;
  }
  logLoudly(ctx, events);
  return session;
}

function stillHolds(actorId: string, hash: string): SQL {
  const same = and(
    eq(credentials.actor_id, actorId),
    eq(credentials.password_hash, hash),
    isNull(users.deactivated_at),
    eq(oidcProviders.enabled, true),
  );
  return sql`exists (select 1 from ${credentials} join ${users} on ${users.id} = ${credentials.actor_id}
    join ${oidcProviders} on ${oidcProviders.id} = ${users.oidc_provider_id} where ${same})`;
}
