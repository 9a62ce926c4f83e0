import type { Actor, LookupContext } from "../../platform/context.ts";
import { AppError } from "../../platform/errors.ts";
import { constantTimeEqual } from "../../platform/text.ts";
import { actorOfUser } from "../actors.ts";
import { type ActorRef, actorWith, grantsOf } from "../grants.ts";
import { CSRF_COOKIE, csrfCookie, readCookie, SESSION_COOKIE, tokenOf, verifySessionCookie } from "./cookie.ts";
import { sessionStore } from "./store.ts";

/** The header in which a page returns the CSRF token, proving that it could read the cookie. */
export const CSRF_HEADER = "X-CSRF-Token";

export interface SessionAuthentication {
  readonly actor: Actor;
  readonly session_id: string;
  /** Set-Cookie values: the current CSRF token, if the client sent a different one. */
  readonly cookies: readonly string[];
  /** The current CSRF token, for pages on other hosts that cannot read our cookies (CERTCTL_CORS_ORIGINS). */
  readonly csrf_token: string;
}

/**
 * Authenticates by session cookie. Null without a cookie or with an invalid one (bad signature, revoked, idle too long,
 * past its absolute end, user deactivated). Throws 403 `csrf_failed` for a state-changing method from another site or
 * without the session's CSRF token. That answer delivers the current token to a client with an old one and does not
 * extend the session.
 */
export async function authenticateSession(ctx: LookupContext, request: Request): Promise<SessionAuthentication | null> {
  const cookie = readCookie(request, SESSION_COOKIE);
  // Checks the signature first, so that forged cookies cause no Durable Object calls.
  const signed = cookie === null ? null : await verifySessionCookie(ctx, cookie);
  if (!signed) return null;
  const store = sessionStore(ctx, signed.shard);
  const now = ctx.clock.now().getTime();
  const isSafe = SAFE_METHODS.has(request.method);
  // While the disk is full, the idle time is not extended: an active session may end early, but no request fails.
  const touch = (id: string) => (ctx.storageFull ? store.find(id, now) : store.touch(id, now));
  const session = isSafe ? await touch(signed.session_id) : await store.find(signed.session_id, now);
  if (!session) return null;
  const actor = await actorOf(ctx, { id: session.actor_id, type: session.actor_type });
  if (!actor) return null;

  const token = await tokenOf(signed, session.csrf_generation);
  const shown = readCookie(request, CSRF_COOKIE);
  const cookies = shown === token ? [] : [csrfCookie(ctx, token, session.absolute_expires_at)];
  if (!isSafe) {
    if (isCrossSite(ctx, request)) throw csrfFailed("this request comes from another site", actor, token, cookies);
    if (!constantTimeEqual(request.headers.get(CSRF_HEADER) ?? "", token))
      throw csrfFailed(`${CSRF_HEADER}: must be the value of the cookie ${CSRF_COOKIE}`, actor, token, cookies);
    if (!(await touch(signed.session_id))) return null;
  }
  return { actor, session_id: signed.session_id, cookies, csrf_token: token };
}

const SAFE_METHODS: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS"]);

async function actorOf(ctx: LookupContext, ref: ActorRef): Promise<Actor | null> {
  return ref.type === "User" ? actorOfUser(ctx, ref.id) : actorWith(ctx, ref, await grantsOf(ctx, ref));
}

/**
 * Whether a browser reports that another site made this request: by Sec-Fetch-Site (including sibling hosts), or by an
 * Origin that is neither this host nor the public URL's. Ignores the scheme, since a proxy may terminate TLS.
 * Configured CORS origins count as ours.
 */
function isCrossSite(ctx: LookupContext, request: Request): boolean {
  const origin = request.headers.get("Origin");
  if (origin !== null && ctx.settings.auth.corsOrigins.includes(origin)) return false;
  const site = request.headers.get("Sec-Fetch-Site");
  if (site !== null && site !== "same-origin" && site !== "none") return true;
  if (origin === null) return false;
  const host = URL.parse(origin)?.host;
  return host === undefined || (host !== new URL(request.url).host && host !== URL.parse(ctx.settings.publicUrl)?.host);
}

function csrfFailed(message: string, actor: Actor, token: string, [cookie]: readonly string[]): AppError {
  const headers = { [CSRF_HEADER]: token, ...(cookie === undefined ? {} : { "Set-Cookie": cookie }) };
  return new AppError(403, "csrf_failed", message, { actor, headers });
}
