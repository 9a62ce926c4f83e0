import { type Route, readBody } from "../../src/platform/route.ts";
import type { Middleware } from "../visit.ts";

export const NO_BODY = new Uint8Array(0);
const SLOW_BODY_MS = 1_000;

/**
 * Reads the body, up to the route's limit. After a slow upload the caller is authorised again: an open request must not
 * outlive a revocation.
 */
export function body(route: Route): Middleware {
  return async ({ env: visit, req }, next) => {
    const { clock } = visit.ctx;
    const since = clock.now().getTime();
    visit.body = await readBody(req.raw, route.bodyLimit);
    if (Math.abs(clock.now().getTime() - since) > SLOW_BODY_MS) await visit.letIn();
    return next();
  };
}
