import { and, eq, type SQL, sql } from "drizzle-orm";
import type { BatchItem } from "drizzle-orm/batch";
import { type DrizzleD1Database, drizzle } from "drizzle-orm/d1";
import { getTableConfig, type SQLiteColumn, type SQLiteTable, sqliteTable, text } from "drizzle-orm/sqlite-core";
import { ChangedMeanwhile } from "./errors.ts";

export type Database = DrizzleD1Database & { readonly $client: D1Database };

/** A statement not yet run; batches are made of these. */
export type Statement = BatchItem<"sqlite"> | Guard;

export function openDatabase(d1: D1Database): Database {
  return drizzle(d1);
}

/**
 * The id column of another wing's table, for a foreign key: `.references(() => rowOf("certificates").id)`. The column
 * needs its explicit name: drizzle caches unnamed columns by table name and would take this stub for the whole table.
 */
export function rowOf(table: string) {
  return sqliteTable(table, { id: text("id").primaryKey() });
}

/** The table a column's foreign key points to. */
export function referenced(column: SQLiteColumn): SQLiteTable & { id: SQLiteColumn } {
  const keys = getTableConfig(column.table).foreignKeys.map((key) => key.reference());
  const found = keys.find(({ columns }) => columns.some((one) => one.name === column.name));
  if (!found) throw new Error(`${column.name} is no foreign key`);
  return found.foreignTable as SQLiteTable & { id: SQLiteColumn };
}

/** For a column with a foreign key: the id, or null if that row no longer exists. */
export function ifThere(column: SQLiteColumn, id: string | null): SQL {
  const table = referenced(column);
  return sql`(select ${table.id} from ${table} where ${table.id} = ${id})`;
}

/**
 * Turns raw SQL into a statement for a batch. (Drizzle's batch binds parameters through `stmt`, which its own raw
 * statements lack.)
 */
export function rawStatement(db: Database, query: SQL): BatchItem<"sqlite"> {
  const statement = db.run(query);
  const prepare = () => db.$client.prepare(statement.getQuery().sql);
  return Object.assign(statement, { stmt: { bind: (...values: unknown[]) => prepare().bind(...values) } });
}

/**
 * A condition checked at its position in a batch. If it is false, nothing in the batch is written and `error` is
 * thrown.
 */
export class Guard {
  readonly condition: SQL;
  readonly error: () => Error | Promise<Error>;
  constructor(condition: SQL, error: () => Error | Promise<Error>) {
    this.condition = condition;
    this.error = error;
  }
}

/**
 * Makes a guard for a batch. The default error is ChangedMeanwhile: another request won, so the caller reads again
 * (`repeatedly`).
 */
export function guard(condition: SQL, error: () => Error | Promise<Error> = () => new ChangedMeanwhile()): Guard {
  return new Guard(condition, error);
}

/** Condition: a row of the table (object or name) matches `where`. */
export function rowExists(table: SQLiteTable | string, where: SQL | undefined): SQL {
  return sql`exists (select 1 from ${typeof table === "string" ? sql.identifier(table) : table} where ${where})`;
}

/** Condition: no row of the table matches `where`. */
export function noRow(table: SQLiteTable | string, where: SQL | undefined): SQL {
  return sql`not ${rowExists(table, where)}`;
}

/** Condition: the row has not been written since it was read. */
export function unchanged(
  table: SQLiteTable & { id: SQLiteColumn; updated_at: SQLiteColumn },
  row: { readonly id: string; readonly updated_at: string },
): SQL {
  return rowExists(table, and(eq(table.id, row.id), eq(table.updated_at, row.updated_at)));
}

/**
 * Renders a batch for D1. A guard becomes a query that raises an error if its condition is false. The error text
 * carries the guard's position and `unit`, which identifies the batch when one transaction writes several.
 */
export function rendered(db: Database, statements: readonly Statement[], unit = ""): BatchItem<"sqlite">[] {
  return statements.map((statement, at) => {
    if (!(statement instanceof Guard)) return statement;
    // SQLite's error for a path that does not start with "$" quotes the path.
    return rawStatement(
      db,
      sql`select case when ${statement.condition} then 1 else json_extract('{}', ${`guard:${unit}:${at}`}) end`,
    );
  });
}

/** The unit and position of the guard that raised a D1 error; null for other errors. */
export function failedGuard(error: unknown): { readonly unit: string; readonly at: number } | null {
  const found = /guard:([\w-]*):(\d+)/.exec(textOf(error));
  return found ? { unit: found[1] ?? "", at: Number(found[2]) } : null;
}

/** A UNIQUE or PRIMARY KEY constraint failed; `columns` are SQLite's names ("teams.name"). */
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

/**
 * Runs the statements as one transaction. Throws the error of the first false guard, UniqueViolation,
 * ReferenceViolation, or D1's own error.
 */
export async function runBatch(db: Database, statements: readonly Statement[]): Promise<unknown[]> {
  const [first, ...rest] = rendered(db, statements);
  if (!first) return [];
  try {
    return await db.batch([first, ...rest]);
  } catch (error) {
    throw await batchError(error, statements);
  }
}

/** Translates a D1 error into the error that a batch of these statements throws. */
export async function batchError(error: unknown, statements: readonly Statement[]): Promise<unknown> {
  const failed = failedGuard(error);
  const culprit = failed ? statements[failed.at] : undefined;
  return culprit instanceof Guard ? culprit.error() : translateDatabaseError(error);
}

/** Turns D1's constraint messages into typed errors; returns any other error unchanged. */
export function translateDatabaseError(error: unknown): unknown {
  const text = textOf(error);
  const unique = /UNIQUE constraint failed: ([A-Za-z0-9_., ]+?)(?::|$|\s\()/.exec(text);
  if (unique?.[1])
    return new UniqueViolation(
      unique[1].split(",").map((column) => column.trim()),
      error,
    );
  if (text.includes("FOREIGN KEY constraint failed")) return new ReferenceViolation("foreign key", { cause: error });
  return error;
}

function textOf(error: unknown): string {
  return `${messageOf(error)} ${error instanceof Error ? messageOf(error.cause) : ""}`;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : "";
}

/** `column in (values)` without D1's limit of 100 bound parameters. */
export function inList(column: SQL | { getSQL(): SQL }, values: readonly string[]): SQL {
  return sql`${column} in (select value from json_each(${JSON.stringify(values)}))`;
}
