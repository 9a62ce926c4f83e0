import {
  type Actor,
  type Caller,
  type Clock,
  type Context,
  NO_CALLER,
  SYSTEM_ACTOR,
  systemClock,
  systemRandom,
} from "../src/platform/context.ts";
import { randomId } from "../src/platform/ids.ts";
import { consoleLog } from "../src/platform/log.ts";
import { auditStatement } from "../src/record/audit.ts";
import { type Env, readEnv } from "./env.ts";
import { isStorageFull } from "./storage.ts";
import { WIRING } from "./wiring.ts";

export interface Waiter {
  waitUntil(work: Promise<unknown>): void;
}

export interface ContextOptions {
  readonly actor?: Actor;
  readonly caller?: Caller;
  readonly requestId?: string;
  readonly idempotency?: Context["idempotency"];
  readonly clock?: Clock;
}

/** The context of one unit of work: a request, a queue message, a cron tick, an alarm. */
export function makeContext(env: Env, waiter: Waiter, options: ContextOptions = {}): Context {
  const { bindings, settings, sealer, db } = readEnv(env);
  const requestId = options.requestId ?? randomId(systemRandom, "req-");
  const ctx: Context = {
    clock: options.clock ?? systemClock,
    random: systemRandom,
    db,
    actor: options.actor ?? SYSTEM_ACTOR,
    caller: options.caller ?? NO_CALLER,
    requestId,
    log: consoleLog({ request_id: requestId }),
    settings,
    bindings,
    wiring: WIRING,
    sealer,
    idempotency: options.idempotency ?? null,
    storageFull: isStorageFull(bindings),
    defer: (work) => waiter.waitUntil(work),
    audit: (...event) => auditStatement(ctx, ...event),
  };
  return ctx;
}
