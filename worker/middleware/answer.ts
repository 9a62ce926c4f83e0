import { systemRandom } from "../../src/platform/context.ts";
import { ENVELOPE } from "../../src/platform/error-forms.ts";
import { AppError, isStorageError, isTemporary, storageFull, unavailable } from "../../src/platform/errors.ts";
import { randomId } from "../../src/platform/ids.ts";
import { describeError } from "../../src/platform/log.ts";
import type { Reply } from "../../src/platform/route.ts";
import type { Visit } from "../visit.ts";
import { API_HEADERS, dateOf } from "./headers.ts";

const JSON_TYPE = { "Content-Type": "application/json" };
const REQUEST_ID = /^[A-Za-z0-9._-]{8,64}$/;

/** Echoes a well-formed X-Request-ID; otherwise creates an id. */
export function requestIdOf(request: Request): string {
  const given = request.headers.get("X-Request-ID");
  return given !== null && REQUEST_ID.test(given) ? given : randomId(systemRandom, "req-");
}

/** Turns a handler's reply into a response, with the headers and cookies that every answer to this caller carries. */
export function toResponse(visit: Pick<Visit, "requestId" | "headers" | "cookies">, reply: Reply): Response {
  const { status, body, raw } = reply;
  const common = { ...API_HEADERS, Date: dateOf(Date.now()), "X-Request-ID": visit.requestId };
  const isJson = !raw && body !== null;
  const headers = { ...(isJson ? JSON_TYPE : {}), ...common, ...visit.headers, ...reply.headers };
  const response = new Response(isJson ? JSON.stringify(body) : (body as BodyInit | null), { status, headers });
  return withCookies(withCookies(response, visit.cookies), reply.cookies ?? []);
}

export function withCookies(response: Response, cookies: readonly string[]): Response {
  for (const cookie of cookies) response.headers.append("Set-Cookie", cookie);
  return response;
}

/** Writes an error in `form`. An unexpected error is logged and its details are not revealed. */
export function errorResponse(error: unknown, requestId: string, form = ENVELOPE): Response {
  const known = error instanceof AppError ? error : unexpected(error);
  // Writes refused for lack of space are not logged one by one: `npm start` logs the full disk once, and more lines
  // would use up the rest of it.
  const isRefusedWrite = known.code === "storage_full" && known.cause === undefined;
  if (known.status >= 500 && !isRefusedWrite) {
    // Overload passes by itself, so 503s are warnings and do not alarm whoever monitors errors.
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
  const headers = { "Content-Type": form.type, ...API_HEADERS, Date: dateOf(Date.now()), "X-Request-ID": requestId };
  return new Response(form.write(known, requestId), {
    status: known.status,
    headers: { ...headers, ...known.headers },
  });
}

function unexpected(error: unknown): AppError {
  if (isStorageError(error)) return storageFull(error);
  return isTemporary(error)
    ? unavailable("overloaded", "the service is overloaded or restarting; retry after the time in Retry-After", 2)
    : new AppError(500, "internal_error", "something failed on our side; the request id finds it in the logs");
}
