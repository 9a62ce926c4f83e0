import type { Context } from "../../platform/context.ts";
import type { Statement } from "../../platform/database.ts";
import type { ActorRef } from "../grants.ts";

export interface BreakglassEvent {
  readonly verb: "login" | "login_failed" | "locked" | "password_set" | "removed" | "unlocked";
  /** Whose account it is about; as a caller gave it, where there is no such user. */
  readonly actor_id: string;
  readonly reason?: string;
  /** Who did it, where the context does not know yet. */
  readonly by?: ActorRef;
}

/** The audit rows of events, to each of which src/record/alerts.ts reacts. */
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

/** Each of these is an error to whoever watches the logs: nobody uses the emergency door on an ordinary day. */
export function logLoudly(ctx: Context, events: readonly BreakglassEvent[]): void {
  for (const { verb, actor_id, reason } of events)
    ctx.log.error(`auth.breakglass.${verb}`, { actor_id, address: ctx.caller.address, reason: reason ?? null });
}
