import type { BatchItem } from "drizzle-orm/batch";
import type { Context } from "./context.ts";
import { batchError, rendered, type Statement } from "./database.ts";
import { hex } from "./text.ts";

/** A statement as it travels to the writer. */
export interface Query {
  readonly sql: string;
  readonly params: readonly unknown[];
}

/** What D1 answered to a unit, a result each statement; or why nothing of it was written, in D1's words. */
export type Outcome =
  | { readonly ok: true; readonly results: readonly Pick<D1Result, "results" | "meta">[] }
  | { readonly ok: false; readonly message: string };

/** Statements that are one transaction. */
export interface Unit {
  /** Told apart by it from the others of a batch, in the errors of its guards. */
  readonly id: string;
  readonly queries: readonly Query[];
}

/** The object that commits for all requests (durable-objects/writer.ts). */
export interface Writer {
  /** Written whole, or not at all. A call that throws leaves open which, as D1 itself does. */
  commit(unit: Unit): Promise<Outcome>;
}

/** A drizzle statement that was built and not sent. */
interface Prepared {
  getQuery(): { readonly sql: string; readonly params: readonly unknown[] };
  mapResult(result: unknown, isFromBatch: boolean): unknown;
}

/** One database, one writer: D1 runs one transaction at a time, so more of them would gain nothing. */
const NAME = "d1";

/**
 * `runBatch` in company: one transaction, whose flush is shared with whatever other requests commit at that moment. For
 * paths that many walk at once. Answers and throws as `runBatch` does.
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

/** What these queries answer, read in one round: the database as it is at one moment. No two columns of one may share a name. */
export async function readTogether<const Queries extends readonly BatchItem<"sqlite">[]>(
  ctx: Pick<Context, "bindings" | "db" | "random">,
  ...queries: Queries
): Promise<{ [At in keyof Queries]: Queries[At]["_"]["result"] }> {
  return (await runTogether(ctx, queries)) as never;
}
