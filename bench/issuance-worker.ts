import { Issuer as ProductIssuer } from "../durable-objects/issuer.ts";
import { Writer as ProductWriter } from "../durable-objects/writer.ts";
import worker from "../worker/index.ts";

/** The product's Worker with its database and object calls counted, for `npm run bench -- issuance`. */

export { Once } from "../durable-objects/once.ts";
export { Purge } from "../durable-objects/purge.ts";
export { Session } from "../durable-objects/session.ts";

export { Inventory } from "../worker/inventory.ts";
export { PublicPki } from "../worker/public-pki.ts";

type Env = Readonly<Record<string, unknown>>;

/** Counts since the last answer to /bench/counts. One isolate serves the Worker and its objects. */
const counts = { reads: 0, writes: 0, statements: 0, objects: 0 };

export class Issuer extends ProductIssuer {
  constructor(state: DurableObjectState, env: Env) {
    super(state, counted(env));
  }

  /** Size of this ledger's database in bytes. */
  async size(): Promise<number> {
    return this.core.sql.databaseSize;
  }
}

export class Writer extends ProductWriter {
  constructor(state: DurableObjectState, env: Env) {
    super(state, counted(env) as never);
  }
}

const known = new WeakMap<Env, Env>();

function counted(env: Env): Env {
  const before = known.get(env);
  if (before) return before;
  const made = {
    ...env,
    DB: countedDatabase(env.DB as D1Database),
    ISSUER: countedNamespace(env.ISSUER as DurableObjectNamespace),
    WRITER: countedNamespace(env.WRITER as DurableObjectNamespace),
    SESSION: countedNamespace(env.SESSION as DurableObjectNamespace),
    ONCE: countedNamespace(env.ONCE as DurableObjectNamespace),
  };
  known.set(env, made);
  return made;
}

const inner = new WeakMap<object, { statement: D1PreparedStatement; query: string }>();

/** Counts one D1 call, which is one transaction. */
function note(queries: readonly string[]): void {
  counts.statements += queries.length;
  if (queries.every((query) => /^\s*(?:select|with)\b/i.test(query))) counts.reads++;
  else counts.writes++;
}

function countedDatabase(db: D1Database): D1Database {
  return {
    prepare: (query: string) => countedStatement(db.prepare(query), query),
    batch: (statements: D1PreparedStatement[]) => {
      const plain = statements.map((one) => inner.get(one) ?? { statement: one, query: "?" });
      note(plain.map(({ query }) => query));
      return db.batch(plain.map(({ statement }) => statement));
    },
  } as unknown as D1Database;
}

function countedStatement(statement: D1PreparedStatement, query: string): D1PreparedStatement {
  const run =
    (name: "all" | "raw" | "run" | "first") =>
    (...values: never[]) => {
      note([query]);
      return (statement[name] as (...values: never[]) => unknown)(...values);
    };
  const made = {
    bind: (...values: unknown[]) => countedStatement(statement.bind(...values), query),
    all: run("all"),
    raw: run("raw"),
    run: run("run"),
    first: run("first"),
  } as unknown as D1PreparedStatement;
  inner.set(made, { statement, query });
  return made;
}

function countedNamespace(namespace: DurableObjectNamespace): DurableObjectNamespace {
  const getByName = (name: string) => {
    counts.objects++;
    return namespace.getByName(name);
  };
  return new Proxy(namespace, {
    get: (target, name) => {
      if (name === "getByName") return getByName;
      const value = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

export default {
  async fetch(request: Request, env: Env, ctx: ExecutionContext): Promise<Response> {
    const { pathname } = new URL(request.url);
    if (pathname === "/bench/counts") {
      const answer = Response.json(counts);
      Object.assign(counts, { reads: 0, writes: 0, statements: 0, objects: 0 });
      return answer;
    }
    if (pathname === "/bench/bytes") return Response.json(await bytes(env));
    return worker.fetch(request, counted(env), ctx);
  },
  queue: worker.queue,
  scheduled: worker.scheduled,
};

/** Sizes of the database and of the only ledger, in bytes. */
async function bytes(env: Env): Promise<{ database: number; ledger: number }> {
  const db = env.DB as D1Database;
  const { meta, results } = await db.prepare("select id from ledgers").all<{ id: string }>();
  const [first] = results;
  const ledger = (env.ISSUER as DurableObjectNamespace).getByName(first?.id ?? "") as unknown as {
    size(): Promise<number>;
  };
  return { database: meta.size_after, ledger: await ledger.size() };
}
