import type { NotFoundHandler } from "hono";
import { AppError } from "../../src/platform/errors.ts";
import { servePage } from "../pages.ts";
import type { Door, Visit } from "../visit.ts";
import { errorResponse } from "./answer.ts";

/** The methods that the request's path has, in order; none when it is no path of the API. */
export type MethodsOf = (visit: Visit, request: Request) => readonly string[];

/** A known path with another method is a 405 with Allow; a page of ours is served; everything else is a 404 in the envelope. */
export function fallback(methodsOf: MethodsOf): NotFoundHandler<Door> {
  return async ({ env: visit, req: { raw: request } }) => {
    const methods = methodsOf(visit, request);
    // The router takes a path as it was sent: `/api/v1/./teams` is none of its paths, whatever it becomes once it is resolved.
    if (methods.length > 0 && !methods.includes(request.method)) {
      const Allow = methods.join(", ");
      return errorResponse(
        new AppError(405, "method_not_allowed", `${request.method} is not a method of this path; it has ${Allow}`, {
          headers: { Allow },
        }),
        visit.requestId,
      );
    }
    const page = await servePage(request, visit.ctx.bindings.ASSETS);
    return page ?? errorResponse(unknownPath(request), visit.requestId);
  };
}

export function unknownPath(request: Request): AppError {
  return new AppError(
    404,
    "not_found",
    `${new URL(request.url).pathname} does not exist; /openapi.json lists what does`,
  );
}
