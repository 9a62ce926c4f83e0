import type { Route } from "../../src/platform/route.ts";
import type { Middleware } from "../visit.ts";
import { unknownPath } from "./fallback.ts";

/** Marks the route as matched. Throws 404 if it does not exist under these settings. */
export function found(route: Route): Middleware {
  return (c, next) => {
    if (!route.exists(c.env.ctx.settings)) throw unknownPath(c.req.raw);
    c.env.route = route;
    return next();
  };
}
