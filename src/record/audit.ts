import { type AuditDetails, type AuditOptions, type Context, timestamp } from "../platform/context.ts";
import type { Statement } from "../platform/database.ts";
import { aboutOf, type EventAction } from "../platform/events.ts";
import { randomId } from "../platform/ids.ts";
import { waking } from "../platform/work/work.ts";
import { reactionsTo } from "./reactions.ts";
import { auditEvents } from "./table.ts";

/**
 * Statement that records an event. With a fixed `id` a repetition is ignored, so a replayed effect is recorded once.
 */
export function auditStatement(
  ctx: Omit<Context, "audit">,
  action: EventAction,
  resource_id: string,
  details: AuditDetails = {},
  { actor = ctx.actor, id, resource_type }: AuditOptions = {},
): Statement {
  const [resource, event_category] = aboutOf(action);
  const statement = ctx.db
    .insert(auditEvents)
    .values({
      id: id ?? randomId(ctx.random, "audit-"),
      actor: actor.id,
      actor_type: actor.type,
      action,
      resource_type: resource_type ?? resource,
      resource_id,
      details,
      timestamp: timestamp(ctx),
      event_category,
      request_id: ctx.requestId,
    })
    .onConflictDoNothing({ target: auditEvents.id });
  return waking(statement, reactionsTo(action, ctx.wiring.reactions));
}
