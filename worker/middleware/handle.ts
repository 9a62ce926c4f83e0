import { type Answer, IdempotencyRace, recordedAnswer } from "../../src/platform/commit.ts";
import type { Context } from "../../src/platform/context.ts";
import { AppError, invalid } from "../../src/platform/errors.ts";
import type { Reply, Route } from "../../src/platform/route.ts";
import { utf8 } from "../../src/platform/text.ts";
import type { Middleware } from "../visit.ts";
import { toResponse } from "./answer.ts";
import { NO_BODY } from "./body.ts";

const IDEMPOTENCY_KEY = /^[\x21-\x7e]{1,255}$/;

/** Runs the route's handler. On a creating route, a known Idempotency-Key returns the first answer instead. */
export function handle(route: Route): Middleware {
  return async ({ env: visit, req }) => {
    const body = visit.body ?? NO_BODY;
    const idempotency = route.creates ? idempotencyOf(route, req.raw, body) : null;
    if (idempotency) visit.ctx = { ...visit.ctx, idempotency };
    const run = () => route.run(visit.ctx, req.raw, req.param(), body, visit.letIn);
    const reply = idempotency ? await repeatable(visit.ctx, route, run) : await run();
    const flaw = visit.ctx.settings.checkAnswers ? route.undeclared(reply) : null;
    if (flaw !== null) throw new Error(`${route.operationId} answers what it does not declare: ${flaw}`);
    return toResponse(visit, reply);
  };
}

/**
 * Returns the recorded answer of an Idempotency-Key or runs `work`; the loser of a race for a key gets the winner's
 * answer.
 */
async function repeatable(ctx: Context, route: Route, work: () => Promise<Reply>): Promise<Reply> {
  const before = await recordedAnswer(ctx);
  if (before) return repeated(route, before);
  try {
    return await work();
  } catch (error) {
    const meanwhile =
      error instanceof IdempotencyRace || (error instanceof AppError && error.status === 409)
        ? await recordedAnswer(ctx)
        : null;
    if (!meanwhile) throw error;
    return repeated(route, meanwhile);
  }
}

function repeated(route: Route, answer: Answer): Reply {
  return { ...answer, headers: { ...route.createdHeaders(answer.body), "Idempotency-Replayed": "true" } };
}

function idempotencyOf(route: Route, request: Request, body: Uint8Array): Context["idempotency"] {
  const key = request.headers.get("Idempotency-Key");
  if (key === null) return null;
  if (!IDEMPOTENCY_KEY.test(key)) throw invalid("Idempotency-Key", "must be 1 to 255 visible ASCII characters");
  const head = utf8(`${route.operationId}\n${new URL(request.url).pathname}\n`);
  const whole = new Uint8Array(head.length + body.length);
  whole.set(head);
  whole.set(body, head.length);
  return { key, request: whole };
}
