import type { MiddlewareHandler } from "hono";
import { type Arrival, arrivalOf } from "../src/platform/caller.ts";
import { ANONYMOUS_ACTOR, type Context } from "../src/platform/context.ts";
import type { Route } from "../src/platform/route.ts";
import { makeContext, type Waiter } from "./context.ts";
import { type Env, readEnv } from "./env.ts";

/** A request on its way through the door. Each middleware stores here what it has learned. */
export interface Visit extends Arrival {
  readonly env: Env;
  readonly waiter: Waiter;
  readonly requestId: string;
  /** The context of an anonymous caller. */
  readonly nobody: Context;
  /** The caller's context; equals `nobody` until the caller is known. */
  ctx: Context;
  /** Null until a route is matched. */
  route: Route | null;
  /** Null until the body is read. */
  body: Uint8Array<ArrayBuffer> | null;
  /** Set-Cookie values for any answer, including errors. */
  cookies: readonly string[];
  /** Headers for the route's answer. */
  headers: Readonly<Record<string, string>>;
  /** Authenticates and authorises the caller. Throws if the caller has no access, or no longer has it. */
  letIn(): Promise<void>;
  /** Whether a read that failed on a full disk is retried. */
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

/** The same request, reset to its beginning. */
export function afresh(visit: Visit): Visit {
  const { nobody } = visit;
  return { ...visit, ctx: nobody, route: null, body: null, cookies: [], headers: NO_HEADERS, readAgain: "never" };
}

const NO_HEADERS = {};
const nothing = async () => {};
