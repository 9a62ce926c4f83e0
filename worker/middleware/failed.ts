import type { ErrorHandler } from "hono";
import { auditDenied, noteDenied } from "../../src/identity/denied.ts";
import { ANONYMOUS_ACTOR } from "../../src/platform/context.ts";
import { AppError } from "../../src/platform/errors.ts";
import { makeContext } from "../context.ts";
import { withStorageError } from "../storage.ts";
import type { Door, Visit } from "../visit.ts";
import { errorResponse, withCookies } from "./answer.ts";

/** Answers an error in the route's error form, after recording it if it is a refusal. */
export const failed: ErrorHandler<Door> = async (error, { env: visit, req }) => {
  if (isRefusal(error)) await leaveTrace(visit, error, req.raw);
  const told = await withStorageError(visit.env, error);
  if (told !== error && visit.readAgain === "once" && visit.route?.method === "get") {
    visit.readAgain = "now";
    return new Response(null, { status: 503 });
  }
  return withCookies(errorResponse(told, visit.requestId, visit.route?.errorForm), visit.cookies);
};

/** Whether the request was refused for its credential, its rights or its rate. */
function isRefusal(error: unknown): error is AppError {
  return error instanceof AppError && (error.status === 401 || error.status === 403 || error.status === 429);
}

/**
 * Records a refusal: counted by address if there is no actor or someone else's credential was tried; otherwise, for an
 * actor exceeding its rights, an audit event.
 */
async function leaveTrace(visit: Visit, error: AppError, request: Request): Promise<void> {
  const { env, waiter, caller, requestId, route } = visit;
  const ctx = error.actor ? makeContext(env, waiter, { actor: error.actor, caller, requestId }) : visit.ctx;
  if (!route || ctx.actor === ANONYMOUS_ACTOR || error.status !== 403) return noteDenied(ctx, ctx.caller, error.code);
  const { pathname: path } = new URL(request.url);
  await auditDenied(ctx, { operation: route.operationId, method: request.method, path, reason: error.code });
}
