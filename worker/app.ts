import { Hono } from "hono";
import { auditDenied, noteDenied } from "../src/identity/denied.ts";
import { CSRF_HEADER } from "../src/identity/sessions/authenticate.ts";
import { type Arrival, arrivalOf } from "../src/platform/caller.ts";
import { type Answer, IdempotencyRace, recordedAnswer } from "../src/platform/commit.ts";
import { ANONYMOUS_ACTOR, type Context } from "../src/platform/context.ts";
import { AppError, invalid, storageFull } from "../src/platform/errors.ts";
import { type Reply, type Route, readBody } from "../src/platform/route.ts";
import { utf8 } from "../src/platform/text.ts";
import { authenticate, authorize } from "./authenticate.ts";
import { makeContext, type Waiter } from "./context.ts";
import { type Env, readEnv } from "./env.ts";
import { errorResponse, requestIdOf, toResponse, withCookies } from "./middleware/answer.ts";
import { allowedOrigin, exposeTo, isPreflight, preflight } from "./middleware/cors.ts";
import { addHsts } from "./middleware/headers.ts";
import { limitAddress } from "./middleware/limits.ts";
import { servePage } from "./pages.ts";
import { routes } from "./routes.ts";
import { hearOfStorage, readAgain, withStorageError } from "./storage.ts";

const SLOW_BODY_MS = 1_000;
const NO_BODY = new Uint8Array(0);
const IDEMPOTENCY_KEY = /^[\x21-\x7e]{1,255}$/;

export interface App {
  fetch(request: Request, env: Env, waiter: Waiter): Promise<Response>;
}

export interface AppOptions {
  /** Who a request is of; a benchmark puts in another one, to measure what ours costs. */
  readonly authenticate?: typeof authenticate;
}

/** A request that has come in: what is known of it before anybody is authenticated. */
interface Visit extends Arrival {
  readonly env: Env;
  readonly waiter: Waiter;
  /** Of nobody yet. */
  readonly ctx: Context;
}

/**
 * The API. Around every request: request id, the caller's address, CORS, the brake on addresses, the headers of the answer. For
 * each route then authentication, the brake on actors, permission, body limit, validation and handler, in this order.
 */
export function makeApp(table: readonly Route[] = routes, options: AppOptions = {}): App {
  const hono = new Hono<{ Bindings: Visit }>({ strict: true });
  for (const entry of table) {
    hono.on(entry.method.toUpperCase(), entry.path.replace(/\{([a-z_]+)\}/g, ":$1"), (c) =>
      answer(entry, c.req.raw, c.env, c.req.param(), options.authenticate ?? authenticate),
    );
  }
  hono.notFound((c) => fallback(table, c.req.raw, c.env.ctx));
  hono.onError((error, c) => errorResponse(error, requestIdOf(c.req.raw)));
  const inside = async (request: Request, visit: Visit) => hono.fetch(request, visit);
  return { fetch: (request, env, waiter) => around(table, request, env, waiter, inside) };
}

async function around(
  table: readonly Route[],
  request: Request,
  env: Env,
  waiter: Waiter,
  inside: (request: Request, visit: Visit) => Promise<Response>,
): Promise<Response> {
  const requestId = requestIdOf(request);
  let visit: Visit | null = null;
  let response: Response;
  try {
    visit = await receive(request, env, waiter, requestId);
    const { settings } = visit.ctx;
    const origin = isPreflight(request) ? allowedOrigin(request, settings.auth.corsOrigins) : null;
    const methods = origin === null ? [] : methodsOf(table, request, visit.ctx);
    await limitAddress(visit.ctx, visit.caller);
    response =
      origin !== null && methods.length > 0 ? preflight(origin, methods, requestId) : await inside(request, visit);
  } catch (error) {
    if (visit && isRefusal(error)) noteDenied(visit.ctx, visit.caller, error.code);
    response = errorResponse(await withStorageError(env, error), requestId);
  }
  return visit ? dressed(response, request, visit) : response;
}

async function receive(request: Request, env: Env, waiter: Waiter, requestId: string): Promise<Visit> {
  await hearOfStorage(readEnv(env).bindings);
  const before = makeContext(env, waiter, { requestId, actor: ANONYMOUS_ACTOR });
  const arrival = await arrivalOf(before.settings, request);
  return { ...arrival, env, waiter, ctx: { ...before, caller: arrival.caller } };
}

/** The headers that depend on where a request came from, errors included. */
function dressed(response: Response, request: Request, { ctx, secure }: Visit): Response {
  const { corsOrigins } = ctx.settings.auth;
  if (secure) addHsts(response.headers);
  if (corsOrigins.length === 0) return response;
  response.headers.append("Vary", "Origin");
  const origin = allowedOrigin(request, corsOrigins);
  if (origin !== null && request.method !== "OPTIONS") exposeTo(response.headers, origin);
  return response;
}

/** A refusal for who somebody is or how often they ask. */
function isRefusal(error: unknown): error is AppError {
  return error instanceof AppError && (error.status === 401 || error.status === 403 || error.status === 429);
}

async function answer(
  entry: Route,
  request: Request,
  { env, waiter, caller, ctx: nobody }: Visit,
  params: Record<string, string>,
  identify: typeof authenticate,
): Promise<Response> {
  const { requestId } = nobody;
  let cookies: readonly string[] = [];
  let token: Record<string, string> = {};
  let ctx = nobody;
  const work = async () => {
    if (!entry.exists(nobody.settings)) throw unknownPath(new URL(request.url).pathname);
    const early = entry.credentials.some(({ inBody }) => inBody) ? await readBody(request, entry.bodyLimit) : null;
    const letIn = async () => {
      const who = await identify(nobody, { request, caller, body: early ?? NO_BODY }, entry);
      cookies = who.cookies;
      token = who.csrf_token === undefined ? {} : { [CSRF_HEADER]: who.csrf_token };
      ctx = makeContext(env, waiter, { ...who, requestId });
      await authorize(ctx, entry, params, who.by);
    };
    await letIn();
    if (ctx.storageFull && entry.whenFull === "refused") throw storageFull();
    await entry.before(ctx);
    const since = ctx.clock.now().getTime();
    const body = early ?? (entry.hasBody ? await readBody(request, entry.bodyLimit) : NO_BODY);
    // Whoever takes their time to send a body is asked again who they are: an open request must not outlive a revocation.
    if (Math.abs(ctx.clock.now().getTime() - since) > SLOW_BODY_MS) await letIn();
    const idempotency = entry.creates ? idempotencyOf(entry, request, body) : null;
    if (idempotency) ctx = { ...ctx, idempotency };
    const reply = await repeatable(ctx, entry, () => entry.run(ctx, request, params, body, letIn));
    const flaw = ctx.settings.checkAnswers ? entry.undeclared(reply) : null;
    if (flaw !== null) throw new Error(`${entry.operationId} answers what it does not declare: ${flaw}`);
    const headers = { ...token, ...reply.headers };
    return toResponse({ ...reply, headers, cookies: [...cookies, ...(reply.cookies ?? [])] }, requestId);
  };
  try {
    return await (entry.method === "get" ? readAgain(env, work) : work());
  } catch (error) {
    if (isRefusal(error)) {
      const whose = error.actor ? makeContext(env, waiter, { actor: error.actor, caller, requestId }) : ctx;
      await leaveTrace(whose, entry, request, error);
    }
    return withCookies(errorResponse(await withStorageError(env, error), requestId, entry.errorForm), cookies);
  }
}

/** Who has no actor, or tried somebody else's credential, is counted by address; an actor beyond its rights is an audit event. */
async function leaveTrace(ctx: Context, entry: Route, request: Request, error: AppError): Promise<void> {
  if (ctx.actor === ANONYMOUS_ACTOR || error.status !== 403) return noteDenied(ctx, ctx.caller, error.code);
  const { pathname } = new URL(request.url);
  await auditDenied(ctx, {
    operation: entry.operationId,
    method: request.method,
    path: pathname,
    reason: error.code,
  });
}

/** The recorded answer of an Idempotency-Key, or the work; who loses the race for a key gets the winner's answer. */
async function repeatable(ctx: Context, entry: Route, work: () => Promise<Reply>): Promise<Reply> {
  const before = await recordedAnswer(ctx);
  if (before) return repeated(entry, before);
  try {
    return await work();
  } catch (error) {
    if (!ctx.idempotency) throw error;
    const meanwhile =
      error instanceof IdempotencyRace || (error instanceof AppError && error.status === 409)
        ? await recordedAnswer(ctx)
        : null;
    if (!meanwhile) throw error;
    return repeated(entry, meanwhile);
  }
}

function repeated(entry: Route, answer: Answer): Reply {
  return { ...answer, headers: { ...entry.createdHeaders(answer.body), "Idempotency-Replayed": "true" } };
}

function idempotencyOf(entry: Route, request: Request, body: Uint8Array): Context["idempotency"] {
  const key = request.headers.get("Idempotency-Key");
  if (key === null) return null;
  if (!IDEMPOTENCY_KEY.test(key)) throw invalid("Idempotency-Key", "must be 1 to 255 visible ASCII characters");
  const head = utf8(`${entry.operationId}\n${new URL(request.url).pathname}\n`);
  const whole = new Uint8Array(head.length + body.length);
  whole.set(head);
  whole.set(body, head.length);
  return { key, request: whole };
}

/** A known path with another method is a 405 with Allow; a page of ours is served; everything else is a 404 in the envelope. */
async function fallback(table: readonly Route[], request: Request, ctx: Context): Promise<Response> {
  const methods = methodsOf(table, request, ctx);
  // The router takes a path as it was sent: `/api/v1/./teams` is none of its paths, whatever it becomes once it is resolved.
  if (methods.length > 0 && !methods.includes(request.method)) {
    const Allow = methods.join(", ");
    return errorResponse(
      new AppError(405, "method_not_allowed", `${request.method} is not a method of this path; it has ${Allow}`, {
        headers: { Allow },
      }),
      ctx.requestId,
    );
  }
  const page = await servePage(request, ctx.bindings.ASSETS);
  return page ?? errorResponse(unknownPath(new URL(request.url).pathname), ctx.requestId);
}

/** The methods that the request's path has, in order; none when it is no path of the API. */
function methodsOf(table: readonly Route[], request: Request, { settings }: Context): string[] {
  const { pathname } = new URL(request.url);
  const methods = new Set(
    table
      .filter((entry) => entry.exists(settings) && pathPattern(entry.path).test(pathname))
      .map((entry) => entry.method.toUpperCase()),
  );
  if (pathname === "/openapi.json") methods.add("GET");
  if (methods.has("GET")) methods.add("HEAD");
  return [...methods].sort();
}

function unknownPath(pathname: string): AppError {
  return new AppError(404, "not_found", `${pathname} does not exist; /openapi.json lists what does`);
}

function pathPattern(path: string): RegExp {
  return new RegExp(`^${path.replaceAll(".", "\\.").replace(/\{[a-z_]+\}/g, "[^/]+")}$`);
}
