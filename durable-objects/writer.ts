import { DurableObject } from "cloudflare:workers";
import { failedGuard } from "../src/platform/database.ts";
import type { Outcome, Writer as Protocol, Unit } from "../src/platform/writer.ts";

/** A waiting unit, then its outcome. */
interface Entry {
  readonly unit: Unit;
  readonly weight: number;
  outcome: Outcome | null;
  /** D1's error when the unit may or may not have been written. */
  unknown: { readonly error: unknown } | null;
}

/** Maximum size of a batch, unless a single unit is larger. */
const MAX_STATEMENTS = 300;
const MAX_BYTES = 1_000_000;
/** Maximum number of waiting units; more are refused before anything is sent. */
const MAX_WAITING = 2_000;

/**
 * Group commit for D1: the units of many requests in one batch, which costs one flush.
 *
 * Protocol
 * - A unit that arrives while no batch is running is sent at once, alone. Units that arrive meanwhile are sent together
 *   afterwards, in order of arrival. Only one batch runs at a time: D1 runs one transaction at a time anyway.
 * - A batch is one transaction, so each unit sees the writes of those before it, as if they had run one after another.
 * - If a batch fails, D1 has written nothing of it. A guard names its unit in its error; otherwise the batch is sent
 *   again in two halves, one after the other, until the failing unit is alone and gets its own error. The others are
 *   written without it, each whole, in order.
 * - If D1 does not say that a statement failed (connection lost, timeout), the batch may have been written. It is not
 *   sent again: all its units get that error, as a direct caller of D1 would.
 * - The object stores nothing. If it dies, its last batch is written or not, and its callers get an error.
 */
export class Writer extends DurableObject<{ readonly DB: D1Database }> implements Protocol {
  #waiting: Entry[] = [];
  #underWay: Promise<void> | null = null;

  async commit(unit: Unit): Promise<Outcome> {
    if (this.#waiting.length >= MAX_WAITING) throw new Error("too many changes wait for the database");
    const entry: Entry = { unit, weight: weightOf(unit), outcome: null, unknown: null };
    this.#waiting.push(entry);
    // The first waiter to resume sends the next batch within its own request, so each request sends only a few.
    while (entry.outcome === null && entry.unknown === null) {
      this.#underWay ??= this.#sendNext().finally(() => {
        this.#underWay = null;
      });
      await this.#underWay;
    }
    if (entry.unknown) throw entry.unknown.error;
    return entry.outcome as Outcome;
  }

  #sendNext(): Promise<void> {
    let statements = 0;
    let bytes = 0;
    const fits = this.#waiting.findIndex(({ unit, weight }, at) => {
      statements += unit.queries.length;
      bytes += weight;
      return at > 0 && (statements > MAX_STATEMENTS || bytes > MAX_BYTES);
    });
    return this.#send(this.#waiting.splice(0, fits < 0 ? this.#waiting.length : fits));
  }

  /** Never throws: afterwards every entry has an outcome. */
  async #send(entries: readonly Entry[]): Promise<void> {
    const { DB } = this.env;
    try {
      const statements = entries.flatMap(({ unit }) =>
        unit.queries.map(({ sql, params }) => DB.prepare(sql).bind(...params)),
      );
      const results = await DB.batch(statements);
      let from = 0;
      for (const entry of entries) {
        const own = results.slice(from, from + entry.unit.queries.length);
        entry.outcome = { ok: true, results: own.map(({ results, meta }) => ({ results, meta })) };
        from += entry.unit.queries.length;
      }
    } catch (error) {
      await this.#failed(entries, error);
    }
  }

  async #failed(entries: readonly Entry[], error: unknown): Promise<void> {
    if (!isRolledBack(error)) {
      for (const entry of entries) entry.unknown = { error };
      return;
    }
    const message = error instanceof Error ? error.message : String(error);
    const guarded = failedGuard(error)?.unit;
    const culprit = entries.length === 1 ? entries[0] : entries.find(({ unit }) => unit.id === guarded);
    if (culprit) {
      culprit.outcome = { ok: false, message };
      const others = entries.filter((entry) => entry !== culprit);
      if (others.length > 0) await this.#send(others);
      return;
    }
    const half = Math.ceil(entries.length / 2);
    await this.#send(entries.slice(0, half));
    await this.#send(entries.slice(half));
  }
}

/** Whether D1 says that a statement failed: then nothing of its transaction was written. */
function isRolledBack(error: unknown): boolean {
  return (
    error instanceof Error &&
    /SQLITE_(?:CONSTRAINT|ERROR|TOOBIG|MISMATCH|RANGE)|constraint failed|bad JSON path/.test(error.message)
  );
}

/** Approximate size of a unit in transit, in bytes. */
function weightOf({ queries }: Unit): number {
  let sum = 0;
  for (const { sql, params } of queries) {
    sum += sql.length;
    for (const value of params) sum += typeof value === "string" ? value.length : 8;
  }
  return sum;
}
