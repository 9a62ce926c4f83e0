import type { ActorType, Context } from "../../platform/context.ts";
import { sha256Hex } from "../../platform/text.ts";

/**
 * Data of the Durable Object `Session` (durable-objects/session.ts): all sessions of one actor. Times are Unix
 * milliseconds.
 */
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

/** The parts of a live session that a request needs. */
export interface Held {
  readonly actor_id: string;
  readonly actor_type: ActorType;
  /** Input of the CSRF token; incremented when the actor's tokens are rotated. */
  readonly csrf_generation: number;
  readonly absolute_expires_at: number;
}

export interface LiveSession extends SessionRow, Held {}

export interface Opened {
  readonly csrf_generation: number;
  /** Sessions ended to make room: the number per actor is limited. */
  readonly displaced: readonly string[];
}

/** All methods are atomic. The caller passes the time, so that tests control it. */
export interface SessionStore {
  open(session: NewSession): Promise<Opened>;
  /**
   * Extends the idle time and returns the session; null if it is unknown, revoked, idle too long or past its absolute
   * end.
   */
  touch(id: string, now: number): Promise<Held | null>;
  /** The session without extending its idle time; null if it is not alive. */
  find(id: string, now: number): Promise<LiveSession | null>;
  /** Live sessions, newest first. */
  list(now: number): Promise<readonly SessionRow[]>;
  /** Returns whether the session was alive. */
  revoke(id: string, now: number): Promise<boolean>;
  /** Revokes all except `except`; returns how many were alive. */
  revokeAll(now: number, except: string | null): Promise<number>;
  rotateCsrf(): Promise<void>;
}

/** The shard of an actor, 32 hex digits: part of its session ids and the name of its Durable Object. */
export async function shardOf(actor: { readonly type: ActorType; readonly id: string }): Promise<string> {
  return (await sha256Hex(`session|${actor.type}|${actor.id}`)).slice(0, 32);
}

/** `ses-<shard>-<26 characters>` */
export const SESSION_ID = /^ses-([0-9a-f]{32})-[0-9a-v]{26}$/;

export function sessionStore(ctx: Pick<Context, "bindings">, shard: string): SessionStore {
  return ctx.bindings.SESSION.getByName(shard) as unknown as SessionStore;
}
