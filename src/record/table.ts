import { index, integer, sqliteTable, text } from "drizzle-orm/sqlite-core";
import type { ActorType } from "../platform/context.ts";
import type { AuditCategory } from "../platform/events.ts";

/** Append only: triggers in the migration reject UPDATE and DELETE (invariant 3). `seq` is the commit order. */
export const auditEvents = sqliteTable(
  "audit_events",
  {
    seq: integer().primaryKey({ autoIncrement: true }),
    id: text().notNull().unique(),
    actor: text().notNull(),
    actor_type: text().$type<ActorType>().notNull(),
    action: text().notNull(),
    resource_type: text().notNull(),
    resource_id: text().notNull(),
    details: text({ mode: "json" }).$type<Readonly<Record<string, unknown>>>().notNull(),
    timestamp: text().notNull(),
    event_category: text().$type<AuditCategory>().notNull(),
    request_id: text().notNull(),
  },
  (table) => [
    index("audit_events_resource").on(table.resource_type, table.resource_id),
    index("audit_events_category").on(table.event_category, table.seq),
  ],
);
