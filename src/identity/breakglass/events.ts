import { type Context, timestamp } from "../../platform/context.ts";
import type { Statement } from "../../platform/database.ts";
import { randomId } from "../../platform/ids.ts";
import { enqueue } from "../../platform/work/work.ts";
import type { ActorRef } from "../grants.ts";

/** The kind of work for what somebody should hear of at once; src/record/alerts.ts delivers it. */
export const ALERT_KIND = "identity.alert";

/** What is posted to the webhook: no secret in it. Delivered at least once; `id` tells repetitions apart. */
export interface Alert {
  readonly id: string;
  readonly event: string;
  /** Whose account it is about. */
  readonly actor: string;
  /** Who did it: nobody yet at a sign-in. */
  readonly by: string;
  readonly address: string;
  readonly at: string;
  readonly request_id: string;
  readonly reason?: string;
}

export interface BreakglassEvent {
  readonly verb: "login" | "login_failed" | "locked" | "password_set" | "removed" | "unlocked";
  /** Whose account it is about; as a caller gave it, where there is no such user. */
  readonly actor_id: string;
  readonly reason?: string;
  /** Who did it, where the context does not know yet. */
  readonly by?: ActorRef;
}

/** The statements that make an event loud: its audit row and, where a webhook is set, its alert; with the ids of the work to wake. */
export function loudly(
  ctx: Context,
  events: readonly BreakglassEvent[],
): { statements: Statement[]; wakeups: readonly string[] } {
  const statements: Statement[] = [];
  const wakeups: string[] = [];
  for (const event of events) {
    const why = event.reason === undefined ? {} : { reason: event.reason };
    const action = `auth.breakglass.${event.verb}` as const;
    statements.push(
      ctx.audit(
        action,
        event.actor_id,
        { address: ctx.caller.address, ...why },
        { ...(event.by ? { actor: event.by } : {}) },
      ),
    );
    if (ctx.settings.auth.alertWebhook === null) continue;
    const alert: Alert = {
      id: randomId(ctx.random, "alert-"),
      event: action,
      actor: event.actor_id,
      by: (event.by ?? ctx.actor).id,
      address: ctx.caller.address,
      at: timestamp(ctx),
      request_id: ctx.requestId,
      ...why,
    };
    const { statement, id } = enqueue(ctx, ALERT_KIND, { ...alert });
    statements.push(statement);
    wakeups.push(id);
  }
  return { statements, wakeups };
}

/** Each of these is an error to whoever watches the logs: nobody uses the emergency door on an ordinary day. */
export function logLoudly(ctx: Context, events: readonly BreakglassEvent[]): void {
  for (const { verb, actor_id, reason } of events)
    ctx.log.error(`auth.breakglass.${verb}`, { actor_id, address: ctx.caller.address, reason: reason ?? null });
}
