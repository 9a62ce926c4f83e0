import { type Context, timestamp } from "../../platform/context.ts";
import { invalid } from "../../platform/errors.ts";
import { base64url, constantTimeEqual, sha256Hex } from "../../platform/text.ts";
import { onceFor } from "../once.ts";
import { readCookie, setCookie } from "../sessions/cookie.ts";
import { SignInFailure } from "./failure.ts";

/**
 * A sign-in in progress, between the redirect to the provider and the callback: single use, valid for ten minutes,
 * bound to one browser.
 */
export interface Pending {
  readonly provider_id: string;
  readonly nonce: string;
  /** RFC 7636 code verifier; its S256 challenge went to the provider. */
  readonly verifier: string;
  readonly return_to: string;
  /** SHA-256 of the browser's cookie, so that the state is useless in another browser. */
  readonly cookie_hash: string;
  /** RFC 3339. */
  readonly started_at: string;
}

const PENDING_COOKIE = "__Host-certctl_oidc_pending";

const LIFE_SECONDS = 600;

/** Stores a sign-in under its state. Returns the Set-Cookie value that binds it to the browser. */
export async function keepPending(
  ctx: Context,
  state: string,
  pending: Omit<Pending, "cookie_hash" | "started_at">,
): Promise<string> {
  const value = base64url(ctx.random.bytes(32));
  const row: Pending = { ...pending, cookie_hash: await sha256Hex(value), started_at: timestamp(ctx) };
  await onceFor(ctx, "oidc-state", state).put(state, JSON.stringify(row), LIFE_SECONDS * 1000);
  return setPending(value, LIFE_SECONDS);
}

/**
 * Takes the sign-in of a state; works once. Throws SignInFailure: `pre_login_consume_failed` if it is unknown, expired
 * or used, `state_mismatch` in a browser that did not begin it (which also uses it up).
 */
export async function takePending(ctx: Context, state: string, cookie: string): Promise<Pending> {
  const text = await onceFor(ctx, "oidc-state", state).take(state);
  if (text === null)
    throw new SignInFailure("pre_login_consume_failed", "state: is unknown, was used or is older than ten minutes");
  const pending = JSON.parse(text) as Pending;
  const age = ctx.clock.now().getTime() - Date.parse(pending.started_at);
  if (age > LIFE_SECONDS * 1000)
    throw new SignInFailure("pre_login_consume_failed", "state: is older than ten minutes");
  if (!constantTimeEqual(await sha256Hex(cookie), pending.cookie_hash))
    throw new SignInFailure("state_mismatch", "state: belongs to another browser");
  return pending;
}

/** Set-Cookie value that removes the cookie. */
export function clearedPending(): string {
  return setPending("", 0);
}

/** Lax rather than Strict: the provider's redirect back is a cross-site navigation. */
function setPending(value: string, maxAge: number): string {
  return setCookie(PENDING_COOKIE, value, { maxAgeSeconds: maxAge, sameSite: "Lax", httpOnly: true });
}

/** The pending cookie's value; null if the browser sends none, or several that differ. */
export function pendingCookie(request: Request): string | null {
  return readCookie(request, PENDING_COOKIE) || null;
}

const BASE = "https://local.invalid";

/**
 * Validates the path to return to after the sign-in: a path on this server, never another origin (`//host`, `\host`, a
 * scheme, a control character that browsers drop). Throws 400 otherwise.
 */
export function localPath(path: string): string {
  const url = /^\/[\x21-\x7e]*$/.test(path) && !/^\/\/|\\/.test(path) ? URL.parse(path, BASE) : null;
  if (path.length > 2000 || url?.origin !== BASE || url.pathname.startsWith("//"))
    throw invalid("return_to", "must be a path of this server such as /docs/, percent-encoded", "return_to_invalid");
  return path;
}
