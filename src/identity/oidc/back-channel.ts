import { and, eq, gt, or } from "drizzle-orm";
import { decodeJwt, type JWTVerifyResult, jwtVerify } from "jose";
import { type Context, timestamp } from "../../platform/context.ts";
import { runBatch } from "../../platform/database.ts";
import { AppError, invalid, unavailable } from "../../platform/errors.ts";
import { noteDenied } from "../denied.ts";
import { onceFor } from "../once.ts";
import { endSession, endSessionsOf } from "../sessions/sessions.ts";
import { oidcProviders, oidcSessions, users } from "../table.ts";
import { type Claims, SKEW_SECONDS } from "./claims.ts";
import { type Provider, ProviderError } from "./discovery.ts";
import { SignInFailure } from "./failure.ts";
import { verifiedByKeysOf } from "./id-token.ts";
import { ALGORITHMS } from "./jwks.ts";

/**
 * OpenID Connect Back-Channel Logout 1.0: a provider reports that a user has signed out, and the user's sessions here
 * end.
 */

const EVENT = "http://schemas.openid.net/event/backchannel-logout";
const TYPES = ["logout+jwt", "application/logout+jwt", "jwt"];
const MAX_TEXT = 255;
const DAY_MS = 24 * 3_600_000;

/** What to sign out: one session of the provider, or all sessions of a subject. */
interface Logout {
  readonly sub: string | null;
  readonly sid: string | null;
  readonly jti: string;
}

/**
 * Ends the sessions that a logout token names (sections 2.6 and 2.7), so their next requests fail. A token used before
 * has no effect. Throws 400 for an invalid token.
 */
export async function backChannelLogout(ctx: Context, token: string): Promise<void> {
  const { claims, providers, logout } = await believed(ctx, token);
  const used = onceFor(ctx, "bcl-jti", logout.jti);
  const key = `${String(claims.iss)} ${logout.jti}`;
  if (!(await used.claim(key, Math.max(DAY_MS, 2 * ctx.settings.auth.backChannelMaxAgeMs)))) return;
  try {
    for (const provider of providers) await endSessions(ctx, provider, logout);
  } catch (error) {
    // Allows the provider to retry: a token counts as used only once its sessions have ended.
    await used.take(key);
    throw error;
  }
}

/**
 * The verified contents of a token. An invalid token is counted with the other refusals, since it may be a forgery
 * attempt.
 */
async function believed(ctx: Context, token: string) {
  try {
    const verified = await verifiedToken(ctx, token);
    return { ...verified, logout: checked(ctx, verified.claims) };
  } catch (error) {
    if (error instanceof AppError && error.status === 400) noteDenied(ctx, ctx.caller, "logout_token_invalid");
    throw error;
  }
}

/** Verifies the signature, then returns the claims and this issuer's providers whose client_id is in the audience. */
async function verifiedToken(ctx: Context, token: string): Promise<{ claims: Claims; providers: Provider[] }> {
  const rows = await ctx.db
    .select()
    .from(oidcProviders)
    .where(eq(oidcProviders.issuer_url, issuerOf(token)));
  const [first] = rows;
  if (!first) throw bad("iss: is no identity provider of this server");
  const { payload, protectedHeader } = await signatureFirst(ctx, first, token, {
    issuer: first.issuer_url,
    audience: rows.map(({ client_id }) => client_id),
  });
  if (protectedHeader.typ !== undefined && !TYPES.includes(protectedHeader.typ.toLowerCase()))
    throw bad("typ: must be logout+jwt");
  const audience = [payload.aud].flat();
  return { claims: payload, providers: rows.filter(({ client_id }) => audience.includes(client_id)) };
}

async function signatureFirst(
  ctx: Context,
  provider: Provider,
  token: string,
  expected: { readonly issuer: string; readonly audience: string[] },
): Promise<JWTVerifyResult> {
  const options = {
    ...expected,
    algorithms: [...ALGORITHMS],
    clockTolerance: SKEW_SECONDS,
    currentDate: ctx.clock.now(),
    requiredClaims: ["iss", "aud", "iat", "jti"],
  };
  try {
    return await verifiedByKeysOf(ctx, provider, (key) => jwtVerify(token, key, options));
  } catch (error) {
    if (error instanceof SignInFailure) throw bad(error.message, error);
    if (error instanceof ProviderError) throw unavailable("provider_failed", error.message, 5, error);
    throw error;
  }
}

/** The issuer the token names, used only to find its keys; unverified. */
function issuerOf(token: string): string {
  try {
    return decodeJwt(token).iss ?? "";
  } catch (cause) {
    throw bad("is not a JSON Web Token", cause);
  }
}

/** Section 2.6, after the signature: checks that it is a logout token and recent. */
function checked(ctx: Context, claims: Claims): Logout {
  const maxAge = ctx.settings.auth.backChannelMaxAgeMs / 1000;
  const age = ctx.clock.now().getTime() / 1000 - Number(claims.iat);
  if (typeof claims.iat !== "number" || !(Math.abs(age) <= maxAge))
    throw bad(`iat: must be within ${maxAge} s of the present time`);
  const { events } = claims;
  const event = typeof events === "object" && events !== null ? (events as Claims)[EVENT] : undefined;
  if (typeof event !== "object" || event === null || Array.isArray(event)) throw bad(`events: must have ${EVENT}`);
  if (claims.nonce !== undefined) throw bad("nonce: a logout token has none");
  const [sub, sid, jti] = [claims.sub, claims.sid, claims.jti].map(shortText);
  if (!sub && !sid) throw bad("sub or sid is required");
  if (!jti) throw bad("jti: must be a text of 1 to 255 characters");
  return { sub: sub ?? null, sid: sid ?? null, jti };
}

function shortText(value: unknown): string | null {
  if (value === undefined) return null;
  if (typeof value === "string" && value !== "" && value.length <= MAX_TEXT && value.isWellFormed()) return value;
  throw bad("sub, sid and jti must be texts of 1 to 255 characters");
}

/** Section 2.7: a `sid` ends that session; without one, all sessions of the subject end. */
async function endSessions(ctx: Context, provider: Provider, { sub, sid }: Logout): Promise<void> {
  const user_id = sub === null ? null : await userOf(ctx, provider, sub);
  let ended = 0;
  if (sid !== null) ended = await endBySid(ctx, provider, sid, sub, user_id);
  else if (user_id !== null) ended = await endSessionsOf(ctx, { id: user_id, type: "User" });
  await runBatch(ctx.db, [
    ctx.audit("auth.oidc.back_channel_logout", provider.id, {
      user_id,
      by: sid === null ? "sub" : "sid",
      sessions: ended,
    }),
  ]);
}

async function userOf(ctx: Context, provider: Provider, subject: string): Promise<string | null> {
  const [user] = await ctx.db
    .select({ id: users.id })
    .from(users)
    .where(and(eq(users.oidc_provider_id, provider.id), eq(users.oidc_subject, subject)));
  return user?.id ?? null;
}

/**
 * Ends the sessions with the provider's `sid`. If the token has a `sub`, they must belong to it, and its sessions
 * without a `sid` end too, because any of them may be the one.
 */
async function endBySid(
  ctx: Context,
  provider: Provider,
  sid: string,
  sub: string | null,
  user_id: string | null,
): Promise<number> {
  const live = and(eq(oidcSessions.provider_id, provider.id), gt(oidcSessions.expires_at, timestamp(ctx)));
  const bySid = and(
    live,
    eq(oidcSessions.sid, sid),
    sub === null ? undefined : eq(oidcSessions.user_id, user_id ?? ""),
  );
  const without = and(live, eq(oidcSessions.sid, ""), eq(oidcSessions.user_id, user_id ?? ""));
  const rows = await ctx.db
    .select({ id: oidcSessions.session_id, user_id: oidcSessions.user_id })
    .from(oidcSessions)
    .where(user_id === null ? bySid : or(bySid, without));
  let ended = 0;
  for (const { id, user_id } of rows) {
    if (await endSession(ctx, { id, actor: { id: user_id, type: "User" } }, { reason: "back_channel_logout" })) ended++;
  }
  return ended;
}

function bad(message: string, cause?: unknown) {
  return Object.assign(invalid("logout_token", message, "invalid_logout_token"), { cause });
}
