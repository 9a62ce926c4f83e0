import { z } from "@hono/zod-openapi";
import { and, asc, eq, getTableColumns, type SQL, sql } from "drizzle-orm";
import type { SQLiteColumn, SQLiteTable } from "drizzle-orm/sqlite-core";
import { commit, IdempotencyRace } from "./commit.ts";
import { type AuditCategory, type Context, timestamp } from "./context.ts";
import { GuardFailed, guard, ReferenceViolation, rowOf, type Statement, UniqueViolation } from "./database.ts";
import { conflict, invalid, notFound, preconditionFailed } from "./errors.ts";
import { ID_PATTERN, randomId, slugId } from "./ids.ts";
import { type PageRequest, pageOf, pageQuery } from "./paging.ts";
import { created, noContent, ok, type Route, route } from "./route.ts";

/** The columns that every plain resource has. */
export type ResourceTable = SQLiteTable & { id: SQLiteColumn; created_at: SQLiteColumn; updated_at: SQLiteColumn };

export type Row = Record<string, unknown> & { id: string; created_at: string; updated_at: string };

/** What a plain resource is; `resource()` makes its five routes, their OpenAPI entries, paging, audit events and errors. */
export interface ResourceSpec {
  /** Singular in the words of the API: "renewal policy"; and as an audit resource type: "renewal_policy". */
  readonly kind: string;
  readonly type: string;
  readonly path: string;
  readonly tag: string;
  readonly idPrefix: string;
  readonly operations: { list: string; create: string; get: string; update: string; delete: string };
  readonly permissions: { read: string; edit: string; delete: string };
  readonly category: AuditCategory;
  readonly table: ResourceTable;
  /** What an answer shows. */
  readonly answer: z.ZodObject;
  /** What a create body may set, with defaults; the id is added. */
  readonly create: z.ZodObject;
  /** What an update body may set; absent keeps, null clears where the column may be empty. Defaults to `create`, all optional. */
  readonly update?: z.ZodObject;
  /** Contract fields that may come back in a read-modify-write and never have an effect. */
  readonly managed?: z.ZodRawShape;
  /** Fields that the contract's document demands in an update. We do without: an absent field keeps its value. */
  readonly sentOnUpdate?: readonly string[];
  /** Columns that are unique, each with the field to name in the 409. */
  readonly unique?: readonly string[];
  /** Field to table of what it refers to: an absent one is a 400 that names it. */
  readonly references?: Readonly<Record<string, { table: string; kind: string }>>;
  /** Rows that keep this one from being deleted: a 409 that counts them. */
  readonly blocks?: readonly { table: string; column: string; kind: string; plural?: string }[];
  /** List filters: query parameter to column. */
  readonly filters?: Readonly<Record<string, { schema: z.ZodType; column: SQLiteColumn }>>;
  /** Checks and completes a row before it is written; throws AppError. `before` is null on create. */
  readonly check?: (ctx: Context, row: Row, before: Row | null) => Promise<Row>;
  /** Turns a stored row into what is shown (masked secrets, derived fields). */
  readonly show?: (row: Row) => Record<string, unknown>;
  /** Values a new row has besides the body's: server-managed defaults. */
  readonly initial?: (ctx: Context) => Record<string, unknown>;
  /** Statements that belong to a delete, run before the row goes. */
  readonly alsoDelete?: (ctx: Context, id: string) => Statement[];
}

export interface Resource {
  readonly routes: Route[];
  /** The row, or null. */
  find(ctx: Context, id: string): Promise<Row | null>;
  list(ctx: Context, page: PageRequest, where?: SQL): Promise<{ data: Row[]; total: number }>;
}

/** What people call a thing: no control characters, not only blanks. */
export const nameSchema = z
  .string()
  .trim()
  .min(1)
  .max(255)
  .regex(/^[^\p{Cc}]*$/u, "must not have control characters");

/** Free text of a few lines. */
export const textSchema = z.string().max(4000);

export const idSchema = z.string().regex(ID_PATTERN, "must match [a-z0-9][a-z0-9._-]{0,63}");

const timestamps = {
  created_at: z.string().openapi({ format: "date-time" }).nullish(),
  updated_at: z.string().openapi({ format: "date-time" }).nullish(),
};

export function resource(spec: ResourceSpec): Resource {
  const managed = { ...timestamps, ...spec.managed };
  const createBody = z.strictObject({ id: idSchema.optional(), ...spec.create.shape, ...managed });
  const updateBody = updateBodyOf(spec.update ?? spec.create, managed, spec.sentOnUpdate);
  const params = z.object({ id: z.string() });
  const filters = z.object(
    Object.fromEntries(Object.entries(spec.filters ?? {}).map(([name, filter]) => [name, filter.schema.optional()])),
  );
  const show = spec.show ?? ((row: Row) => row);
  const store = storeOf(spec);
  const common = { tag: spec.tag };

  const routes = [
    route({
      ...common,
      operationId: spec.operations.list,
      method: "get",
      path: spec.path,
      access: spec.permissions.read,
      summary: `List ${spec.tag.toLowerCase()}`,
      query: z.object({ ...pageQuery.shape, ...filters.shape }),
      answers: { 200: { description: "One page", schema: pageOf(spec.answer) } },
      errors: [400],
      handler: async (ctx, { query }) => {
        const asked: Record<string, unknown> = query;
        const conditions = Object.entries(spec.filters ?? {}).flatMap(([name, { column }]) =>
          asked[name] === undefined ? [] : [eq(column, asked[name])],
        );
        const page = pageQuery.parse(query);
        const { data, total } = await store.list(ctx, page, and(...conditions));
        return ok({ data: data.map(show), total, ...page });
      },
    }),
    route({
      ...common,
      operationId: spec.operations.create,
      method: "post",
      path: spec.path,
      access: spec.permissions.edit,
      summary: `Create a ${spec.kind}`,
      body: createBody,
      answers: { 201: { description: "Created", schema: spec.answer } },
      errors: [409],
      handler: async (ctx, { body }) => {
        const row = await store.create(ctx, writable(spec.create, body), body.id);
        return created(show(row), { ETag: etagOf(row), Location: `${spec.path}/${row.id}` });
      },
    }),
    route({
      ...common,
      operationId: spec.operations.get,
      method: "get",
      path: `${spec.path}/{id}`,
      access: spec.permissions.read,
      summary: `Get a ${spec.kind}`,
      params,
      answers: { 200: { description: `The ${spec.kind}`, schema: spec.answer } },
      errors: [400],
      handler: async (ctx, input) => {
        const row = await store.find(ctx, input.params.id);
        if (!row) throw notFound(spec.kind, input.params.id);
        return ok(show(row), { ETag: etagOf(row) });
      },
    }),
    route({
      ...common,
      operationId: spec.operations.update,
      method: "put",
      path: `${spec.path}/{id}`,
      access: spec.permissions.edit,
      summary: `Update a ${spec.kind}: an absent field keeps its value, null clears it`,
      params,
      body: updateBody,
      answers: { 200: { description: `The ${spec.kind} as it is now`, schema: spec.answer } },
      errors: [409, 412],
      handler: async (ctx, input) => {
        const row = await store.update(
          ctx,
          input.params.id,
          writable(spec.update ?? spec.create, input.body),
          input.ifMatch,
        );
        return ok(show(row), { ETag: etagOf(row) });
      },
    }),
    route({
      ...common,
      operationId: spec.operations.delete,
      method: "delete",
      path: `${spec.path}/{id}`,
      access: spec.permissions.delete,
      summary: `Delete a ${spec.kind}; 409 while something uses it`,
      params,
      answers: { 204: { description: "Deleted" } },
      errors: [400, 409, 412],
      handler: async (ctx, input) => {
        await store.remove(ctx, input.params.id, input.ifMatch);
        return noContent();
      },
    }),
  ];
  return { routes, find: store.find, list: store.list };
}

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
 * deep page reads no row that it does not show.
 */
export async function listPage<R>(
  ctx: Context,
  table: SQLiteTable & { id: SQLiteColumn },
  page: PageRequest,
  options: { where?: SQL | undefined; order: readonly SQL[] },
): Promise<{ data: R[]; total: number }> {
  const ids = ctx.db
    .select({ id: table.id })
    .from(table)
    .where(options.where)
    .orderBy(...options.order)
    .limit(page.per_page)
    .offset((page.page - 1) * page.per_page);
  const [[count], rows] = await Promise.all([
    ctx.db.select({ total: sql<number>`count(*)` }).from(table).where(options.where),
    ctx.db
      .select()
      .from(table)
      .where(sql`${table.id} in ${ids}`)
      .orderBy(...options.order),
  ]);
  return { data: rows as R[], total: count?.total ?? 0 };
}

function storeOf(spec: ResourceSpec) {
  const { table } = spec;
  const kindOf = `${spec.type}`;

  const find = async (ctx: Context, id: string): Promise<Row | null> => {
    const [row] = await ctx.db.select().from(table).where(eq(table.id, id));
    return row ? (row as Row) : null;
  };

  const mustFind = async (ctx: Context, id: string): Promise<Row> => {
    const row = await find(ctx, id);
    if (!row) throw notFound(spec.kind, id);
    return row;
  };

  const list = (ctx: Context, page: PageRequest, where?: SQL) =>
    listPage<Row>(ctx, table, page, { where, order: [asc(table.created_at), asc(table.id)] });

  const save = async (ctx: Context, statements: Statement[], row: Row, answer?: { status: number; body: unknown }) => {
    try {
      await commit(ctx, statements, answer ? { answer } : {});
    } catch (error) {
      if (error instanceof IdempotencyRace) throw error;
      if (error instanceof UniqueViolation) throw uniqueConflict(spec, row, error);
      if (error instanceof ReferenceViolation) await checkReferences(ctx, spec, row);
      throw error;
    }
  };

  const create = async (ctx: Context, values: Record<string, unknown>, chosenId: string | undefined): Promise<Row> => {
    const now = timestamp(ctx);
    const name = typeof values.name === "string" ? values.name : "";
    const id = chosenId ?? (await freeId(ctx, table, spec.idPrefix, name));
    let row: Row = { ...empty(table), ...spec.initial?.(ctx), ...values, id, created_at: now, updated_at: now };
    await checkReferences(ctx, spec, row);
    if (spec.check) row = await spec.check(ctx, row, null);
    const shown = (spec.show ?? ((r: Row) => r))(row);
    const audit = ctx.audit({
      action: `${kindOf}.create`,
      resource_type: kindOf,
      resource_id: id,
      category: spec.category,
      details: { name },
    });
    await save(ctx, [ctx.db.insert(table).values(row), audit], row, { status: 201, body: shown });
    return row;
  };

  const update = async (
    ctx: Context,
    id: string,
    values: Record<string, unknown>,
    ifMatch: string | null,
  ): Promise<Row> => {
    const before = await mustFind(ctx, id);
    checkIfMatch(before, ifMatch);
    let row: Row = {
      ...before,
      ...cleared(table, spec.update ?? spec.create, values),
      updated_at: nextUpdatedAt(ctx, before),
    };
    await checkReferences(ctx, spec, row, values);
    if (spec.check) row = await spec.check(ctx, row, before);
    const fields = Object.keys(values).filter((field) => JSON.stringify(before[field]) !== JSON.stringify(row[field]));
    const unchanged = sql`exists (select 1 from ${table} where ${table.id} = ${id} and ${table.updated_at} = ${before.updated_at})`;
    const statements = [
      guard(ctx.db, unchanged),
      ctx.db.update(table).set(row).where(eq(table.id, id)),
      ctx.audit({
        action: `${kindOf}.update`,
        resource_type: kindOf,
        resource_id: id,
        category: spec.category,
        details: { fields },
      }),
    ];
    try {
      await save(ctx, statements, row);
    } catch (error) {
      if (error instanceof GuardFailed)
        throw conflict("changed_meanwhile", `the ${spec.kind} was changed by another request: read again and repeat`);
      throw error;
    }
    return row;
  };

  const remove = async (ctx: Context, id: string, ifMatch: string | null): Promise<void> => {
    const row = await mustFind(ctx, id);
    checkIfMatch(row, ifMatch);
    await checkBlocks(ctx, spec, id);
    const statements = [
      ...(spec.alsoDelete?.(ctx, id) ?? []),
      guard(
        ctx.db,
        sql`exists (select 1 from ${table} where ${table.id} = ${id} and ${table.updated_at} = ${row.updated_at})`,
      ),
      ctx.db.delete(table).where(eq(table.id, id)),
      ctx.audit({
        action: `${kindOf}.delete`,
        resource_type: kindOf,
        resource_id: id,
        category: spec.category,
        details: { name: row.name ?? null },
      }),
    ];
    try {
      await commit(ctx, statements);
    } catch (error) {
      if (error instanceof ReferenceViolation) await checkBlocks(ctx, spec, id);
      if (error instanceof ReferenceViolation) throw conflict("in_use", `the ${spec.kind} is in use`);
      if (error instanceof GuardFailed)
        throw conflict("changed_meanwhile", `the ${spec.kind} was changed or deleted by another request`);
      throw error;
    }
  };

  return { find, list, create, update, remove };
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
function empty(table: SQLiteTable): Record<string, unknown> {
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
  spec: Pick<ResourceSpec, "references">,
  row: Record<string, unknown>,
  changed: Record<string, unknown> = row,
): Promise<void> {
  const wanted = Object.entries(spec.references ?? {}).flatMap(([field, { table, kind }]) => {
    const id = row[field];
    return typeof id === "string" && changed[field] !== undefined ? [{ field, table, kind, id }] : [];
  });
  await Promise.all(wanted.map(({ field, table, kind, id }) => requireRow(ctx, table, id, field, kind)));
}

/** 400 naming `field` unless `table` has a row `id`. */
export async function requireRow(ctx: Context, table: string, id: string, field: string, kind: string): Promise<void> {
  const target = rowOf(table);
  const [found] = await ctx.db.select({ id: target.id }).from(target).where(eq(target.id, id));
  if (!found) throw invalid(field, `${kind} ${JSON.stringify(id)} does not exist`, "reference_not_found");
}

async function checkBlocks(ctx: Context, spec: ResourceSpec, id: string): Promise<void> {
  for (const { table, column, kind, plural } of spec.blocks ?? []) {
    const [row] = await ctx.db.all<{ n: number }>(
      sql`select count(*) as n from ${sql.identifier(table)} where ${sql.identifier(column)} = ${id}`,
    );
    if (row && row.n > 0)
      throw conflict(
        "in_use",
        `the ${spec.kind} is in use by ${row.n} ${row.n === 1 ? kind : (plural ?? `${kind}s`)}; nothing was deleted`,
      );
  }
}

/** A 409 that names the field and its value; the violation itself where it is none of the spec's columns. */
export function uniqueConflict(
  spec: Pick<ResourceSpec, "kind" | "unique">,
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
