import { type AuditEntry, type Context, timestamp } from "../platform/context.ts";
import type { Statement } from "../platform/database.ts";
import { randomId } from "../platform/ids.ts";
import { auditEvents } from "./table.ts";

/**
 * The statement that records `entry`; it goes into the batch of the change itself (invariant 3). With a fixed `id` a
 * repetition is ignored, so that a replayed effect is recorded once.
 */
export function auditStatement(ctx: Omit<Context, "audit">, entry: AuditEntry): Statement {
  return ctx.db
    .insert(auditEvents)
    .values({
      id: entry.id ?? randomId(ctx.random, "audit-"),
      actor: (entry.actor ?? ctx.actor).id,
      actor_type: (entry.actor ?? ctx.actor).type,
      action: entry.action,
      resource_type: entry.resource_type,
      resource_id: entry.resource_id,
      details: entry.details ?? {},
      timestamp: timestamp(ctx),
      event_category: entry.category,
      request_id: ctx.requestId,
    })
    .onConflictDoNothing({ target: auditEvents.id });
}
