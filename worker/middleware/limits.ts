import { addressKey } from "../../src/platform/caller.ts";
import type { Actor, Bindings, Context } from "../../src/platform/context.ts";
import { tooManyRequests } from "../../src/platform/errors.ts";
import type { Middleware } from "../visit.ts";

/**
 * Brakes, not quotas: the platform counts them for each location and roughly. Exact counts (attempts at a password, at the
 * bootstrap token) are the Durable Object Once's.
 *
 * On one machine the binding is an object of Miniflare's, and asking it costs more than a whole trivial request (about a
 * millisecond of a core). So an isolate asks it only for every so many-th request of one caller (`each`), and wrangler.toml's
 * limit counts these: the requests not counted yet are fewer than `each` a caller and isolate. A refusal holds for a second,
 * then the next request asks again.
 */
interface Brake {
  readonly binding: "ADDRESS_LIMIT" | "ACTOR_LIMIT";
  readonly each: number;
  readonly message: string;
  /** By caller; emptied when full. */
  readonly callers: Map<string, { count: number; refusedUntil: number }>;
}

const MAX_CALLERS = 20_000;
const REFUSED_MS = 1_000;
/** wrangler.toml's period. */
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

/** Throws 429 when the caller's address sends too much. Off for `local`: there nobody can tell callers apart. */
export const limitAddress: Middleware = (c, next) => {
  const { ctx, caller } = c.env;
  const key = addressKey(caller.address);
  return key === null ? next() : brake(ctx, ADDRESS, key).then(next);
};

/** Throws 429 when the actor sends too much, from wherever. */
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
