import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { sql } from "drizzle-orm";
import { beforeEach, describe, expect, it } from "vitest";
import { Writer } from "../../durable-objects/writer.ts";
import { systemRandom } from "../../src/platform/context.ts";
import {
  guard,
  openDatabase,
  ReferenceViolation,
  rawStatement,
  type Statement,
  UniqueViolation,
} from "../../src/platform/database.ts";
import { ChangedMeanwhile, conflict } from "../../src/platform/errors.ts";
import { type Outcome, type Writer as Protocol, type Query, runTogether } from "../../src/platform/writer.ts";

/** Group commit: the units of many requests in one D1 batch, each as if it were alone. */

const db = openDatabase(env.DB);
const ctx = { db, random: systemRandom, bindings: { WRITER: env.WRITER } as never };
let units = 0;
const unit = (...queries: Query[]) => ({ id: `unit-${units++}`, queries });

beforeEach(async () => {
  await env.DB.batch([
    env.DB.prepare("drop table if exists lines"),
    env.DB.prepare(
      "create table lines (n integer primary key autoincrement, name text unique, team text references teams (id), note text check (note <> 'bad'))",
    ),
  ]);
});

const insert = (name: string, more: { team?: string; note?: string } = {}): Query => ({
  sql: "insert into lines (name, team, note) values (?, ?, ?)",
  params: [name, more.team ?? null, more.note ?? null],
});
const names = async () =>
  (await env.DB.prepare("select name from lines order by n").all<{ name: string }>()).results.map(({ name }) => name);

/** A database that counts its batches, and may do something else than to run them. */
function databaseThat(
  run: (statements: D1PreparedStatement[]) => Promise<D1Result[]> = (list) => env.DB.batch(list),
): D1Database & { sizes: number[] } {
  const sizes: number[] = [];
  return {
    sizes,
    prepare: (text: string) => env.DB.prepare(text),
    batch: (statements: D1PreparedStatement[]) => {
      sizes.push(statements.length);
      return run(statements);
    },
  } as never;
}

/** Runs `work` inside an object whose database is this one. */
function inside<T>(database: D1Database, work: (writer: Protocol) => Promise<T>): Promise<T> {
  const stub = (env.WRITER as unknown as DurableObjectNamespace<Writer>).getByName(crypto.randomUUID());
  return runInDurableObject(stub, (_, state) => work(new Writer(state, { DB: database })));
}

describe("one unit", () => {
  it("answers what a batch answers, rows mapped as drizzle does", async () => {
    const statements: Statement[] = [
      rawStatement(db, sql`insert into lines (name) values ('a')`),
      rawStatement(db, sql`select name, n from lines`),
    ];
    const [, read] = (await runTogether(ctx, statements)) as [unknown, D1Result<{ name: string }>];
    expect(read.results).toMatchObject([{ name: "a" }]);
    expect(await runTogether(ctx, [])).toEqual([]);
  });

  it("is written whole or not at all, and throws its own error", async () => {
    const line = (name: string, team: string | null = null) =>
      rawStatement(db, sql`insert into lines (name, team) values (${name}, ${team})`);
    await runTogether(ctx, [line("a")]);
    await expect(async () => runTogether(ctx, [line("b"), line("a")])).rejects.toBeInstanceOf(UniqueViolation);
    await expect(async () => runTogether(ctx, [line("c"), line("d", "t-none")])).rejects.toBeInstanceOf(
      ReferenceViolation,
    );
    const nobody = sql`exists (select 1 from lines where name = 'nobody')`;
    await expect(async () => runTogether(ctx, [line("e"), guard(nobody)])).rejects.toBeInstanceOf(ChangedMeanwhile);
    const own = guard(nobody, () => conflict("nobody", "nobody is there"));
    await expect(async () => runTogether(ctx, [line("f"), guard(sql`1`), own])).rejects.toThrow("nobody is there");
    await expect(async () => runTogether(ctx, [rawStatement(db, sql`select nonsense`)])).rejects.toThrow(
      "no such column",
    );
    expect(await names()).toEqual(["a"]);
  });
});

describe("units that come at the same time", () => {
  it("share a batch; one that is alone waits for nobody", async () => {
    const database = databaseThat();
    await inside(database, async (writer) => {
      await writer.commit(unit(insert("first")));
      expect(database.sizes).toEqual([1]);
      const outcomes = await Promise.all(
        Array.from({ length: 20 }, (_, i) => writer.commit(unit(insert(`line ${i}`)))),
      );
      expect(outcomes.every(({ ok }) => ok)).toBe(true);
    });
    // One goes out at once, the others together as soon as it is done.
    expect(database.sizes).toEqual([1, 1, 19]);
    expect(await names()).toEqual(["first", ...Array.from({ length: 20 }, (_, i) => `line ${i}`)]);
  });

  it("are written in the order in which they came, without those that fail; each gets its own answer", async () => {
    const sent: Record<string, Query[]> = {
      opener: [insert("opener")],
      a: [insert("a")],
      twice: [insert("a"), insert("never 1")],
      b: [insert("b"), { sql: "select count(*) as n from lines", params: [] }],
      orphan: [insert("never 2"), insert("never 3", { team: "t-none" })],
      guarded: [
        insert("never 4"),
        {
          sql: "select case when exists (select 1 from lines where name = 'z') then 1 else json_extract('{}', 'guard:guarded:1') end",
          params: [],
        },
      ],
      sees: [
        {
          sql: "select case when exists (select 1 from lines where name = 'a') then 1 else json('x') end",
          params: [],
        },
        insert("c"),
      ],
      bad: [insert("never 5", { note: "bad" })],
      wrong: [{ sql: "select nonsense", params: [] }],
      d: [insert("d")],
    };
    const outcomes = await inside(databaseThat(), async (writer) => {
      const found = await Promise.all(Object.entries(sent).map(([id, queries]) => writer.commit({ id, queries })));
      return Object.fromEntries(Object.keys(sent).map((name, at) => [name, found[at] as Outcome]));
    });
    const why = (name: string) => {
      const outcome = outcomes[name];
      return outcome && !outcome.ok ? outcome.message : "written";
    };
    expect(await names()).toEqual(["opener", "a", "b", "c", "d"]);
    expect(outcomes.b?.ok && outcomes.b.results[1]?.results).toEqual([{ n: 3 }]);
    expect(why("twice")).toContain("UNIQUE constraint failed: lines.name");
    expect(why("orphan")).toContain("FOREIGN KEY constraint failed");
    expect(why("guarded")).toContain("guard:guarded:1");
    expect(why("bad")).toContain("CHECK constraint failed");
    expect(why("wrong")).toContain("no such column");
    for (const name of ["opener", "a", "b", "sees", "d"]) expect(why(name)).toBe("written");
  });

  it("do not go beyond the size of a batch", async () => {
    const database = databaseThat();
    const large = (name: string) => unit(...Array.from({ length: 120 }, (_, i) => insert(`${name} ${i}`)));
    await inside(database, async (writer) => {
      await Promise.all(["a", "b", "c", "d"].map((name) => writer.commit(large(name))));
    });
    expect(database.sizes).toEqual([120, 240, 120]);
    expect(await names()).toHaveLength(480);
  });
});

describe("where nobody can know what became of a batch", () => {
  it("all its units get the error, none is sent again, and what comes next goes on", async () => {
    let broken = true;
    const database = databaseThat(async (statements) => {
      const results = await env.DB.batch(statements);
      if (broken && statements.length > 1) throw new Error("Network connection lost.");
      return results;
    });
    await inside(database, async (writer) => {
      const settled = await Promise.allSettled(["a", "b", "c"].map((name) => writer.commit(unit(insert(name)))));
      expect(settled.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "rejected"]);
      expect(String((settled[1] as PromiseRejectedResult).reason)).toContain("Network connection lost.");
      broken = false;
      expect((await writer.commit(unit(insert("d"), insert("e")))).ok).toBe(true);
    });
    expect(database.sizes).toEqual([1, 2, 2]);
    expect(await names()).toEqual(["a", "b", "c", "d", "e"]);
  });

  it("also when the object dies with a batch under way: its callers get an error, the next one a new object", async () => {
    const stub = (env.WRITER as unknown as DurableObjectNamespace<Writer>).getByName("dies");
    const call = stub.commit(unit(insert("a"))).then(
      () => "answered",
      () => "lost",
    );
    await runInDurableObject(stub, (_, state) => {
      state.abort("the test ends it");
    }).catch(() => undefined);
    expect(["answered", "lost"]).toContain(await call);
    const again = (env.WRITER as unknown as DurableObjectNamespace<Writer>).getByName("dies");
    expect((await again.commit(unit(insert("b")))).ok).toBe(true);
    expect((await names()).at(-1)).toBe("b");
  });
});
