import type { Actor, ActorType } from "./actor.ts";
import type { Database, Statement } from "./database.ts";
import type { EventAction } from "./events.ts";
import type { Log } from "./log.ts";
import type { Sealer } from "./sealing.ts";
import type { Settings } from "./settings.ts";

export {
  type Actor,
  type ActorType,
  ANONYMOUS_ACTOR,
  type EffectivePermission,
  type ScopeType,
  SYSTEM_ACTOR,
} from "./actor.ts";

/** Injected time, so that tests control it without waiting. */
export interface Clock {
  now(): Date;
}

/** Cryptographically secure randomness. */
export interface Random {
  bytes(length: number): Uint8Array<ArrayBuffer>;
}

export const systemClock: Clock = { now: () => new Date() };

export const systemRandom: Random = { bytes: (length) => crypto.getRandomValues(new Uint8Array(length)) };

/** How a request arrived: everything known about the caller except its identity. */
export interface Caller {
  /**
   * The caller's address, or `local` if unknown (wire.md "Settings"). Never taken from a header that a client can set.
   */
  readonly address: string;
  readonly user_agent: string;
  /** The session that authenticated the request; null for an API key. */
  readonly session_id: string | null;
}

/** For work without a request: a sweep, a queue message, an alarm. */
export const NO_CALLER: Caller = { address: "local", user_agent: "", session_id: null };

/** The bindings of wrangler.toml. */
export interface Bindings {
  readonly DB: D1Database;
  readonly ISSUER: DurableObjectNamespace;
  readonly PURGE: DurableObjectNamespace;
  readonly SESSION: DurableObjectNamespace;
  readonly ONCE: DurableObjectNamespace;
  readonly WRITER: DurableObjectNamespace;
  /** Approximate rate limits, counted per location. Null where wrangler.toml binds none. */
  readonly ADDRESS_LIMIT: RateLimit | null;
  readonly ACTOR_LIMIT: RateLimit | null;
  readonly BYTES: R2Bucket;
  readonly WORK: Queue;
  readonly ASSETS: Fetcher | null;
  /** Single machine only: answers `full` or `ok` for the disk. Null elsewhere. */
  readonly STORAGE: Fetcher | null;
}

/**
 * Implementations that `worker/wiring.ts` injects, so that a wing need not import a wing below it. Each wing declares
 * its own members with `declare module`.
 */
// biome-ignore lint/suspicious/noEmptyInterface: the wings declare its parts
export interface Wiring {}

/** Optional fields of an audit event besides action, resource and details. */
export interface AuditOptions {
  /** The actor, where the request itself has none yet: a user who is just signing in. */
  readonly actor?: { readonly id: string; readonly type: ActorType };
  /** Makes the event idempotent: a second insert with the same id is ignored. */
  readonly id?: string;
  /** Overrides the resource type of the catalogue, for actions on several kinds of resource. */
  readonly resource_type?: string;
}

export type AuditDetails = Readonly<Record<string, unknown>>;

/**
 * Returns the statement that records an event of the catalogue (platform/events.ts); put it into the batch of the
 * change (invariant 3).
 */
export type Audit = (
  action: EventAction,
  resourceId: string,
  details?: AuditDetails,
  options?: AuditOptions,
) => Statement;

/** Everything one unit of work can reach: a request, a queue message, a cron tick. */
export interface Context {
  readonly clock: Clock;
  readonly random: Random;
  readonly db: Database;
  readonly actor: Actor;
  readonly caller: Caller;
  readonly requestId: string;
  readonly log: Log;
  readonly settings: Settings;
  readonly bindings: Bindings;
  readonly wiring: Wiring;
  readonly sealer: Sealer;
  /** The Idempotency-Key of a creating request and the whole request, secrets included; null if none was sent. */
  readonly idempotency: { readonly key: string; readonly request: Uint8Array } | null;
  /** Single machine only: the disk is nearly full, so writes that can be skipped are skipped. */
  readonly storageFull: boolean;
  /** Returns the statement that writes an audit event; put it into the batch of the change (invariant 3). */
  readonly audit: Audit;
  /** Continues after the answer is sent. Only for work that may be lost without harm (a wake-up, a last-used time). */
  defer(work: Promise<unknown>): void;
}

/** The part of a context available during authentication, before there is an actor. */
export type LookupContext = Omit<Context, "actor" | "audit" | "caller">;

/** The context's current time in the format of rows and JSON: RFC 3339 UTC with milliseconds. */
export function timestamp(ctx: Pick<Context, "clock">): string {
  return ctx.clock.now().toISOString();
}
