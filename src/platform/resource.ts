import { z } from "@hono/zod-openapi";
import { and, eq, type SQL, sql } from "drizzle-orm";
import type { SQLiteColumn, SQLiteTable } from "drizzle-orm/sqlite-core";
import { type ObjectScope, visible } from "./access.ts";
import { commit, IdempotencyRace } from "./commit.ts";
import { type Context, timestamp } from "./context.ts";
import { up } from "./cursor.ts";
import { guard, ReferenceViolation, type Statement, UniqueViolation, unchanged } from "./database.ts";
import { ChangedMeanwhile, conflict, notFound } from "./errors.ts";
import type { PlainResource } from "./events.ts";
import { type Page, type PageRequest, pageAnswer, pageOf, pageQuery } from "./paging.ts";
import { created, noContent, ok, type Route, route } from "./route.ts";
import {
  checkIfMatch,
  checkReferences,
  cleared,
  empty,
  etagOf,
  freeId,
  idSchema,
  listPage,
  nextUpdatedAt,
  type References,
  uniqueConflict,
  updateBodyOf,
  writable,
} from "./rows.ts";

/** The columns that every plain resource has. */
export type ResourceTable = SQLiteTable & { id: SQLiteColumn; created_at: SQLiteColumn; updated_at: SQLiteColumn };

export type Row = Record<string, unknown> & { id: string; created_at: string; updated_at: string };

/** Rows of the wing's own table, or a count that another wing gives as SQL. */
type Block = { readonly kind: string; readonly plural?: string } & (
  | { readonly table: string; readonly column: string }
  | { readonly count: (id: string) => SQL }
);

/** What a plain resource is; `resource()` makes its five routes, their OpenAPI entries, paging, audit events and errors. */
export interface ResourceSpec {
  /** Singular in the words of the API: "renewal policy"; and as an audit resource type: "renewal_policy". */
  readonly kind: string;
  readonly type: PlainResource;
  readonly path: string;
  readonly tag: string;
  readonly idPrefix: string;
  readonly operations: { list: string; create: string; get: string; update: string; delete: string };
  readonly permissions: { read: string; edit: string; delete: string };
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
  readonly references?: References;
  /** Rows that keep this one from being deleted: a 409 that counts them. */
  readonly blocks?: readonly Block[];
  /**
   * The rows are profiles or issuers themselves: who holds a permission in the scope of one reaches that one, and its list
   * shows no other. Creating, and everything of a resource without this, needs the permission everywhere.
   */
  readonly scope?: "profile_id" | "issuer_id";
  /** List filters: query parameter to column. */
  readonly filters?: Readonly<Record<string, { schema: z.ZodType; column: SQLiteColumn }>>;
  /** Checks and completes a row before it is written; throws AppError. `before` is null on create. */
  readonly check?: (ctx: Context, row: Row, before: Row | null) => Promise<Row>;
  /** What `check` found must still hold when the row is written: else nothing is, and the answer is a 409. */
  readonly still?: (row: Row) => SQL;
  /** Turns a stored row into what is shown (masked secrets, derived fields). */
  readonly show?: (row: Row) => Record<string, unknown>;
  /** Values a new row has besides the body's: server-managed defaults. */
  readonly initial?: (ctx: Context) => Record<string, unknown>;
  /** Statements that belong to a delete, run before the row goes. */
  readonly alsoDelete?: (ctx: Context, id: string) => Statement[] | Promise<Statement[]>;
  /** Runs once a delete is committed: what an isolate remembers of the row goes. */
  readonly afterDelete?: () => void;
}

export interface Resource {
  readonly routes: Route[];
  /** The row, or null. */
  find(ctx: Context, id: string): Promise<Row | null>;
  list(ctx: Context, page: PageRequest, where?: SQL): Promise<Page<Row>>;
}

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
  const one = spec.scope ? { scope: ownScope(spec.table, spec.scope) } : {};

  const routes = [
    route({
      ...common,
      operationId: spec.operations.list,
      method: "get",
      path: spec.path,
      access: spec.permissions.read,
      ...(spec.scope ? { scope: "handler" } : {}),
      summary: `List ${spec.tag.toLowerCase()}`,
      query: z.object({ ...pageQuery.shape, ...filters.shape }),
      answers: { 200: { description: "One page", schema: pageOf(spec.answer) } },
      errors: [400],
      handler: async (ctx, { query }) => {
        const asked: Record<string, unknown> = query;
        const conditions: (SQL | undefined)[] = Object.entries(spec.filters ?? {}).flatMap(([name, { column }]) =>
          asked[name] === undefined ? [] : [eq(column, asked[name])],
        );
        if (spec.scope) conditions.push(visible(ctx.actor, spec.permissions.read, { [spec.scope]: spec.table.id }));
        const page = pageQuery.parse(query);
        return ok(pageAnswer(page, await store.list(ctx, page, and(...conditions)), show));
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
      location: spec.path,
      answers: { 201: { description: "Created", schema: spec.answer } },
      errors: [409],
      handler: async (ctx, { body }) => {
        const row = await store.create(ctx, writable(spec.create, body), body.id);
        return created(show(row));
      },
    }),
    route({
      ...common,
      operationId: spec.operations.get,
      method: "get",
      path: `${spec.path}/{id}`,
      access: spec.permissions.read,
      ...one,
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
      ...one,
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
      ...one,
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

/** A row is its own scope, as long as it exists. */
export function ownScope(table: ResourceTable, kind: "profile_id" | "issuer_id") {
  return async (ctx: Context, { id = "" }: Readonly<Record<string, string>>): Promise<ObjectScope | null> => {
    const [row] = await ctx.db.select({ id: table.id }).from(table).where(eq(table.id, id));
    return row ? { [kind]: id } : null;
  };
}

function storeOf(spec: ResourceSpec) {
  const { table } = spec;

  const find = async (ctx: Context, id: string): Promise<Row | null> => {
    const [row] = await ctx.db.select().from(table).where(eq(table.id, id));
    return row ? (row as Row) : null;
  };

  const mustFind = async (ctx: Context, id: string): Promise<Row> => {
    const row = await find(ctx, id);
    if (!row) throw notFound(spec.kind, id);
    return row;
  };

  const still = (row: Row, changed: string): Statement[] =>
    spec.still ? [guard(spec.still(row), () => new ChangedMeanwhile(changed))] : [];

  const list = (ctx: Context, page: PageRequest, where?: SQL) =>
    listPage<Row>(ctx, table, page, { where, order: [up(table.created_at), up(table.id)] });

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
    const audit = ctx.audit(`${spec.type}.create`, id, { name });
    const holds = still(row, `what the ${spec.kind} refers to was changed by another request: repeat`);
    await save(ctx, [...holds, ctx.db.insert(table).values(row), audit], row, { status: 201, body: shown });
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
    const changed = `the ${spec.kind} was changed by another request: read again and repeat`;
    const statements = [
      guard(unchanged(table, before), () => new ChangedMeanwhile(changed)),
      ...still(row, changed),
      ctx.db.update(table).set(row).where(eq(table.id, id)),
      ctx.audit(`${spec.type}.update`, id, { fields }),
    ];
    await save(ctx, statements, row);
    return row;
  };

  const remove = async (ctx: Context, id: string, ifMatch: string | null): Promise<void> => {
    const row = await mustFind(ctx, id);
    checkIfMatch(row, ifMatch);
    await checkBlocks(ctx, spec, id);
    const statements = [
      ...((await spec.alsoDelete?.(ctx, id)) ?? []),
      guard(
        unchanged(table, row),
        () => new ChangedMeanwhile(`the ${spec.kind} was changed or deleted by another request`),
      ),
      ctx.db.delete(table).where(eq(table.id, id)),
      ctx.audit(`${spec.type}.delete`, id, { name: row.name ?? null }),
    ];
    try {
      await commit(ctx, statements);
    } catch (error) {
      if (error instanceof ReferenceViolation) await checkBlocks(ctx, spec, id);
      if (error instanceof ReferenceViolation) throw conflict("in_use", `the ${spec.kind} is in use`);
      throw error;
    }
    spec.afterDelete?.();
  };

  return { find, list, create, update, remove };
}

async function checkBlocks(ctx: Context, spec: ResourceSpec, id: string): Promise<void> {
  for (const { kind, plural, ...block } of spec.blocks ?? []) {
    const count =
      "count" in block
        ? block.count(id)
        : sql`(select count(*) from ${sql.identifier(block.table)} where ${sql.identifier(block.column)} = ${id})`;
    const [row] = await ctx.db.all<{ n: number }>(sql`select ${count} as n`);
    if (row && row.n > 0)
      throw conflict(
        "in_use",
        `the ${spec.kind} is in use by ${row.n} ${row.n === 1 ? kind : (plural ?? `${kind}s`)}; nothing was deleted`,
      );
  }
}
