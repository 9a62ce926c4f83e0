import { CSRF_HEADER } from "../../src/identity/sessions/authenticate.ts";
import { storageFull } from "../../src/platform/errors.ts";
import type { Route } from "../../src/platform/route.ts";
import { type authenticate, authorize } from "../authenticate.ts";
import { makeContext } from "../context.ts";
import type { Middleware } from "../visit.ts";
import { NO_BODY } from "./body.ts";

/** Authenticates the caller, applies the actor's rate limit and checks the permission. */
export function admit(route: Route, identify: typeof authenticate): Middleware {
  return async (c, next) => {
    const { env: visit, req } = c;
    visit.letIn = async () => {
      const { env, waiter, nobody, caller, requestId } = visit;
      const who = await identify(nobody, { request: req.raw, caller, body: visit.body ?? NO_BODY }, route);
      visit.cookies = who.cookies;
      visit.headers = who.csrf_token === undefined ? {} : { [CSRF_HEADER]: who.csrf_token };
      visit.ctx = makeContext(env, waiter, { ...who, requestId });
      await authorize(visit.ctx, route, req.param(), who.by);
    };
    await visit.letIn();
    return next();
  };
}

/** Throws while the route is closed to everyone, including callers with its permission. */
export function open(route: Route): Middleware {
  return async ({ env: { ctx } }, next) => {
    if (ctx.storageFull && route.whenFull === "refused") throw storageFull();
    await route.before?.(ctx);
    return next();
  };
}
