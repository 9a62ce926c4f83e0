import { z } from "@hono/zod-openapi";
import { and, eq, getTableColumns, type SQL } from "drizzle-orm";
import type { SQLiteColumn, SQLiteTable } from "drizzle-orm/sqlite-core";
import { type ObjectScope, visible } from "./access.ts";
import type { Context } from "./context.ts";
import { notFound } from "./errors.ts";
import { pageAnswer, pageOf, pageQuery } from "./paging.ts";
import { type Change, type Prepared, type ResourceTable, type Store, storeOf } from "./resource-store.ts";
import { created, noContent, ok, type Route, route } from "./route.ts";
import { etagOf, idSchema, updateBodyOf, withoutDefault, writable } from "./rows.ts";

export type { Change, Prepared };

/** Body fields must have the types of their columns. */
type Fields<R> = { readonly [K in keyof R]?: R[K] | undefined };

/** A deeply readonly value of a schema. */
type Shown<T> = T extends readonly (infer Item)[]
  ? readonly Shown<Item>[]
  : T extends object
    ? { readonly [K in keyof T]: Shown<T[K]> }
    : T;

/** Requires `show` if the row has a column that the answer lacks, so that no column leaks by mistake. */
type Show<R, A> = [Exclude<keyof R, keyof A>, R extends Shown<A> ? true : false] extends [never, true]
  ? { readonly show?: never }
  : { readonly show: (row: R) => Shown<A> };

/**
 * Declares a plain resource. `resource()` derives its five routes, OpenAPI entries, paging, audit events and errors.
 * Uniqueness, references and what blocks a delete come from the table and its foreign keys.
 */
export type ResourceSpec<T extends ResourceTable, C extends z.ZodObject, A extends z.ZodObject> = {
  /**
   * Singular: "RenewalPolicy" gives the operations listRenewalPolicies, createRenewalPolicy and so on, the path
   * /api/v1/renewal-policies and the audit events renewal_policy.create and so on.
   */
  readonly name: string;
  /** Defaults to the name plus "s". */
  readonly plural?: string;
  /** The word for one in errors; for RenewalPolicy the default is "renewal policy". */
  readonly kind?: string;
  /**
   * The namespace of its `read`, `edit` and `delete` permissions; for RenewalPolicy the default is "renewal_policy".
   */
  readonly permission?: string;
  readonly idPrefix: string;
  readonly table: T;
  /** Schema of an answer. Fields that are not in `create` may be sent back in a body and are ignored. */
  readonly answer: A;
  /**
   * Writable fields, with the defaults of a new row. On update, absent keeps the value and null clears it where
   * possible.
   */
  readonly create: C & z.ZodType<Fields<T["$inferSelect"]>>;
  /**
   * Fields that the contract lists as required on update. The server does not enforce it: an absent field keeps its
   * value.
   */
  readonly sentOnUpdate?: readonly (keyof C["shape"])[];
  /** Fields a list can be filtered by. */
  readonly filters?: readonly (keyof C["shape"] & string)[];
  /**
   * Set if the rows are profiles or issuers themselves: a permission scoped to a row reaches that row, and lists show
   * only such rows. Creating one, and everything on a resource without `scope`, needs a global permission.
   */
  readonly scope?: "profile_id" | "issuer_id";
  /** Validates and completes a change before it is written; throws AppError. */
  readonly prepare?: (
    ctx: Context,
    change: Change<T["$inferSelect"]>,
  ) => Prepared<T["$inferSelect"]> | Promise<Prepared<T["$inferSelect"]>>;
} & Show<T["$inferSelect"], z.input<A>>;

export interface Resource<R> extends Pick<Store<R>, "find"> {
  readonly routes: Route[];
}

export function resource<T extends ResourceTable, C extends z.ZodObject, A extends z.ZodObject>(
  spec: ResourceSpec<T, C, A>,
): Resource<T["$inferSelect"]> {
  const { name, table, answer, scope } = spec;
  const create: z.ZodObject = spec.create;
  const plural = spec.plural ?? `${name}s`;
  const kind = spec.kind ?? separated(name, " ");
  const type = separated(name, "_");
  const permission = spec.permission ?? type;
  const path = `/api/v1/${separated(plural, "-")}`;
  const tag = sentence(separated(plural, " "));
  const show: (row: T["$inferSelect"]) => unknown = spec.show ?? ((row) => row);
  const store = storeOf({ table, create, kind, type, idPrefix: spec.idPrefix, show, prepare: spec.prepare });

  const managed = managedOf(answer, create);
  const params = z.object({ id: z.string() });
  const one = scope ? { scope: ownScope(table, scope) } : {};
  const routes = [
    route({
      tag,
      operationId: `list${plural}`,
      method: "get",
      path,
      access: `${permission}.read`,
      ...(scope ? { scope: "handler" } : {}),
      summary: `List ${tag.toLowerCase()}`,
      query: z.object({ ...pageQuery.shape, ...filtersOf(create, spec.filters ?? []) }),
      answers: { 200: { description: "One page", schema: pageOf(answer) } },
      errors: [400],
      handler: async (ctx, { query }) => {
        const narrowed = narrowedBy(table, spec.filters ?? [], query);
        const seen = scope ? visible(ctx.actor, `${permission}.read`, { [scope]: table.id }) : undefined;
        const page = pageQuery.parse(query);
        return ok(pageAnswer(page, await store.list(ctx, page, and(narrowed, seen)), show));
      },
    }),
    route({
      tag,
      operationId: `create${name}`,
      method: "post",
      path,
      access: `${permission}.edit`,
      summary: `Create a ${kind}`,
      body: z.strictObject({ id: idSchema.optional(), ...create.shape, ...managed }),
      location: path,
      answers: { 201: { description: "Created", schema: answer } },
      errors: [409],
      handler: async (ctx, { body }) => created(show(await store.create(ctx, writable(create, body), body.id))),
    }),
    route({
      tag,
      operationId: `get${name}`,
      method: "get",
      path: `${path}/{id}`,
      access: `${permission}.read`,
      ...one,
      summary: `Get a ${kind}`,
      params,
      answers: { 200: { description: `The ${kind}`, schema: answer } },
      errors: [400],
      handler: async (ctx, input) => {
        const row = await store.find(ctx, input.params.id);
        if (!row) throw notFound(kind, input.params.id);
        return ok(show(row), { ETag: etagOf(row) });
      },
    }),
    route({
      tag,
      operationId: `update${name}`,
      method: "put",
      path: `${path}/{id}`,
      access: `${permission}.edit`,
      ...one,
      summary: `Update a ${kind}: an absent field keeps its value, null clears it`,
      params,
      body: updateBodyOf(create, managed, (spec.sentOnUpdate ?? []).map(String)),
      answers: { 200: { description: `The ${kind} as it is now`, schema: answer } },
      errors: [409, 412],
      handler: async (ctx, input) => {
        const row = await store.update(ctx, input.params.id, writable(create, input.body), input.ifMatch);
        return ok(show(row), { ETag: etagOf(row) });
      },
    }),
    route({
      tag,
      operationId: `delete${name}`,
      method: "delete",
      path: `${path}/{id}`,
      access: `${permission}.delete`,
      ...one,
      summary: `Delete a ${kind}; 409 while something uses it`,
      params,
      answers: { 204: { description: "Deleted" } },
      errors: [400, 409, 412],
      handler: async (ctx, input) => {
        await store.remove(ctx, input.params.id, input.ifMatch);
        return noContent();
      },
    }),
  ];
  return { routes, find: store.find };
}

/** `separated("RenewalPolicy", "_")` is "renewal_policy". */
function separated(noun: string, by: string): string {
  return noun.replaceAll(/(?<=[a-z])(?=[A-Z])/g, by).toLowerCase();
}

function sentence(words: string): string {
  return words.slice(0, 1).toUpperCase() + words.slice(1);
}

/** Answer fields that no body sets, accepted so that a client can send back what it read. */
function managedOf(answer: z.ZodObject, create: z.ZodObject): z.ZodRawShape {
  const fields = Object.entries(answer.shape).filter(([name]) => name !== "id" && !(name in create.shape));
  return Object.fromEntries(fields.map(([name, schema]) => [name, (schema as z.ZodType).nullish()]));
}

function filtersOf(create: z.ZodObject, names: readonly string[]): z.ZodRawShape {
  return Object.fromEntries(
    names.map((name) => [name, withoutDefault(create.shape[name] as z.ZodType).optional()] as const),
  );
}

function narrowedBy(table: SQLiteTable, names: readonly string[], asked: Record<string, unknown>): SQL | undefined {
  const columns = getTableColumns(table);
  return and(
    ...names.flatMap((name) => {
      const column = columns[name];
      return column && asked[name] !== undefined ? [eq(column, asked[name])] : [];
    }),
  );
}

/** Scope rule for resources whose rows are scopes: an existing row is its own scope. */
export function ownScope(table: SQLiteTable & { id: SQLiteColumn }, kind: "profile_id" | "issuer_id") {
  return async (ctx: Context, { id = "" }: Readonly<Record<string, string>>): Promise<ObjectScope | null> => {
    const [row] = await ctx.db.select({ id: table.id }).from(table).where(eq(table.id, id));
    return row ? { [kind]: id } : null;
  };
}
