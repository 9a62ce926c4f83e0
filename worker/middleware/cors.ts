import type { Middleware } from "../visit.ts";
import type { MethodsOf } from "./fallback.ts";
import { dateOf } from "./headers.ts";

/**
 * CORS (Fetch, "HTTP extensions"): denied unless the operator lists the exact origin in CERTCTL_CORS_ORIGINS. Pages of
 * a listed origin are trusted like our own: they may send credentials and read every answer, including errors.
 */

const REQUEST_HEADERS = [
  "Content-Type",
  "Authorization",
  "X-Request-ID",
  "X-CSRF-Token",
  "Idempotency-Key",
  "If-Match",
].join(", ");
const EXPOSED_HEADERS = [
  "ETag",
  "Location",
  "X-Request-ID",
  "X-CSRF-Token",
  "Retry-After",
  "Idempotency-Replayed",
].join(", ");
const MAX_AGE_SECONDS = 86_400;

/** Lets pages of an allowed origin read the answer, including errors, and sets Vary for caches. */
export const cors: Middleware = (c, next) => {
  const { corsOrigins } = c.env.ctx.settings.auth;
  if (corsOrigins.length === 0) return next();
  return next().then(() => {
    const { headers } = c.res;
    headers.append("Vary", "Origin");
    const origin = allowedOrigin(c.req.raw, corsOrigins);
    if (origin === null || c.req.raw.method === "OPTIONS") return;
    allow(headers, origin);
    headers.set("Access-Control-Expose-Headers", EXPOSED_HEADERS);
  });
};

/**
 * Answers a CORS preflight from an allowed origin for a path of the API. `methodsOf` returns the methods of the
 * request's path.
 */
export function preflight(methodsOf: MethodsOf): Middleware {
  return async (c, next) => {
    const request = c.req.raw;
    const origin = allowedOrigin(request, c.env.ctx.settings.auth.corsOrigins);
    const isPreflight = request.headers.has("Access-Control-Request-Method");
    const methods = origin !== null && isPreflight ? methodsOf(c.env, request) : [];
    if (origin === null || methods.length === 0) return next();
    const headers = new Headers({
      "Access-Control-Allow-Methods": methods.join(", "),
      "Access-Control-Allow-Headers": REQUEST_HEADERS,
      "Access-Control-Max-Age": String(MAX_AGE_SECONDS),
      "Cache-Control": "no-store",
      Date: dateOf(Date.now()),
      "X-Request-ID": c.env.requestId,
    });
    allow(headers, origin);
    return new Response(null, { status: 204, headers });
  };
}

/** The Origin header if it is one of `origins`; otherwise null. */
function allowedOrigin(request: Request, origins: readonly string[]): string | null {
  const origin = request.headers.get("Origin");
  return origin !== null && origins.includes(origin) ? origin : null;
}

function allow(headers: Headers, origin: string): void {
  headers.set("Access-Control-Allow-Origin", origin);
  headers.set("Access-Control-Allow-Credentials", "true");
}
