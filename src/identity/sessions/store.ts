import type { ActorType, Context } from "../../platform/context.ts";
import { sha256Hex } from "../../platform/text.ts";

/** What the Durable Object `Session` (durable-objects/session.ts) keeps: all sessions of one actor. Times are Unix milliseconds. */
export interface SessionRow {
  readonly id: string;
  readonly ip_address: string;
  readonly user_agent: string;
  readonly created_at: number;
  readonly last_seen_at: number;
  readonly idle_expires_at: number;
  readonly absolute_expires_at: number;
}

export interface NewSession {
  readonly id: string;
  readonly actor_id: string;
  readonly actor_type: ActorType;
  readonly ip_address: string;
  readonly user_agent: string;
  readonly idle_ms: number;
  readonly absolute_ms: number;
  readonly now: number;
}

/** What a request must know of its session, which holds now. */
export interface Held {
  readonly actor_id: string;
  readonly actor_type: ActorType;
  /** What the CSRF token is derived from: raised by each rotation of the actor's tokens. */
  readonly csrf_generation: number;
  readonly absolute_expires_at: number;
}

export interface LiveSession extends SessionRow, Held {}

export interface Opened {
  readonly csrf_generation: number;
  /** The sessions that made room: an actor holds a bounded number. */
  readonly displaced: readonly string[];
}

/** All methods are atomic. The caller's clock decides, so that tests can turn it. */
export interface SessionStore {
  open(session: NewSession): Promise<Opened>;
  /** The session, its idle time pushed on; null when unknown, revoked, idle too long or at its absolute end. */
  touch(id: string, now: number): Promise<Held | null>;
  /** The session as it stands, its idle time left alone; null when it does not hold. */
  find(id: string, now: number): Promise<LiveSession | null>;
  /** Those that hold, the newest first. */
  list(now: number): Promise<readonly SessionRow[]>;
  /** True when the session was there and held. */
  revoke(id: string, now: number): Promise<boolean>;
  /** Revokes all but `except`; how many held. */
  revokeAll(now: number, except: string | null): Promise<number>;
  rotateCsrf(): Promise<void>;
}

/** The shard of an actor: part of each of its session ids, and the name of its object. 32 hex digits. */
export async function shardOf(actor: { readonly type: ActorType; readonly id: string }): Promise<string> {
  return (await sha256Hex(`session|${actor.type}|${actor.id}`)).slice(0, 32);
}

/** `ses-<shard>-<26 characters>` */
export const SESSION_ID = /^ses-([0-9a-f]{32})-[0-9a-v]{26}$/;

export function sessionStore(ctx: Pick<Context, "bindings">, shard: string): SessionStore {
  return ctx.bindings.SESSION.getByName(shard) as unknown as SessionStore;
}
