import { index, integer, primaryKey, sqliteTable, text } from "drizzle-orm/sqlite-core";

/** Which sealing keys have sealed something in this state: starting without one of them would lose what it sealed. */
export const sealingKeys = sqliteTable("sealing_keys", {
  id: text().primaryKey(),
  check_value: text().notNull(),
  created_at: text().notNull(),
});

/** Work (platform/work): what committed changes ask for, and one row for each kind that recurs. */
export const work = sqliteTable(
  "work",
  {
    id: text().primaryKey(),
    kind: text().notNull(),
    payload: text({ mode: "json" }).$type<Readonly<Record<string, unknown>>>().notNull(),
    state: text({ enum: ["due", "dead"] }).notNull(),
    attempts: integer().notNull(),
    due_at: text().notNull(),
    /** Until then one run has it. */
    lease_until: text(),
    /** Rises with every claim. */
    fence: integer().notNull().default(0),
    last_error: text(),
    created_at: text().notNull(),
  },
  (table) => [
    index("work_due").on(table.kind, table.state, table.due_at, table.id),
    index("work_state").on(table.state, table.created_at, table.id),
  ],
);

/**
 * Answers of creating requests that carried an Idempotency-Key; sealed, as an answer may show a secret once. `digest` is a keyed
 * one (`Sealer.mac`) of the request, which may have a password in it.
 */
export const idempotencyKeys = sqliteTable(
  "idempotency_keys",
  {
    actor: text().notNull(),
    key: text().notNull(),
    digest: text().notNull(),
    status: integer().notNull(),
    answer: text().notNull(),
    created_at: text().notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.actor, table.key] }),
    index("idempotency_keys_created").on(table.created_at),
  ],
);

/** One row: how often the minute's tick has come, and since when a restore's losses are being brought back (platform/whole.ts). */
export const inventoryState = sqliteTable("inventory_state", {
  id: integer().primaryKey(),
  beat: integer().notNull(),
  recovering_since: text(),
});
