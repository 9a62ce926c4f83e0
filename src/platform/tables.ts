import { index, integer, primaryKey, sqliteTable, text } from "drizzle-orm/sqlite-core";

/**
 * Sealing keys that have sealed something in this database. Starting without one of them would make that data
 * unreadable.
 */
export const sealingKeys = sqliteTable("sealing_keys", {
  id: text().primaryKey(),
  check_value: text().notNull(),
  created_at: text().notNull(),
});

/** Queued work (platform/work): one row per task of a committed change, and one per recurring kind. */
export const work = sqliteTable(
  "work",
  {
    id: text().primaryKey(),
    kind: text().notNull(),
    payload: text({ mode: "json" }).$type<Readonly<Record<string, unknown>>>().notNull(),
    state: text({ enum: ["due", "dead"] }).notNull(),
    attempts: integer().notNull(),
    due_at: text().notNull(),
    /** The lease of the current run. */
    lease_until: text(),
    /** Increments with every claim. */
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
 * Answers of creating requests with an Idempotency-Key. Sealed, because an answer may contain a secret that is shown
 * once. `digest` is a keyed digest (`Sealer.mac`) of the request, which may contain a password.
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

/**
 * A single row: the count of minute ticks, and since when the inventory has been recovering from a restore
 * (platform/whole.ts).
 */
export const inventoryState = sqliteTable("inventory_state", {
  id: integer().primaryKey(),
  beat: integer().notNull(),
  recovering_since: text(),
});
