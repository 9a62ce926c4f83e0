import { z } from "@hono/zod-openapi";
import { and, eq, getTableColumns, getTableName, type SQL, sql } from "drizzle-orm";
import type { SQLiteColumn, SQLiteTable } from "drizzle-orm/sqlite-core";
import type { Context } from "./context.ts";
import { type By, behind, cursorOf, orderSql } from "./cursor.ts";
import type { UniqueViolation } from "./database.ts";
import { ChangedMeanwhile, conflict, invalid, preconditionFailed } from "./errors.ts";
import { ID_PATTERN, randomId, slugId } from "./ids.ts";
import type { Page, PageRequest } from "./paging.ts";

/** Fields, versions and pages, shared by all resources whether declared with `resource()` or written out. */

/** One line of text, such as a path, host name or version. */
export const lineSchema = z.string().regex(/^[^\p{Cc}]*$/u, "must not have control characters");

/**
 * A display name in NFC: not blank, and without invisible characters (zero width, direction) that make two names look
 * alike.
 */
export const nameSchema = z
  .string()
  .normalize()
  .regex(/^[^\p{Cc}\p{Cf}]*$/u, "must not have control or invisible characters")
  .trim()
  .min(1)
  .max(255);

/** Whether a time has a four-digit year; the text of other years does not sort by time. */
export function isSortable(time: Date): boolean {
  const year = time.getUTCFullYear();
  return year >= 0 && year <= 9999;
}

/** Multi-line free text. */
export const textSchema = z.string().max(4000);

export const idSchema = z.string().regex(ID_PATTERN, "must match [a-z0-9][a-z0-9._-]{0,63}");

/**
 * The body of a PUT: every writable field is optional and clearable, server-managed fields are accepted and ignored.
 * `demanded` fields are marked required in the OpenAPI document only, as in the contract.
 */
export function updateBodyOf(writableFields: z.ZodObject, managed: z.ZodRawShape, demanded: readonly string[] = []) {
  const shape: Record<string, z.ZodType> = {};
  for (const [name, schema] of Object.entries(writableFields.shape)) shape[name] = withoutDefault(schema).nullish();
  const body = z.strictObject({ id: z.string().nullish(), ...shape, ...managed });
  return demanded.length === 0 ? body : body.openapi({ required: [...demanded] });
}

export function withoutDefault(schema: z.core.$ZodType): z.ZodType {
  if (schema instanceof z.ZodDefault || schema instanceof z.ZodOptional) return withoutDefault(schema.unwrap());
  return schema as z.ZodType;
}

/** The fields of `body` that `schema` declares; drops server-managed fields (invariant 11). */
export function writable(schema: z.ZodObject, body: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.keys(schema.shape).flatMap((name) => (body[name] === undefined ? [] : [[name, body[name]]])),
  );
}

/** Strong ETag: every write raises `updated_at`. */
export function etagOf(row: { id: string; updated_at: string }): string {
  return `"${row.id}.${Date.parse(row.updated_at).toString(36)}"`;
}

/** Throws 412 unless If-Match is absent, `*`, or contains the row's current ETag (RFC 9110 section 13.1.1). */
export function checkIfMatch(row: { id: string; updated_at: string }, ifMatch: string | null): void {
  if (ifMatch === null) return;
  const wanted = ifMatch.split(",").map((tag) => tag.trim());
  if (wanted.includes("*") || wanted.includes(etagOf(row))) return;
  throw preconditionFailed(`If-Match does not name the present state; it is ${etagOf(row)} now: read again and repeat`);
}

/**
 * An `updated_at` later than the row's, even if the clock stands still or goes back: it serves as the row's version.
 */
export function nextUpdatedAt(ctx: Context, before: { updated_at: string }): string {
  return new Date(Math.max(ctx.clock.now().getTime(), Date.parse(before.updated_at) + 1)).toISOString();
}

/**
 * One page of a table, and the total. Selects the page's ids from the index that matches `order` first, then only those
 * rows, so a deep page reads no other rows. The order must end with a unique column.
 */
export async function listPage<T extends SQLiteTable & { id: SQLiteColumn }>(
  ctx: Context,
  table: T,
  { page, per_page, cursor }: PageRequest,
  { where, order }: { where?: SQL | undefined; order: readonly By[] },
): Promise<Page<T["$inferSelect"]>> {
  const plain: SQLiteTable = table;
  const ids = ctx.db
    .select({ id: table.id })
    .from(plain)
    .where(cursor === undefined ? where : and(where, behind(order, cursor)))
    .orderBy(...order.map(orderSql))
    .limit(per_page + 1)
    .offset(cursor === undefined ? (page - 1) * per_page : 0);
  const [[count], found] = await ctx.db.batch([
    ctx.db.select({ total: sql<number>`count(*)` }).from(plain).where(where),
    ctx.db
      .select()
      .from(plain)
      .where(sql`${table.id} in ${ids}`)
      .orderBy(...order.map(orderSql)),
  ]);
  const data = found.slice(0, per_page);
  const last = data.at(-1);
  return {
    data,
    total: count?.total ?? 0,
    next_cursor: last && found.length > per_page ? cursorOf(order, last) : null,
  };
}

/**
 * Applies nulls: a nullable column becomes null, any other column its default from the create body. Throws 400 if there
 * is no default.
 */
export function cleared(
  table: SQLiteTable,
  schema: z.ZodObject,
  values: Record<string, unknown>,
): Record<string, unknown> {
  const columns = getTableColumns(table);
  const result = { ...values };
  for (const [name, value] of Object.entries(values)) {
    const column = columns[name];
    if (value !== null || !column?.notNull) continue;
    const standard = (schema.shape[name] as z.ZodType | undefined)?.safeParse(undefined);
    if (!standard?.success || standard.data === undefined) throw invalid(name, "cannot be cleared");
    result[name] = standard.data;
  }
  return result;
}

/** Null for each nullable column, so that a new row has every field. */
export function empty(table: SQLiteTable): Record<string, unknown> {
  const columns = Object.entries(getTableColumns(table)).filter(([, column]) => !column.notNull);
  return Object.fromEntries(columns.map(([name]) => [name, null]));
}

/** The slug of the name, with a random suffix if it is taken. */
export async function freeId(
  ctx: Context,
  table: SQLiteTable & { id: SQLiteColumn },
  prefix: string,
  name: string,
): Promise<string> {
  const slug = slugId(prefix, name);
  if (slug === "") return randomId(ctx.random, prefix);
  const [taken] = await ctx.db.select({ id: table.id }).from(table).where(eq(table.id, slug));
  return taken ? `${slug.slice(0, 52)}-${randomId(ctx.random, "").slice(0, 10)}` : slug;
}

/**
 * A 409 naming the field and value: the last column of the violated constraint (a name is unique within the preceding
 * columns). A violation on another table of the batch comes from a concurrent request.
 */
export function uniqueConflict(
  kind: string,
  table: SQLiteTable,
  row: Readonly<Record<string, unknown>>,
  error: UniqueViolation,
) {
  const [owner, field = ""] = error.columns.at(-1)?.split(".") ?? [];
  if (owner !== getTableName(table)) return new ChangedMeanwhile();
  return conflict("already_exists", `${field}: a ${kind} with ${field} ${JSON.stringify(row[field])} exists already`);
}

export async function findRow<T extends SQLiteTable & { id: SQLiteColumn }>(
  ctx: Pick<Context, "db">,
  table: T,
  id: string,
): Promise<T["$inferSelect"] | null> {
  const plain: SQLiteTable = table;
  const [row] = await ctx.db.select().from(plain).where(eq(table.id, id));
  return row ?? null;
}
