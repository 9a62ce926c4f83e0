import { type Context, timestamp } from "../../platform/context.ts";
import { invalid } from "../../platform/errors.ts";
import { base64url, constantTimeEqual, sha256Hex } from "../../platform/text.ts";
import { onceFor } from "../once.ts";
import { readCookie, setCookie } from "../sessions/cookie.ts";
import { SignInFailure } from "./failure.ts";

/** A sign-in between the redirect to the provider and the way back: kept once, for ten minutes, for one browser. */
export interface Pending {
  readonly provider_id: string;
  readonly nonce: string;
  /** RFC 7636: its S256 challenge went to the provider. */
  readonly verifier: string;
  readonly return_to: string;
  /** SHA-256 of the cookie that the browser got: the state alone is worth nothing in another browser. */
  readonly cookie_hash: string;
  /** RFC 3339. */
  readonly started_at: string;
}

const PENDING_COOKIE = "__Host-certctl_oidc_pending";

const LIFE_SECONDS = 600;

/** Stores a sign-in under its state; the Set-Cookie value that binds it to the browser. */
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
 * The sign-in of a state, this once. Throws SignInFailure: `pre_login_consume_failed` when it is unknown, over or was used,
 * `state_mismatch` in another browser than the one that began it (it is used up then too).
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

/** The Set-Cookie value that removes the cookie. */
export function clearedPending(): string {
  return setPending("", 0);
}

/** Lax and not Strict: the provider's redirect back is a navigation from another site. */
function setPending(value: string, maxAge: number): string {
  return setCookie(PENDING_COOKIE, value, { maxAgeSeconds: maxAge, sameSite: "Lax", httpOnly: true });
}

/** The value of the pending cookie; null when the browser sends none or several that differ. */
export function pendingCookie(request: Request): string | null {
  return readCookie(request, PENDING_COOKIE) || null;
}

const BASE = "https://local.invalid";

/**
 * Where a browser may be sent after the sign-in: a path of this server, never another place (`//host`, `\host`, a scheme, a
 * control character that browsers drop). Throws a 400 for anything else.
 */
export function localPath(path: string): string {
  const url = /^\/[\x21-\x7e]*$/.test(path) && !/^\/\/|\\/.test(path) ? URL.parse(path, BASE) : null;
  if (path.length > 2000 || url?.origin !== BASE || url.pathname.startsWith("//"))
    throw invalid("return_to", "must be a path of this server such as /docs/, percent-encoded", "return_to_invalid");
  return path;
}
