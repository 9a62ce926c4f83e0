import type { Route } from "../../src/platform/route.ts";
import type { Middleware } from "../visit.ts";
import { unknownPath } from "./fallback.ts";

/** The request has come to this route. Throws 404 where these settings have no such route. */
export function found(route: Route): Middleware {
  return (c, next) => {
    if (!route.exists(c.env.ctx.settings)) throw unknownPath(c.req.raw);
    c.env.route = route;
    return next();
  };
}
