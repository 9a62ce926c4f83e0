import { Hono } from "hono";
import { callerOf } from "../src/platform/caller.ts";
import { IdempotencyRace, recordedAnswer } from "../src/platform/commit.ts";
import { type Context, systemRandom } from "../src/platform/context.ts";
import { AppError, invalid, unavailable } from "../src/platform/errors.ts";
import { randomId } from "../src/platform/ids.ts";
import { describeError } from "../src/platform/log.ts";
import { envelope, type Reply, type Route, readBody } from "../src/platform/route.ts";
import { sha256Hex } from "../src/platform/text.ts";
import { authenticate, authorize } from "./authenticate.ts";
import { makeContext, type Waiter } from "./context.ts";
import { type Env, readEnv } from "./env.ts";
import { openApiDocument } from "./openapi.ts";
import { servePage } from "./pages.ts";
import { routes } from "./routes.ts";

const API_HEADERS = {
  "Cache-Control": "no-store",
  "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
  "Referrer-Policy": "no-referrer",
  "X-Content-Type-Options": "nosniff",
  "X-Frame-Options": "DENY",
};

const REQUEST_ID = /^[A-Za-z0-9._-]{8,64}$/;
const IDEMPOTENCY_KEY = /^[\x21-\x7e]{1,255}$/;

type HonoEnv = { Bindings: Env };

/** The API: for each route authentication, permission, body limit, validation and handler, in this order. */
export function makeApp(table: readonly Route[] = routes): Hono<HonoEnv> {
  const app = new Hono<HonoEnv>({ strict: true });
  for (const entry of table) {
    app.on(entry.method.toUpperCase(), entry.path.replace(/\{([a-z_]+)\}/g, ":$1"), (c) =>
      answer(entry, c.req.raw, c.env, c.executionCtx, c.req.param()),
    );
  }
  app.get("/openapi.json", (c) => openApi(c.env, requestIdOf(c.req.raw)));
  app.notFound((c) => fallback(table, c.req.raw, c.env));
  app.onError((error, c) => errorResponse(error, requestIdOf(c.req.raw)));
  return app;
}

async function answer(
  entry: Route,
  request: Request,
  env: Env,
  waiter: Waiter,
  params: Record<string, string>,
): Promise<Response> {
  const requestId = requestIdOf(request);
  let cookies: readonly string[] = [];
  try {
    const anonymous = makeContext(env, waiter, { requestId });
    const caller = await callerOf(anonymous.settings, request);
    const who = await authenticate(anonymous, caller, request, entry);
    cookies = who.cookies;
    const authenticated = makeContext(env, waiter, { ...who, requestId });
    await authorize(authenticated, entry, params);
    const body = entry.hasBody ? await readBody(request, entry.bodyLimit) : new Uint8Array(0);
    const idempotency = entry.creates ? await idempotencyOf(entry, request, body) : null;
    const ctx = idempotency ? { ...authenticated, idempotency } : authenticated;
    const reply = await repeatable(ctx, () => entry.run(ctx, request, params, body));
    const flaw = ctx.settings.checkAnswers ? entry.undeclared(reply) : null;
    if (flaw !== null) throw new Error(`${entry.operationId} answers what it does not declare: ${flaw}`);
    return toResponse({ ...reply, cookies: [...cookies, ...(reply.cookies ?? [])] }, requestId);
  } catch (error) {
    return withCookies(errorResponse(error, requestId), cookies);
  }
}

/** The recorded answer of an Idempotency-Key, or the work; who loses the race for a key gets the winner's answer. */
async function repeatable(ctx: Context, work: () => Promise<Reply>): Promise<Reply> {
  const before = await recordedAnswer(ctx);
  if (before) return { ...before, headers: { "Idempotency-Replayed": "true" } };
  try {
    return await work();
  } catch (error) {
    if (!ctx.idempotency) throw error;
    const meanwhile =
      error instanceof IdempotencyRace || (error instanceof AppError && error.status === 409)
        ? await recordedAnswer(ctx)
        : null;
    if (!meanwhile) throw error;
    return { ...meanwhile, headers: { "Idempotency-Replayed": "true" } };
  }
}

async function idempotencyOf(entry: Route, request: Request, body: Uint8Array): Promise<Context["idempotency"]> {
  const key = request.headers.get("Idempotency-Key");
  if (key === null) return null;
  if (!IDEMPOTENCY_KEY.test(key)) throw invalid("Idempotency-Key", "must be 1 to 255 visible ASCII characters");
  return {
    key,
    digest: await sha256Hex(
      `${entry.operationId}\n${new URL(request.url).pathname}\n${new TextDecoder().decode(body)}`,
    ),
  };
}

function toResponse(reply: Reply, requestId: string): Response {
  const headers = { ...API_HEADERS, "X-Request-ID": requestId, ...reply.headers };
  const cookies = reply.cookies ?? [];
  if (reply.raw)
    return withCookies(new Response(reply.body as BodyInit | null, { status: reply.status, headers }), cookies);
  if (reply.body === null) return withCookies(new Response(null, { status: reply.status, headers }), cookies);
  const json = { "Content-Type": "application/json", ...headers };
  return withCookies(new Response(JSON.stringify(reply.body), { status: reply.status, headers: json }), cookies);
}

function withCookies(response: Response, cookies: readonly string[]): Response {
  for (const cookie of cookies) response.headers.append("Set-Cookie", cookie);
  return response;
}

export function errorResponse(error: unknown, requestId: string): Response {
  const known = error instanceof AppError ? error : unexpected(error);
  if (known.status >= 500) {
    console.error(
      JSON.stringify({
        level: "error",
        event: "request.failed",
        request_id: requestId,
        code: known.code,
        error: describeError(known === error ? (known.cause ?? known) : error),
      }),
    );
  }
  const headers = { "Content-Type": "application/json", ...API_HEADERS, "X-Request-ID": requestId, ...known.headers };
  return new Response(JSON.stringify(envelope(known, requestId)), { status: known.status, headers });
}

/** A Durable Object or database that is overloaded or was just restarted says so: the same request may succeed in a moment. */
function unexpected(error: unknown): AppError {
  const marks = [error, error instanceof Error ? error.cause : null] as ({
    overloaded?: true;
    retryable?: true;
  } | null)[];
  return marks.some((mark) => mark?.overloaded === true || mark?.retryable === true)
    ? unavailable("overloaded", "too much is going on, or a part restarts: repeat the request", 2)
    : new AppError(500, "internal_error", "something failed on our side; the request id finds it in the logs");
}

/** Echoed only when well-formed; else a new one. */
export function requestIdOf(request: Request): string {
  const given = request.headers.get("X-Request-ID");
  return given !== null && REQUEST_ID.test(given) ? given : randomId(systemRandom, "req-");
}

function openApi(env: Env, requestId: string): Response {
  const document = openApiDocument(readEnv(env).settings.version);
  return new Response(JSON.stringify(document), {
    headers: {
      ...API_HEADERS,
      "Content-Type": "application/json",
      "Cache-Control": "no-cache",
      "X-Request-ID": requestId,
    },
  });
}

/** A known path with another method is a 405 with Allow; a page of ours is served; everything else is a 404 in the envelope. */
async function fallback(table: readonly Route[], request: Request, env: Env): Promise<Response> {
  const requestId = requestIdOf(request);
  const { pathname } = new URL(request.url);
  const allowed = new Set(
    table.filter((entry) => pathPattern(entry.path).test(pathname)).map((entry) => entry.method.toUpperCase()),
  );
  if (pathname === "/openapi.json") allowed.add("GET");
  if (allowed.has("GET")) allowed.add("HEAD");
  if (allowed.size > 0) {
    const Allow = [...allowed].sort().join(", ");
    return errorResponse(
      new AppError(405, "method_not_allowed", `${request.method} is not a method of this path; it has ${Allow}`, {
        headers: { Allow },
      }),
      requestId,
    );
  }
  const page = await servePage(request, readEnv(env).bindings.ASSETS);
  return (
    page ??
    errorResponse(
      new AppError(404, "not_found", `${pathname} does not exist; /openapi.json lists what does`),
      requestId,
    )
  );
}

function pathPattern(path: string): RegExp {
  return new RegExp(`^${path.replaceAll(".", "\\.").replace(/\{[a-z_]+\}/g, "[^/]+")}$`);
}
