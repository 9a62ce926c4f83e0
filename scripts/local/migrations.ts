import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { unstable_splitSqlQuery as splitSql } from "wrangler";
import { StartError } from "./settings.ts";

/** The part of a D1 binding used here. */
export interface Sql {
  prepare(query: string): SqlStatement;
  batch(statements: SqlStatement[]): Promise<unknown>;
}

export interface SqlStatement {
  bind(...values: unknown[]): SqlStatement;
  all<T = Record<string, unknown>>(): Promise<{ results: T[] }>;
}

/** The bookkeeping table of `wrangler d1 migrations apply`, verbatim. */
const BOOKKEEPING = `CREATE TABLE IF NOT EXISTS "d1_migrations"(
		id         INTEGER PRIMARY KEY AUTOINCREMENT,
		name       TEXT UNIQUE,
		applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL
)`;

/**
 * Applies the unapplied files of `directory`, ordered by name, each in one batch with its bookkeeping row: a file is
 * applied whole or not at all, in a form that wrangler's own apply recognizes. Returns the names applied now. Throws
 * StartError naming the file that failed.
 */
export async function applyMigrations(db: Sql, directory: string): Promise<string[]> {
  await db.prepare(BOOKKEEPING).all();
  const { results } = await db.prepare('SELECT name FROM "d1_migrations" ORDER BY id').all<{ name: string }>();
  const applied = new Set(results.map((row) => row.name));
  const files = readdirSync(directory)
    .filter((name) => name.endsWith(".sql"))
    .sort();
  const now: string[] = [];
  for (const name of files.filter((file) => !applied.has(file))) {
    const statements = splitStatements(readFileSync(path.join(directory, name), "utf8")).map((sql) => db.prepare(sql));
    const record = db.prepare('INSERT INTO "d1_migrations" (name) VALUES (?)').bind(name);
    try {
      await db.batch([...statements, record]);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new StartError(`migration ${name} failed and left nothing behind: ${why}`, { cause });
    }
    now.push(name);
  }
  const unknown = [...applied].filter((name) => !files.includes(name));
  if (unknown.length > 0) {
    throw new StartError(
      `the state was migrated by a newer version (${unknown.join(", ")} is unknown here); start that version, or restore a backup`,
    );
  }
  return now;
}

/**
 * The statements of a migration file, split at drizzle's breakpoints and at the end of each statement (a trigger's body
 * is part of one).
 */
export function splitStatements(sql: string): string[] {
  return sql
    .split(/^--> statement-breakpoint\s*$|--> statement-breakpoint/m)
    .flatMap((part) => splitSql(part))
    .filter((statement) => statement.replace(/--.*$|\/\*[\s\S]*?\*\//gm, "").trim() !== "");
}
