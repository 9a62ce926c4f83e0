import { type SQL, sql } from "drizzle-orm";
import type { BatchItem } from "drizzle-orm/batch";
import { type DrizzleD1Database, drizzle } from "drizzle-orm/d1";
import { sqliteTable, text } from "drizzle-orm/sqlite-core";

export type Database = DrizzleD1Database & { readonly $client: D1Database };

/** A statement that has not run: batches are made of these. */
export type Statement = BatchItem<"sqlite">;

export function openDatabase(d1: D1Database): Database {
  return drizzle(d1);
}

/**
 * The id column of a table of another wing, for a foreign key: `.references(() => rowOf("certificates").id)`. It names its
 * column: drizzle remembers the columns without a name by their table's name and would take this for the whole table.
 */
export function rowOf(table: string) {
  return sqliteTable(table, { id: text("id").primaryKey() });
}

/** A statement in SQL for a batch. (Drizzle's batch binds parameters through `stmt`, which its own raw statements lack.) */
export function rawStatement(db: Database, query: SQL): Statement {
  const statement = db.run(query);
  const prepare = () => db.$client.prepare(statement.getQuery().sql);
  return Object.assign(statement, { stmt: { bind: (...values: unknown[]) => prepare().bind(...values) } });
}

const GUARD_MESSAGE = "malformed JSON";

/**
 * A statement that rolls the whole batch back when `condition` is false: SQLite raises "malformed JSON" on the marker.
 * The caller catches GuardFailed from `runBatch`.
 */
export function guard(db: Database, condition: SQL): Statement {
  return rawStatement(db, sql`select case when ${condition} then 1 else json('guard failed') end`);
}

/** A guard of the batch did not hold: somebody else was faster; nothing was written. */
export class GuardFailed extends Error {
  readonly code = "guard_failed";
}

/** A UNIQUE or PRIMARY KEY constraint failed; `columns` as SQLite names them ("teams.name"). */
export class UniqueViolation extends Error {
  readonly code = "unique_violation";
  readonly columns: readonly string[];
  constructor(columns: readonly string[], cause: unknown) {
    super(`unique: ${columns.join(", ")}`, { cause });
    this.columns = columns;
  }
}

/** A FOREIGN KEY constraint failed: a reference to an absent row, or a delete of a row in use. */
export class ReferenceViolation extends Error {
  readonly code = "reference_violation";
}

/** Runs the statements as one transaction. Throws GuardFailed, UniqueViolation or ReferenceViolation, else what D1 threw. */
export async function runBatch(db: Database, statements: readonly Statement[]): Promise<unknown[]> {
  const [first, ...rest] = statements;
  if (!first) return [];
  try {
    return await db.batch([first, ...rest]);
  } catch (error) {
    throw translateDatabaseError(error);
  }
}

/** Turns D1's constraint messages into typed errors; anything else comes back as it is. */
export function translateDatabaseError(error: unknown): unknown {
  const text = `${messageOf(error)} ${error instanceof Error ? messageOf(error.cause) : ""}`;
  const unique = /UNIQUE constraint failed: ([A-Za-z0-9_., ]+?)(?::|$|\s\()/.exec(text);
  if (unique?.[1])
    return new UniqueViolation(
      unique[1].split(",").map((column) => column.trim()),
      error,
    );
  if (text.includes("FOREIGN KEY constraint failed")) return new ReferenceViolation("foreign key", { cause: error });
  if (text.includes(GUARD_MESSAGE)) return new GuardFailed("a guard of the batch did not hold", { cause: error });
  return error;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : "";
}

/** `column in (values)` without D1's limit of 100 bound parameters. */
export function inList(column: SQL | { getSQL(): SQL }, values: readonly string[]): SQL {
  return sql`${column} in (select value from json_each(${JSON.stringify(values)}))`;
}
