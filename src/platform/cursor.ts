import { and, type SQL, type SQLWrapper, sql } from "drizzle-orm";
import type { SQLiteColumn } from "drizzle-orm/sqlite-core";
import { invalid } from "./errors.ts";
import { base64url, fromBase64url, utf8 } from "./text.ts";

/**
 * Keyset pagination. A cursor holds the order values of a page's last row; the next page holds the rows after it.
 * Inserts and deletes in between repeat or skip nothing, unlike pages by number.
 */

/** One term of an order. The last term's column must be unique. */
export interface By {
  readonly column: SQLiteColumn;
  readonly descending: boolean;
}

export const up = (column: SQLiteColumn): By => ({ column, descending: false });
export const down = (column: SQLiteColumn): By => ({ column, descending: true });

export function orderSql({ column, descending }: By): SQL {
  return descending ? sql`${column} desc` : sql`${column} asc`;
}

type Value = string | number | null;

/** base64url of the order's names and the row's values. */
export function cursorOf(order: readonly By[], row: Record<string, unknown>): string {
  const values = order.map(({ column }) => row[column.name] as Value);
  return base64url(utf8(JSON.stringify([nameOf(order), values])));
}

/** Condition for the rows after the cursor. Throws 400 for a cursor that does not belong to this order. */
export function behind(order: readonly By[], cursor: string): SQL | undefined {
  const values = valuesOf(order, cursor);
  const cases = order.map((by, at) =>
    and(...order.slice(0, at).map(({ column }, i) => sql`${column} is ${values[i]}`), after(by, values[at] ?? null)),
  );
  return sql`(${sql.join(
    cases.filter((one) => one !== undefined),
    sql` or `,
  )})`;
}

/** SQLite sorts NULL first. */
function after({ column, descending }: By, value: Value): SQLWrapper {
  if (value === null) return descending ? sql`false` : sql`${column} is not null`;
  return descending ? sql`(${column} < ${value} or ${column} is null)` : sql`${column} > ${value}`;
}

function valuesOf(order: readonly By[], cursor: string): Value[] {
  const [name, values] = decoded(cursor);
  if (name !== nameOf(order) || !Array.isArray(values) || values.length !== order.length) {
    throw invalid("cursor", "is not the next_cursor of a page in this order");
  }
  if (!values.every((value) => value === null || typeof value === "string" || typeof value === "number"))
    throw invalid("cursor", "is not the next_cursor of a page in this order");
  return values;
}

function decoded(cursor: string): unknown[] {
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(fromBase64url(cursor)));
    return Array.isArray(value) ? value : [];
  } catch {
    return [];
  }
}

function nameOf(order: readonly By[]): string {
  return order.map(({ column, descending }) => `${column.name}${descending ? "-" : ""}`).join(" ");
}
