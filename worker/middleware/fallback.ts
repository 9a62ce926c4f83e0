import type { NotFoundHandler } from "hono";
import { AppError } from "../../src/platform/errors.ts";
import { servePage } from "../pages.ts";
import type { Door, Visit } from "../visit.ts";
import { errorResponse } from "./answer.ts";

/** The methods of the request's path, in order; empty if the API has no such path. */
export type MethodsOf = (visit: Visit, request: Request) => readonly string[];

/**
 * Answers 405 with Allow for a known path with another method, serves the static pages, and answers 404 in the envelope
 * otherwise.
 */
export function fallback(methodsOf: MethodsOf): NotFoundHandler<Door> {
  return async ({ env: visit, req: { raw: request } }) => {
    const methods = methodsOf(visit, request);
    // The router matches the path as sent: `/api/v1/./teams` is not a path of the API, although it resolves to one.
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
