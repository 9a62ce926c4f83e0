import type { MiddlewareHandler } from "hono";
import { type Arrival, arrivalOf } from "../src/platform/caller.ts";
import { ANONYMOUS_ACTOR, type Context } from "../src/platform/context.ts";
import type { Route } from "../src/platform/route.ts";
import { makeContext, type Waiter } from "./context.ts";
import { type Env, readEnv } from "./env.ts";

/** A request on its way through the door. The middleware that learns something of it writes it here. */
export interface Visit extends Arrival {
  readonly env: Env;
  readonly waiter: Waiter;
  readonly requestId: string;
  /** The context before anybody is authenticated. */
  readonly nobody: Context;
  /** The context of the caller; that of nobody until the caller is known. */
  ctx: Context;
  /** Null until a route is found. */
  route: Route | null;
  /** Null until the body is read. */
  body: Uint8Array<ArrayBuffer> | null;
  /** Set-Cookie values that go out with whatever is answered. */
  cookies: readonly string[];
  /** Headers that go out with what the route answers. */
  headers: Readonly<Record<string, string>>;
  /** Asks who the caller is and whether they may. Throws when they may not, or may no more. */
  letIn(): Promise<void>;
  /** A read that a full disk ended is done once more. */
  readAgain: "never" | "once" | "now";
}

export type Door = { Bindings: Visit };
export type Middleware = MiddlewareHandler<Door>;

export function receive(request: Request, env: Env, waiter: Waiter, requestId: string): Visit {
  const { caller, secure } = arrivalOf(readEnv(env).settings, request);
  const nobody = makeContext(env, waiter, { requestId, actor: ANONYMOUS_ACTOR, caller });
  return {
    caller,
    secure,
    env,
    waiter,
    requestId,
    nobody,
    ctx: nobody,
    route: null,
    body: null,
    cookies: [],
    headers: NO_HEADERS,
    letIn: nothing,
    readAgain: "once",
  };
}

/** The same request, from the beginning. */
export function afresh(visit: Visit): Visit {
  const { nobody } = visit;
  return { ...visit, ctx: nobody, route: null, body: null, cookies: [], headers: NO_HEADERS, readAgain: "never" };
}

const NO_HEADERS = {};
const nothing = async () => {};
