import type { BatchItem } from "drizzle-orm/batch";
import type { Context } from "./context.ts";
import { batchError, rendered, type Statement } from "./database.ts";
import { hex } from "./text.ts";

/** A statement as sent to the writer. */
export interface Query {
  readonly sql: string;
  readonly params: readonly unknown[];
}

/** D1's result per statement; or D1's error message, in which case nothing of the unit was written. */
export type Outcome =
  | { readonly ok: true; readonly results: readonly Pick<D1Result, "results" | "meta">[] }
  | { readonly ok: false; readonly message: string };

/** Statements of one transaction. */
export interface Unit {
  /** Identifies the unit in the errors of its guards, among the units of a batch. */
  readonly id: string;
  readonly queries: readonly Query[];
}

/** The Durable Object that commits for all requests (durable-objects/writer.ts). */
export interface Writer {
  /** Writes the unit atomically. If the call throws, the outcome is unknown, as with D1 itself. */
  commit(unit: Unit): Promise<Outcome>;
}

/** A drizzle statement that is built but not sent. */
interface Prepared {
  getQuery(): { readonly sql: string; readonly params: readonly unknown[] };
  mapResult(result: unknown, isFromBatch: boolean): unknown;
}

/** One writer per database: D1 runs one transaction at a time, so more writers would gain nothing. */
const NAME = "d1";

/**
 * Like `runBatch`, but shares its flush with the commits of other requests at that moment. For busy paths. Returns and
 * throws as `runBatch` does.
 */
export async function runTogether(
  ctx: Pick<Context, "bindings" | "db" | "random">,
  statements: readonly Statement[],
): Promise<unknown[]> {
  if (statements.length === 0) return [];
  const id = hex(ctx.random.bytes(8));
  const prepared = rendered(ctx.db, statements, id).map((one) =>
    (one as unknown as { _prepare(): Prepared })._prepare(),
  );
  const queries = prepared.map((one) => {
    const { sql, params } = one.getQuery();
    return { sql, params };
  });
  const outcome = await (ctx.bindings.WRITER.getByName(NAME) as unknown as Writer).commit({ id, queries });
  if (!outcome.ok) throw await batchError(new Error(outcome.message), statements);
  return prepared.map((one, at) => one.mapResult(outcome.results[at], true));
}

/**
 * Runs the queries in one round trip against one snapshot of the database. The columns of a query must have distinct
 * names.
 */
export async function readTogether<const Queries extends readonly BatchItem<"sqlite">[]>(
  ctx: Pick<Context, "bindings" | "db" | "random">,
  ...queries: Queries
): Promise<{ [At in keyof Queries]: Queries[At]["_"]["result"] }> {
  return (await runTogether(ctx, queries)) as never;
}
