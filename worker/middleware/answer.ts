import { systemRandom } from "../../src/platform/context.ts";
import { ENVELOPE } from "../../src/platform/error-forms.ts";
import { AppError, isStorageError, isTemporary, storageFull, unavailable } from "../../src/platform/errors.ts";
import { randomId } from "../../src/platform/ids.ts";
import { describeError } from "../../src/platform/log.ts";
import type { Reply } from "../../src/platform/route.ts";
import { API_HEADERS } from "./headers.ts";

const REQUEST_ID = /^[A-Za-z0-9._-]{8,64}$/;

/** Echoed only when well-formed; else a new one. */
export function requestIdOf(request: Request): string {
  const given = request.headers.get("X-Request-ID");
  return given !== null && REQUEST_ID.test(given) ? given : randomId(systemRandom, "req-");
}

/** A handler's reply as it goes out. */
export function toResponse(reply: Reply, requestId: string): Response {
  const headers = { ...API_HEADERS, "X-Request-ID": requestId, ...reply.headers };
  const cookies = reply.cookies ?? [];
  if (reply.raw)
    return withCookies(new Response(reply.body as BodyInit | null, { status: reply.status, headers }), cookies);
  if (reply.body === null) return withCookies(new Response(null, { status: reply.status, headers }), cookies);
  const json = { "Content-Type": "application/json", ...headers };
  return withCookies(new Response(JSON.stringify(reply.body), { status: reply.status, headers: json }), cookies);
}

export function withCookies(response: Response, cookies: readonly string[]): Response {
  for (const cookie of cookies) response.headers.append("Set-Cookie", cookie);
  return response;
}

/** An error in its form; what nobody expected is logged and tells nothing of itself. */
export function errorResponse(error: unknown, requestId: string, form = ENVELOPE): Response {
  const known = error instanceof AppError ? error : unexpected(error);
  // What is refused for want of room is told once by whoever measures it: a line for each would take the last of it.
  const isRefusedWrite = known.code === "storage_full" && known.cause === undefined;
  if (known.status >= 500 && !isRefusedWrite) {
    // Too much at once passes by itself; whoever watches the errors need not hear of each request.
    const level = known.status === 503 ? "warn" : "error";
    console[level](
      JSON.stringify({
        level,
        event: "request.failed",
        request_id: requestId,
        code: known.code,
        error: describeError(known === error ? (known.cause ?? known) : error),
      }),
    );
  }
  const headers = { "Content-Type": form.type, ...API_HEADERS, "X-Request-ID": requestId, ...known.headers };
  return new Response(form.write(known, requestId), { status: known.status, headers });
}

function unexpected(error: unknown): AppError {
  if (isStorageError(error)) return storageFull(error);
  return isTemporary(error)
    ? unavailable("overloaded", "the service is overloaded or restarting; retry after the time in Retry-After", 2)
    : new AppError(500, "internal_error", "something failed on our side; the request id finds it in the logs");
}
