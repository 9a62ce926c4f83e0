import type { Context } from "../../platform/context.ts";
import type { Statement } from "../../platform/database.ts";
import type { ActorRef } from "../grants.ts";

export interface BreakglassEvent {
  readonly verb: "login" | "login_failed" | "locked" | "password_set" | "removed" | "unlocked";
  /** The account concerned; the id as the caller sent it if there is no such user. */
  readonly actor_id: string;
  readonly reason?: string;
  /** The actor, where the context has none yet. */
  readonly by?: ActorRef;
}

/** Audit statements of the events; src/record/alerts.ts reacts to each. */
export function recorded(ctx: Context, events: readonly BreakglassEvent[]): Statement[] {
  return events.map(({ verb, actor_id, reason, by }) =>
    ctx.audit(
      `auth.breakglass.${verb}`,
      actor_id,
      { address: ctx.caller.address, ...(reason === undefined ? {} : { reason }) },
      by ? { actor: by } : {},
    ),
  );
}

/** Logged as errors, because break-glass access is never routine. */
export function logLoudly(ctx: Context, events: readonly BreakglassEvent[]): void {
  for (const { verb, actor_id, reason } of events)
    ctx.log.error(`auth.breakglass.${verb}`, { actor_id, address: ctx.caller.address, reason: reason ?? null });
}
