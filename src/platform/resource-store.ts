import type { z } from "@hono/zod-openapi";
import { eq, type SQL } from "drizzle-orm";
import type { SQLiteColumn, SQLiteTable } from "drizzle-orm/sqlite-core";
import { commit, IdempotencyRace } from "./commit.ts";
import { type Context, timestamp } from "./context.ts";
import { up } from "./cursor.ts";
import { guard, ReferenceViolation, type Statement, UniqueViolation, unchanged } from "./database.ts";
import { ChangedMeanwhile, conflict, notFound } from "./errors.ts";
import { plainEvent } from "./events.ts";
import type { Page, PageRequest } from "./paging.ts";
import { checkReferences, usesOf } from "./references.ts";
import { checkIfMatch, cleared, empty, findRow, freeId, listPage, nextUpdatedAt, uniqueConflict } from "./rows.ts";

/** The columns every plain resource has. */
export type ResourceTable = SQLiteTable &
  Record<"id" | "name" | "created_at" | "updated_at", SQLiteColumn> & {
    readonly $inferSelect: { id: string; name: string; created_at: string; updated_at: string };
  };

/** A pending write: create (no `before`), update, or delete (no `row`). */
export type Change<R> = { readonly row: R; readonly before: R | null } | { readonly row: null; readonly before: R };

export interface Prepared<R> {
  /** The row to write, if it differs from the requested one. */
  readonly row?: R;
  /** Run before the change in its batch: guards for what was checked, rows of other tables. */
  readonly statements?: readonly Statement[];
  /** Runs after the commit, to drop cached copies of the row. */
  readonly committed?: () => void;
}

/** What a store needs to know about a plain resource. */
interface StoreSpec<T extends ResourceTable> {
  readonly table: T;
  readonly create: z.ZodObject;
  readonly kind: string;
  readonly type: string;
  readonly idPrefix: string;
  readonly show: (row: T["$inferSelect"]) => unknown;
  readonly prepare?:
    | ((
        ctx: Context,
        change: Change<T["$inferSelect"]>,
      ) => Prepared<T["$inferSelect"]> | Promise<Prepared<T["$inferSelect"]>>)
    | undefined;
}

type Values = Readonly<Record<string, unknown>>;

export interface Store<R> {
  find(ctx: Context, id: string): Promise<R | null>;
  list(ctx: Context, page: PageRequest, where?: SQL): Promise<Page<R>>;
  /** Creates a row from values that the create schema has accepted. */
  create(ctx: Context, values: Values, chosenId: string | undefined): Promise<R>;
  update(ctx: Context, id: string, values: Values, ifMatch: string | null): Promise<R>;
  remove(ctx: Context, id: string, ifMatch: string | null): Promise<void>;
}

/** Reads and writes the rows of a plain resource; every change is one batch with its audit event. */
export function storeOf<T extends ResourceTable>(spec: StoreSpec<T>): Store<T["$inferSelect"]> {
  type R = T["$inferSelect"];
  const { table, kind } = spec;
  // TypeScript does not resolve drizzle's inferred types for a generic table parameter.
  const plain: SQLiteTable = table;
  const find = (ctx: Context, id: string) => findRow(ctx, table, id);
  const prepared = async (ctx: Context, change: Change<R>) => (await spec.prepare?.(ctx, change)) ?? {};

  const current = async (ctx: Context, id: string, ifMatch: string | null): Promise<R> => {
    const row = await find(ctx, id);
    if (!row) throw notFound(kind, id);
    checkIfMatch(row, ifMatch);
    return row;
  };

  const save = async (ctx: Context, statements: Statement[], row: R, answer?: { status: number; body: unknown }) => {
    try {
      await commit(ctx, statements, answer ? { answer } : {});
    } catch (error) {
      if (error instanceof IdempotencyRace) throw error;
      if (error instanceof UniqueViolation) throw uniqueConflict(kind, table, row, error);
      if (error instanceof ReferenceViolation) await checkReferences(ctx, table, row);
      throw error;
    }
  };

  return {
    find,
    list: (ctx, page, where) => listPage(ctx, table, page, { where, order: [up(table.created_at), up(table.id)] }),

    async create(ctx, values, chosenId) {
      const now = timestamp(ctx);
      const name = String(values.name);
      const id = chosenId ?? (await freeId(ctx, table, spec.idPrefix, name));
      const asked: R = { ...empty(table), ...values, id, name, created_at: now, updated_at: now };
      await checkReferences(ctx, table, asked);
      const { row = asked, statements = [], committed } = await prepared(ctx, { row: asked, before: null });
      const audit = ctx.audit(plainEvent(spec.type, "create"), id, { name });
      const insert = ctx.db.insert(plain).values(row);
      await save(ctx, [...statements, insert, audit], row, { status: 201, body: spec.show(row) });
      committed?.();
      return row;
    },

    async update(ctx, id, values, ifMatch) {
      const before = await current(ctx, id, ifMatch);
      const asked: R = {
        ...before,
        ...cleared(table, spec.create, values),
        updated_at: nextUpdatedAt(ctx, before),
      };
      await checkReferences(ctx, table, asked, values);
      const { row = asked, statements = [], committed } = await prepared(ctx, { row: asked, before });
      const fields = Object.keys(values).filter((name) => differs(before, row, name));
      await save(
        ctx,
        [
          guard(
            unchanged(table, before),
            () => new ChangedMeanwhile(`the ${kind} was changed by another request: read again and repeat`),
          ),
          ...statements,
          ctx.db.update(plain).set(row).where(eq(table.id, id)),
          ctx.audit(plainEvent(spec.type, "update"), id, { fields }),
        ],
        row,
      );
      committed?.();
      return row;
    },

    async remove(ctx, id, ifMatch) {
      const before = await current(ctx, id, ifMatch);
      const { statements = [], committed } = await prepared(ctx, { row: null, before });
      try {
        await commit(ctx, [
          guard(
            unchanged(table, before),
            () => new ChangedMeanwhile(`the ${kind} was changed or deleted by another request`),
          ),
          ...statements,
          ctx.db.delete(table).where(eq(table.id, id)),
          ctx.audit(plainEvent(spec.type, "delete"), id, { name: before.name }),
        ]);
      } catch (error) {
        if (!(error instanceof ReferenceViolation)) throw error;
        const uses = await usesOf(ctx, table, id);
        throw conflict(
          "in_use",
          uses ? `the ${kind} is in use by ${uses}; nothing was deleted` : `the ${kind} is in use`,
        );
      }
      committed?.();
    },
  };
}

function differs(before: Values, after: Values, field: string): boolean {
  return JSON.stringify(before[field]) !== JSON.stringify(after[field]);
}
