import type { Bindings, Context } from "../context.ts";
import { openDatabase } from "../database.ts";

/**
 * Counts what one invocation spends. Cloudflare allows 1,000 D1 statements and as many other subrequests (calls to
 * Durable Objects, R2, queues). A metered context counts both and throws BudgetSpent at the limit, before the platform
 * would abort the whole invocation.
 */

const LIMIT = 1_000;

/** The invocation's budget is exhausted; the call was not sent. */
export class BudgetSpent extends Error {
  readonly code = "budget_spent";
}

export class Meter {
  statements = 0;
  requests = 0;
  readonly limit: number;

  constructor(limit = LIMIT) {
    this.limit = limit;
  }

  /** Whether half of the budget is spent. The other half is for work that is already claimed. */
  isLow(): boolean {
    return Math.max(this.statements, this.requests) >= this.limit / 2;
  }

  /** The remaining budget: the smaller of statements and requests. */
  left(): number {
    return this.limit - Math.max(this.statements, this.requests);
  }

  spend(statements: number, requests: number): void {
    if (this.statements + statements > this.limit || this.requests + requests > this.limit)
      throw new BudgetSpent(`this invocation may have ${this.limit} D1 statements and ${this.limit} other requests`);
    this.statements += statements;
    this.requests += requests;
  }
}

const meters = new WeakMap<Context, Meter>();

/** The meter of a metered context; null for an unmetered one. */
export function meterOf(ctx: Context): Meter | null {
  return meters.get(ctx) ?? null;
}

/** A context whose database and bindings are counted by `meter`. If `ctx` is metered already, both meters count. */
export function metered(ctx: Context, meter: Meter): Context {
  const { bindings } = ctx;
  const DB = meteredDatabase(bindings.DB, meter);
  const counted: Bindings = {
    ...bindings,
    DB,
    ISSUER: meteredNamespace(bindings.ISSUER, meter),
    PURGE: meteredNamespace(bindings.PURGE, meter),
    SESSION: meteredNamespace(bindings.SESSION, meter),
    ONCE: meteredNamespace(bindings.ONCE, meter),
    WRITER: meteredNamespace(bindings.WRITER, meter),
    BYTES: meteredCalls(bindings.BYTES, meter),
    WORK: meteredCalls(bindings.WORK, meter),
  };
  const made = { ...ctx, db: openDatabase(DB), bindings: counted };
  meters.set(made, meter);
  return made;
}

/** Wraps an object so that each method call counts as one request. */
function meteredCalls<T extends object>(of: T, meter: Meter): T {
  return calls(of, (call) => {
    meter.spend(0, 1);
    return call();
  });
}

function meteredNamespace(of: DurableObjectNamespace, meter: Meter): DurableObjectNamespace {
  return calls(of, (call) => {
    const made = call();
    return typeof made === "object" && made !== null && "fetch" in made ? meteredCalls(made, meter) : made;
  });
}

function calls<T extends object>(of: T, around: (call: () => unknown) => unknown): T {
  return new Proxy(of, {
    get(target, name) {
      const value = Reflect.get(target, name);
      if (typeof value !== "function") return value;
      // Not `value.apply`: on a stub that would call a remote method named apply.
      return (...values: unknown[]) => around(() => Reflect.apply(value, target, values));
    },
  });
}

/** The platform's statement inside each wrapper: D1's batch accepts only its own statements. */
const inner = new WeakMap<object, D1PreparedStatement>();

function meteredDatabase(of: D1Database, meter: Meter): D1Database {
  return new Proxy(of, {
    get(target, name) {
      if (name === "prepare") return (query: string) => meteredStatement(target.prepare(query), meter);
      if (name === "batch")
        return (statements: D1PreparedStatement[]) => {
          meter.spend(statements.length, 0);
          return target.batch(statements.map((one) => inner.get(one) ?? one));
        };
      const value = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

function meteredStatement(of: D1PreparedStatement, meter: Meter): D1PreparedStatement {
  const statement = new Proxy(of, {
    get(target, name) {
      if (name === "bind") return (...values: unknown[]) => meteredStatement(target.bind(...values), meter);
      const value = Reflect.get(target, name);
      if (typeof value !== "function") return value;
      return (...values: unknown[]) => {
        meter.spend(1, 0);
        return Reflect.apply(value, target, values);
      };
    },
  });
  inner.set(statement, of);
  return statement;
}
