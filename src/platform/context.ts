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

/** Time comes in from outside, so that tests can prove seconds without waiting. */
export interface Clock {
  now(): Date;
}

/** Cryptographically secure randomness. */
export interface Random {
  bytes(length: number): Uint8Array<ArrayBuffer>;
}

export const systemClock: Clock = { now: () => new Date() };

export const systemRandom: Random = { bytes: (length) => crypto.getRandomValues(new Uint8Array(length)) };

/** How a request came in: what is known of the caller besides who it is. */
export interface Caller {
  /** The caller's address; `local` where nobody can say (wire.md "Settings"). Never from a header that a client may set. */
  readonly address: string;
  readonly user_agent: string;
  /** The session that authenticated the request; null for an API key. */
  readonly session_id: string | null;
}

/** Nobody called: a sweep, a queue message, an alarm. */
export const NO_CALLER: Caller = { address: "local", user_agent: "", session_id: null };

/** What wrangler.toml binds, as the wings see it. */
export interface Bindings {
  readonly DB: D1Database;
  readonly ISSUER: DurableObjectNamespace;
  readonly PURGE: DurableObjectNamespace;
  readonly SESSION: DurableObjectNamespace;
  readonly ONCE: DurableObjectNamespace;
  readonly WRITER: DurableObjectNamespace;
  /** Brakes, not quotas: counted for each location and roughly. Null where wrangler.toml binds none. */
  readonly ADDRESS_LIMIT: RateLimit | null;
  readonly ACTOR_LIMIT: RateLimit | null;
  readonly BYTES: R2Bucket;
  readonly WORK: Queue;
  readonly ASSETS: Fetcher | null;
  /** On one machine: answers `full` or `ok` for the disk. Null elsewhere. */
  readonly STORAGE: Fetcher | null;
}

/**
 * What the worker plugs into the wings from above, so that no wing needs to know one further down. Each wing declares its own
 * part (`declare module`); `worker/wiring.ts` fills them all.
 */
// biome-ignore lint/suspicious/noEmptyInterface: the wings declare its parts
export interface Wiring {}

/** What an audit entry may say besides its action, resource and details. */
export interface AuditOptions {
  /** Who did it where the request itself is nobody's: somebody who has just proven who they are by signing in. */
  readonly actor?: { readonly id: string; readonly type: ActorType };
  /** A fixed id makes the entry idempotent: the second insert of the same id is ignored. */
  readonly id?: string;
  /** Where an action is about resources of several kinds: another one than the catalogue has. */
  readonly resource_type?: string;
}

export type AuditDetails = Readonly<Record<string, unknown>>;

/**
 * The statement that records an event of the catalogue (platform/events.ts); it goes into the batch of the change itself
 * (invariant 3).
 */
export type Audit = (
  action: EventAction,
  resourceId: string,
  details?: AuditDetails,
  options?: AuditOptions,
) => Statement;

/** One unit of work's view of the world: a request, a queue message, a cron tick. */
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
  /** The Idempotency-Key of a creating request with all that was asked, secrets included; null where none was sent. */
  readonly idempotency: { readonly key: string; readonly request: Uint8Array } | null;
  /** On one machine with too little space left: what can be left unwritten is. */
  readonly storageFull: boolean;
  /** The statement that writes this audit event; it belongs into the batch of the change (invariant 3). */
  readonly audit: Audit;
  /** Runs on after the answer; for what may be lost without harm (a wake-up, a last-used time). */
  defer(work: Promise<unknown>): void;
}

/** What a context must have to look somebody up: authentication has no actor yet. */
export type LookupContext = Omit<Context, "actor" | "audit" | "caller">;

/** The time of this context as rows and JSON have it: RFC 3339 UTC with milliseconds. */
export function timestamp(ctx: Pick<Context, "clock">): string {
  return ctx.clock.now().toISOString();
}
