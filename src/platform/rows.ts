import { z } from "@hono/zod-openapi";
import { and, eq, getTableColumns, type SQL, sql } from "drizzle-orm";
import type { SQLiteColumn, SQLiteTable } from "drizzle-orm/sqlite-core";
import type { Context } from "./context.ts";
import { type By, behind, cursorOf, orderSql } from "./cursor.ts";
import { rowExists, type UniqueViolation } from "./database.ts";
import { conflict, invalid, preconditionFailed } from "./errors.ts";
import { ID_PATTERN, randomId, slugId } from "./ids.ts";
import type { Page, PageRequest } from "./paging.ts";

/** What resources share, whether they are declared by `resource()` or written out: fields, versions, pages, references. */

/** Field to table of what it refers to: by name where it is the wing's own, else by `referenced`. */
export type References = Readonly<Record<string, { readonly table: string | SQLiteTable; readonly kind: string }>>;

/** One line of text, as paths, host names and versions are. */
export const lineSchema = z.string().regex(/^[^\p{Cc}]*$/u, "must not have control characters");

/** What people call a thing: not only blanks, and nothing that is not seen (zero width, direction), by which two names look alike. In NFC. */
export const nameSchema = z
  .string()
  .normalize()
  .regex(/^[^\p{Cc}\p{Cf}]*$/u, "must not have control or invisible characters")
  .trim()
  .min(1)
  .max(255);

/** Whether a time is of the years that four digits tell: the text of others does not sort by time. */
export function isSortable(time: Date): boolean {
  const year = time.getUTCFullYear();
  return year >= 0 && year <= 9999;
}

/** Free text of a few lines. */
export const textSchema = z.string().max(4000);

export const idSchema = z.string().regex(ID_PATTERN, "must match [a-z0-9][a-z0-9._-]{0,63}");

/**
 * The body of a PUT: every writable field optional and clearable, server-managed ones tolerated. `demanded` only goes into
 * the document, where the contract has those fields as required.
 */
export function updateBodyOf(writableFields: z.ZodObject, managed: z.ZodRawShape, demanded: readonly string[] = []) {
  const shape: Record<string, z.ZodType> = {};
  for (const [name, schema] of Object.entries(writableFields.shape)) shape[name] = withoutDefault(schema).nullish();
  const body = z.strictObject({ id: z.string().nullish(), ...shape, ...managed });
  return demanded.length === 0 ? body : body.openapi({ required: [...demanded] });
}

function withoutDefault(schema: z.core.$ZodType): z.ZodType {
  if (schema instanceof z.ZodDefault || schema instanceof z.ZodOptional) return withoutDefault(schema.unwrap());
  return schema as z.ZodType;
}

/** The fields of `body` that `schema` declares: everything server-managed stays out (invariant 11). */
export function writable(schema: z.ZodObject, body: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.keys(schema.shape).flatMap((name) => (body[name] === undefined ? [] : [[name, body[name]]])),
  );
}

/** Strong: every write raises `updated_at`. */
export function etagOf(row: { id: string; updated_at: string }): string {
  return `"${row.id}.${Date.parse(row.updated_at).toString(36)}"`;
}

/** 412 unless If-Match is absent, `*`, or names the row's present ETag (RFC 9110 13.1.1). */
export function checkIfMatch(row: { id: string; updated_at: string }, ifMatch: string | null): void {
  if (ifMatch === null) return;
  const wanted = ifMatch.split(",").map((tag) => tag.trim());
  if (wanted.includes("*") || wanted.includes(etagOf(row))) return;
  throw preconditionFailed(`If-Match does not name the present state; it is ${etagOf(row)} now: read again and repeat`);
}

/** A later `updated_at` than the row's, also when the clock stands still or goes back: it is the row's version. */
export function nextUpdatedAt(ctx: Context, before: { updated_at: string }): string {
  return new Date(Math.max(ctx.clock.now().getTime(), Date.parse(before.updated_at) + 1)).toISOString();
}

/**
 * One page of a table with its total. The page's ids come from the index that `order` names, and only then the rows: a
 * deep page reads no row that it does not show. The order ends with a column that is unique.
 */
export async function listPage<R extends Record<string, unknown>>(
  ctx: Context,
  table: SQLiteTable & { id: SQLiteColumn },
  { page, per_page, cursor }: PageRequest,
  { where, order }: { where?: SQL | undefined; order: readonly By[] },
): Promise<Page<R>> {
  const ids = ctx.db
    .select({ id: table.id })
    .from(table)
    .where(cursor === undefined ? where : and(where, behind(order, cursor)))
    .orderBy(...order.map(orderSql))
    .limit(per_page + 1)
    .offset(cursor === undefined ? (page - 1) * per_page : 0);
  const [[count], found] = await ctx.db.batch([
    ctx.db.select({ total: sql<number>`count(*)` }).from(table).where(where),
    ctx.db
      .select()
      .from(table)
      .where(sql`${table.id} in ${ids}`)
      .orderBy(...order.map(orderSql)),
  ]);
  const data = found.slice(0, per_page) as R[];
  const last = data.at(-1);
  return {
    data,
    total: count?.total ?? 0,
    next_cursor: last && found.length > per_page ? cursorOf(order, last) : null,
  };
}

/**
 * null clears: a column that may be empty becomes null, one that may not goes back to the default of a create body; without
 * such a default it is a 400.
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

/** Null for each column that may be empty: a new row shows them all. */
export function empty(table: SQLiteTable): Record<string, unknown> {
  const columns = Object.entries(getTableColumns(table)).filter(([, column]) => !column.notNull);
  return Object.fromEntries(columns.map(([name]) => [name, null]));
}

/** The slug of the name, or with a random tail where another row has it. */
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

/** Every reference that is set (or, on update, that the body changes) must name a row that exists: else a 400 with the field. */
export async function checkReferences(
  ctx: Context,
  spec: { readonly references?: References | undefined },
  row: Record<string, unknown>,
  changed: Record<string, unknown> = row,
): Promise<void> {
  const wanted = Object.entries(spec.references ?? {}).flatMap(([field, { table, kind }]) => {
    const id = row[field];
    return typeof id === "string" && changed[field] !== undefined ? [{ field, table, kind, id }] : [];
  });
  if (wanted.length === 0) return;
  const found = wanted.map(
    ({ field, table, id }) => sql`${rowExists(table, sql`id = ${id}`)} as ${sql.identifier(field)}`,
  );
  const [exists] = await ctx.db.all<Record<string, number>>(sql`select ${sql.join(found, sql`, `)}`);
  const missing = wanted.find(({ field }) => exists?.[field] !== 1);
  if (missing)
    throw invalid(missing.field, `${missing.kind} ${JSON.stringify(missing.id)} does not exist`, "reference_not_found");
}

/** A 409 that names the field and its value; the violation itself where it is none of the spec's columns. */
export function uniqueConflict(
  spec: { readonly kind: string; readonly unique?: readonly string[] | undefined },
  row: Record<string, unknown>,
  error: UniqueViolation,
): Error {
  const field = error.columns
    .map((column) => column.split(".").at(-1) ?? "")
    .find((column) => column === "id" || spec.unique?.includes(column));
  if (field === undefined) return error;
  return conflict(
    "already_exists",
    `${field}: a ${spec.kind} with ${field} ${JSON.stringify(row[field])} exists already`,
  );
}
