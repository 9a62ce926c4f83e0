import { generateCookie } from "hono/cookie";
import type { Context, LookupContext } from "../../platform/context.ts";
import { constantTimeEqual } from "../../platform/text.ts";
import { KEY_ID, type SigningKey, sign, verifyingKey } from "./signing-keys.ts";
import { SESSION_ID } from "./store.ts";

/** Sign-in cookies. The `__Host-` prefix (RFC 6265bis section 4.1.3.2) keeps sibling hosts from setting them. */

export const SESSION_COOKIE = "__Host-certctl_session";
export const CSRF_COOKIE = "__Host-certctl_csrf";

const VERSION = "v1";
const MAC = /^[A-Za-z0-9_-]{43}$/;
/** Longer cookies are ignored; ours never are. */
const MAX_LENGTH = 256;

export interface CookieOptions {
  /** Seconds, may be fractional; 0 removes the cookie. */
  readonly maxAgeSeconds: number;
  /** Unix milliseconds. Adds Expires, for browsers that do not support Max-Age. */
  readonly now?: number;
  readonly sameSite: "Lax" | "Strict";
  readonly httpOnly: boolean;
}

/** Browsers cap cookie lifetimes at 400 days (RFC 6265bis section 5.5). */
const MAX_AGE_SECONDS = 34_560_000;

/** A Set-Cookie value for this host only, over TLS. */
export function setCookie(name: string, value: string, { maxAgeSeconds, now, ...options }: CookieOptions): string {
  const seconds = Math.min(Math.max(0, maxAgeSeconds), MAX_AGE_SECONDS);
  const expires = now === undefined ? {} : { expires: new Date(now + seconds * 1000) };
  return generateCookie(name, value, { ...options, ...expires, maxAge: Math.ceil(seconds), path: "/", secure: true });
}

function clearCookie(name: string): string {
  return setCookie(name, "", { maxAgeSeconds: 0, now: 0, sameSite: "Lax", httpOnly: true });
}

/** Set-Cookie values that remove all session cookies. */
export function clearedCookies(): string[] {
  return [clearCookie(SESSION_COOKIE), clearCookie(CSRF_COOKIE)];
}

/** The value of a request cookie; null if absent, or if several with that name differ. (Hono would take the first.) */
export function readCookie(request: Request, name: string): string | null {
  const values = new Set<string>();
  for (const part of (request.headers.get("Cookie") ?? "").split(";")) {
    const at = part.indexOf("=");
    if (at >= 0 && part.slice(0, at).trim() === name) values.add(part.slice(at + 1).trim());
  }
  const [value, ...others] = values;
  return value === undefined || others.length > 0 ? null : value;
}

/** The signed text. Each id is preceded by its length, so that no two pairs of ids give the same text. */
function signedText(session_id: string, key_id: string): string {
  return `${VERSION}:${session_id.length}:${session_id}:${key_id.length}:${key_id}`;
}

/** `v1.<session id>.<key id>.<HMAC-SHA256 in base64url>` */
export async function sessionCookieValue(key: SigningKey, session_id: string): Promise<string> {
  return [VERSION, session_id, key.id, await sign(key, signedText(session_id, key.id))].join(".");
}

export interface SignedSession {
  readonly session_id: string;
  readonly shard: string;
  readonly key: SigningKey;
  /** The most recently requested CSRF token. */
  csrf: { readonly generation: number; readonly token: string } | null;
}

/**
 * Cookies with a valid signature. A signature stays valid as long as its key verifies; whether the session is still
 * alive is checked with its Durable Object on every request. Emptied when full.
 */
const verified = new Map<string, SignedSession>();
const MAX_VERIFIED = 4_096;

/** The contents of a session cookie if it is signed with a key that still verifies; otherwise null. */
export async function verifySessionCookie(ctx: LookupContext, value: string): Promise<SignedSession | null> {
  if (value.length > MAX_LENGTH) return null;
  const [version, session_id = "", key_id = "", mac = "", ...rest] = value.split(".");
  const shard = SESSION_ID.exec(session_id)?.[1];
  if (version !== VERSION || shard === undefined || !KEY_ID.test(key_id) || !MAC.test(mac) || rest.length > 0)
    return null;
  const key = await verifyingKey(ctx, key_id);
  if (!key) return null;
  const before = verified.get(value);
  if (before?.key === key) return before;
  const expected = await sign(key, signedText(session_id, key_id));
  if (!constantTimeEqual(mac, expected)) return null;
  if (verified.size >= MAX_VERIFIED) verified.clear();
  const signed = { session_id, shard, key, csrf: null };
  verified.set(value, signed);
  return signed;
}

/** The CSRF token of a verified cookie's session. */
export async function tokenOf(signed: SignedSession, generation: number): Promise<string> {
  if (signed.csrf?.generation === generation) return signed.csrf.token;
  const token = await csrfToken(signed.key, signed.session_id, generation);
  signed.csrf = { generation, token };
  return token;
}

/** A session's CSRF token, derived so that no secret is stored; it changes with each rotation. */
export function csrfToken(key: SigningKey, session_id: string, generation: number): Promise<string> {
  return sign(key, `csrf.${session_id}.${generation}`);
}

/** Set-Cookie value for the CSRF token until the session's absolute end; readable by the page's scripts. */
export function csrfCookie(ctx: Pick<Context, "clock" | "settings">, token: string, end: number): string {
  return setCookie(CSRF_COOKIE, token, { ...until(ctx, end), httpOnly: false });
}

/** Set-Cookie value for a session until its absolute end. */
export function sessionCookie(ctx: Pick<Context, "clock" | "settings">, value: string, end: number): string {
  return setCookie(SESSION_COOKIE, value, { ...until(ctx, end), httpOnly: true });
}

function until(ctx: Pick<Context, "clock" | "settings">, end: number) {
  const now = ctx.clock.now().getTime();
  return { now, maxAgeSeconds: (end - now) / 1000, sameSite: ctx.settings.auth.sessionSameSite };
}
