import { addressKey } from "../../src/platform/caller.ts";
import type { Actor, Bindings, Context } from "../../src/platform/context.ts";
import { tooManyRequests } from "../../src/platform/errors.ts";
import type { Middleware } from "../visit.ts";

/**
 * Approximate rate limits, counted by the platform per location. Exact counts (password and bootstrap token attempts)
 * are kept by the Durable Object Once.
 *
 * On a single machine the binding is a Miniflare object, and one call costs more than a whole trivial request (about a
 * millisecond of CPU). So an isolate asks it only on every `each`-th request of a caller, and wrangler.toml's limit
 * counts these calls: fewer than `each` requests per caller and isolate go uncounted. A refusal holds for one second;
 * the next request after that asks again.
 */
interface Brake {
  readonly binding: "ADDRESS_LIMIT" | "ACTOR_LIMIT";
  readonly each: number;
  readonly message: string;
  /** Requests per caller; emptied when full. */
  readonly callers: Map<string, { count: number; refusedUntil: number }>;
}

const MAX_CALLERS = 20_000;
const REFUSED_MS = 1_000;
/** The period configured in wrangler.toml. */
const PERIOD_SECONDS = 10;

const ADDRESS: Brake = {
  binding: "ADDRESS_LIMIT",
  each: 20,
  message: "too many requests from this address",
  callers: new Map(),
};
const ACTOR: Brake = {
  binding: "ACTOR_LIMIT",
  each: 500,
  message: "too many requests of this actor",
  callers: new Map(),
};

type LimitContext = Pick<Context, "clock" | "settings" | "log"> & {
  readonly bindings: Pick<Bindings, "ADDRESS_LIMIT" | "ACTOR_LIMIT">;
};

/** Throws 429 when an address sends too many requests. Off for `local`, where callers cannot be told apart. */
export const limitAddress: Middleware = (c, next) => {
  const { ctx, caller } = c.env;
  const key = addressKey(caller.address);
  return key === null ? next() : brake(ctx, ADDRESS, key).then(next);
};

/** Throws 429 when an actor sends too many requests, from any address. */
export async function limitActor(ctx: LimitContext, actor: Actor): Promise<void> {
  await brake(ctx, ACTOR, `${actor.type}:${actor.id}`);
}

async function brake(ctx: LimitContext, { binding, each, message, callers }: Brake, key: string): Promise<void> {
  const limit = ctx.bindings[binding];
  if (!limit || !ctx.settings.auth.rateLimits) return;
  const now = ctx.clock.now().getTime();
  let caller = callers.get(key);
  if (!caller) {
    if (callers.size >= MAX_CALLERS) callers.clear();
    caller = { count: 0, refusedUntil: 0 };
    callers.set(key, caller);
  }
  const wasRefused = caller.refusedUntil > 0;
  if (caller.refusedUntil <= now || caller.refusedUntil > now + REFUSED_MS) {
    if (++caller.count % each !== 0 && !wasRefused) return;
    if ((await limit.limit({ key })).success) {
      caller.refusedUntil = 0;
      return;
    }
    if (!wasRefused) ctx.log.warn("limit.reached", { binding, key });
    caller.refusedUntil = now + REFUSED_MS;
  }
  throw tooManyRequests(`${message}; Retry-After says when to try again`, PERIOD_SECONDS);
}
