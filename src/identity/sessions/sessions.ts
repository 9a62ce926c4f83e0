import type { Context } from "../../platform/context.ts";
import type { ActorRef } from "../grants.ts";

export interface OpenedSession {
  readonly session_id: string;
  /** Unix milliseconds. */
  readonly absolute_expires_at: number;
  /** Set-Cookie values: the session and its CSRF token. */
  readonly cookies: readonly string[];
}

/** Opens a session for an actor who has just proven who it is; always a new id (no fixation). */
export async function openSession(_ctx: Context, _actor: ActorRef): Promise<OpenedSession> {
  throw new Error("not yet");
}

/** Ends all sessions of an actor, or all but one; how many held. */
export async function endSessionsOf(_ctx: Context, _actor: ActorRef, _except: string | null = null): Promise<number> {
  return 0;
}

/** Gives all of an actor's sessions new CSRF tokens: its rights have changed. */
export async function rotateCsrfOf(_ctx: Context, _actor: ActorRef): Promise<void> {}
