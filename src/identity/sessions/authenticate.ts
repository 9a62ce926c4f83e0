import type { Actor } from "../../platform/context.ts";
import type { LookupContext } from "../grants.ts";

export interface SessionAuthentication {
  readonly actor: Actor;
  readonly session_id: string;
  /** Set-Cookie values to send along: the CSRF token when the client shows another one than the present. */
  readonly cookies: readonly string[];
}

/**
 * The actor behind the session cookie; null without a cookie or with one that does not hold. Throws 403 `csrf_failed` for a
 * state-changing method without the session's CSRF token.
 */
export async function authenticateSession(
  _ctx: LookupContext,
  _request: Request,
): Promise<SessionAuthentication | null> {
  return null;
}
