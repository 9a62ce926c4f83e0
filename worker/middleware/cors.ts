/**
 * CORS (Fetch, "HTTP extensions"): denied unless the operator has named the exact origin (CERTCTL_CORS_ORIGINS). Such an
 * origin's pages are as good as our own: they may send credentials, and read every answer, errors too.
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

/** The Origin of a request if it is one of `origins`; null else. */
export function allowedOrigin(request: Request, origins: readonly string[]): string | null {
  const origin = request.headers.get("Origin");
  return origin !== null && origins.includes(origin) ? origin : null;
}

/** Whether the request is a preflight: what a browser asks before it sends what no form could. */
export function isPreflight(request: Request): boolean {
  return request.method === "OPTIONS" && request.headers.has("Access-Control-Request-Method");
}

/** The answer to a preflight of an allowed origin, for a path with these methods. */
export function preflight(origin: string, methods: readonly string[], requestId: string): Response {
  const headers = new Headers({
    "Access-Control-Allow-Methods": methods.join(", "),
    "Access-Control-Allow-Headers": REQUEST_HEADERS,
    "Access-Control-Max-Age": String(MAX_AGE_SECONDS),
    "Cache-Control": "no-store",
    "X-Request-ID": requestId,
  });
  allow(headers, origin);
  return new Response(null, { status: 204, headers });
}

/** Lets the pages of `origin` read the answer. */
export function exposeTo(headers: Headers, origin: string): void {
  allow(headers, origin);
  headers.set("Access-Control-Expose-Headers", EXPOSED_HEADERS);
}

function allow(headers: Headers, origin: string): void {
  headers.set("Access-Control-Allow-Origin", origin);
  headers.set("Access-Control-Allow-Credentials", "true");
}
