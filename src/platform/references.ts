import { getTableColumns, getTableName, type SQL, sql } from "drizzle-orm";
import { getTableConfig, type SQLiteTable } from "drizzle-orm/sqlite-core";
import type { Context } from "./context.ts";
import { rowExists } from "./database.ts";
import { invalid } from "./errors.ts";

/** References between tables, derived from their foreign keys. */

/** A body field that names a row of a table. */
export interface Reference {
  readonly field: string;
  readonly table: string;
  /** The word for the row in errors. */
  readonly kind: string;
  readonly id: string;
}

/** Throws 400, naming the field, unless each of these rows exists. */
export async function mustExist(ctx: Context, wanted: readonly Reference[]): Promise<void> {
  if (wanted.length === 0) return;
  const found = wanted.map(
    ({ field, table, id }) => sql`${rowExists(table, sql`id = ${id}`)} as ${sql.identifier(field)}`,
  );
  const [exists] = await ctx.db.all<Record<string, number>>(sql`select ${sql.join(found, sql`, `)}`);
  const missing = wanted.find(({ field }) => exists?.[field] !== 1);
  if (missing)
    throw invalid(missing.field, `${missing.kind} ${JSON.stringify(missing.id)} does not exist`, "reference_not_found");
}

/**
 * Throws 400, naming the field, unless every reference that is set (on update: that the body changes) points to an
 * existing row.
 */
export function checkReferences(
  ctx: Context,
  table: SQLiteTable,
  row: Readonly<Record<string, unknown>>,
  changed: Readonly<Record<string, unknown>> = row,
): Promise<void> {
  const wanted = getTableConfig(table).foreignKeys.flatMap((key): Reference[] => {
    const { columns, foreignTable } = key.reference();
    const field = fieldOf(table, columns[0]);
    const id = row[field];
    if (typeof id !== "string" || changed[field] === undefined) return [];
    // `certificate_profile_id` names a "certificate profile".
    return [{ field, table: getTableName(foreignTable), kind: words(field.replace(/_id$/, "")), id }];
  });
  return mustExist(ctx, wanted);
}

function fieldOf(table: SQLiteTable, column: unknown): string {
  const found = Object.entries(getTableColumns(table)).find(([, one]) => one === column);
  if (!found) throw new Error(`a foreign key of ${getTableName(table)} has no column`);
  return found[0];
}

/**
 * Counts the rows of one table that refer to a row, in words: "1 owner", "2 renewal policies". Null if there are none.
 */
export async function usesOf(ctx: Context, table: SQLiteTable, id: string): Promise<string | null> {
  const name = getTableName(table);
  const keys = await ctx.db.all<{ table: string; column: string }>(sql`
    select t.name as "table", f."from" as "column" from sqlite_schema t join pragma_foreign_key_list(t.name) f
    where t.type = 'table' and t.name not like '\\_cf\\_%' escape '\\' and f."table" = ${name} order by t.rowid`);
  for (const { table: other, column } of keys) {
    const counted: SQL = sql`select count(*) as n from ${sql.identifier(other)} where ${sql.identifier(column)} = ${id}`;
    const { n } = await ctx.db.get<{ n: number }>(counted);
    if (n > 0) return `${n} ${counting(n, other, name)}`;
  }
  return null;
}

/**
 * A row count in words. `certificate_targets` maps certificates to targets, so for a target its rows count as
 * certificates.
 */
function counting(n: number, table: string, referred: string): string {
  const own = table.endsWith(`_${referred}`) ? `${table.slice(0, -referred.length - 1)}s` : table;
  return words(n === 1 ? own.replace(/ies$/, "y").replace(/s$/, "") : own);
}

function words(name: string): string {
  return name.replaceAll("_", " ");
}
