import type { Actor, LookupContext } from "../../platform/context.ts";
import { AppError } from "../../platform/errors.ts";
import { constantTimeEqual } from "../../platform/text.ts";
import { actorOfUser } from "../actors.ts";
import { type ActorRef, actorWith, grantsOf } from "../grants.ts";
import { CSRF_COOKIE, csrfCookie, readCookie, SESSION_COOKIE, tokenOf, verifySessionCookie } from "./cookie.ts";
import { sessionStore } from "./store.ts";

/** The header in which a page proves that it could read the CSRF cookie. */
export const CSRF_HEADER = "X-CSRF-Token";

export interface SessionAuthentication {
  readonly actor: Actor;
  readonly session_id: string;
  /** Set-Cookie values to send along: the CSRF token when the client shows another one than the present. */
  readonly cookies: readonly string[];
  /** The present token, for pages of another host that may not read our cookies (CERTCTL_CORS_ORIGINS). */
  readonly csrf_token: string;
}

/**
 * The actor behind the session cookie; null without a cookie or with one that does not hold (no signature of ours, revoked,
 * idle too long, at its absolute end, its user deactivated). Throws 403 `csrf_failed` for a state-changing method from
 * another site or without the session's CSRF token: that answer delivers the present token to a client that shows an old one,
 * and the session's idle time is left alone.
 */
export async function authenticateSession(ctx: LookupContext, request: Request): Promise<SessionAuthentication | null> {
  const cookie = readCookie(request, SESSION_COOKIE);
  // The signature is checked before any object is asked: made-up cookies cost nobody's object anything.
  const signed = cookie === null ? null : await verifySessionCookie(ctx, cookie);
  if (!signed) return null;
  const store = sessionStore(ctx, signed.shard);
  const now = ctx.clock.now().getTime();
  const isSafe = SAFE_METHODS.has(request.method);
  // Without room the idle time is left alone: a session that is in use may end early, and no request fails for it.
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
 * Whether a browser says that another site made this request: by Sec-Fetch-Site (a sibling host too), or by an Origin that is
 * neither this host nor the public URL's (the scheme is left out: a proxy may end TLS). Origins of the configuration are ours.
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
