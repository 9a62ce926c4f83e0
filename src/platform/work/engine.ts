import { and, eq, lte, or, type SQL, sql } from "drizzle-orm";
import type { Context } from "../context.ts";
import { rawStatement, runBatch } from "../database.ts";
import { describeError } from "../log.ts";
import { work } from "../tables.ts";
import { BudgetSpent, meterOf } from "./meter.ts";
import type { WorkKind, WorkKinds } from "./work.ts";

/**
 * The engine. One statement claims what is due: of each kind its share, the oldest first, `due_at` moved on as the lease and
 * `attempts` raised as the fence. All that was claimed runs at once, each with its own time; one batch ends what is done,
 * puts off what failed and marks what is dead. Whoever lost the lease ends nothing that another one has taken over.
 */

const LEASE_MS = 60_000;
const MAX_ATTEMPTS = 30;
const LONGEST_PAUSE_SECONDS = 3_600;
/** An error is remembered so far. */
const MAX_ERROR = 1_000;

export type Outcome = "done" | "retry" | "dead";

type Row = typeof work.$inferSelect;

interface Finished {
  readonly row: Row;
  readonly outcome: Outcome;
  readonly error: string | null;
}

/** Runs what is due until nothing is, or until half of what this invocation may spend is spent: then there is more. */
export async function runDue(ctx: Context, kinds: WorkKinds): Promise<"more" | "finished"> {
  for (;;) {
    if (meterOf(ctx)?.isLow()) return "more";
    const rows = await claimDue(ctx, kinds);
    if (rows.length === 0) return "finished";
    await runAll(ctx, kinds, rows);
  }
}

/** Runs one piece of work that somebody was woken for; "skipped" where it is not due, or somebody has it. */
export async function runOne(ctx: Context, kinds: WorkKinds, id: string): Promise<Outcome | "skipped"> {
  const [row] = await claim(ctx, and(eq(work.id, id), eq(work.state, "due"), lte(work.due_at, nowOf(ctx))));
  if (!row) return "skipped";
  const [finished] = await runAll(ctx, kinds, [row]);
  return finished?.outcome ?? "skipped";
}

/** Of each kind as much as may run at once: a hundred that hang hold up nothing of another kind. */
function claimDue(ctx: Context, kinds: WorkKinds): Promise<Row[]> {
  const now = nowOf(ctx);
  const shares = Object.entries(kinds).map(
    ([kind, { atOnce = 10 }]) => sql`${work.id} in (select id from work
      where kind = ${kind} and state = 'due' and due_at <= ${now} order by due_at, id limit ${atOnce})`,
  );
  return claim(ctx, or(...shares));
}

function claim(ctx: Context, which: SQL | undefined): Promise<Row[]> {
  if (which === undefined) return Promise.resolve([]);
  const lease = new Date(ctx.clock.now().getTime() + LEASE_MS).toISOString();
  return ctx.db
    .update(work)
    .set({ due_at: lease, attempts: sql`${work.attempts} + 1` })
    .where(which)
    .returning();
}

async function runAll(ctx: Context, kinds: WorkKinds, rows: readonly Row[]): Promise<Finished[]> {
  const finished = await Promise.all(rows.map((row) => run(ctx, kinds[row.kind], row)));
  await finish(ctx, finished);
  return finished;
}

async function run(ctx: Context, kind: WorkKind | undefined, row: Row): Promise<Finished> {
  try {
    if (!kind) throw new Error(`nothing does work of kind ${row.kind}`);
    await within(kind.timeoutSeconds ?? 30, kind.run(ctx, row.payload));
    return { row, outcome: "done", error: null };
  } catch (error) {
    const text = describeError(error).slice(0, MAX_ERROR);
    // There was no room for it in this invocation: no fault of its own.
    if (error instanceof BudgetSpent) return { row, outcome: "retry", error: text };
    const outcome = row.attempts >= MAX_ATTEMPTS ? "dead" : "retry";
    const { id, kind: name, attempts } = row;
    ctx.log.error(outcome === "dead" ? "work.dead" : "work.failed", { id, kind: name, attempts, error: text });
    return { row, outcome, error: text };
  }
}

/** Rejects after so many seconds; what was begun goes on, and nobody waits for it. */
async function within(seconds: number, working: Promise<void>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Error(`it took longer than ${seconds} s`);
  try {
    await Promise.race([
      working,
      new Promise<never>((_, reject) => {
        timer = setTimeout(reject, seconds * 1000, late);
      }),
    ]);
  } finally {
    clearTimeout(timer);
  }
}

async function finish(ctx: Context, finished: readonly Finished[]): Promise<void> {
  const done = finished.filter(({ outcome }) => outcome === "done").map(({ row }) => [row.id, row.attempts]);
  const again = finished
    .filter(({ outcome }) => outcome !== "done")
    .map(({ row, outcome, error }) => ({
      id: row.id,
      attempts: row.attempts,
      state: outcome === "dead" ? "dead" : "due",
      due_at: new Date(ctx.clock.now().getTime() + pauseMs(ctx, row.attempts)).toISOString(),
      error,
    }));
  await runBatch(ctx.db, [
    ...(done.length === 0
      ? []
      : [
          rawStatement(
            ctx.db,
            sql`delete from work where (id, attempts) in (select json_extract(value, '$[0]'), json_extract(value, '$[1]')
              from json_each(${JSON.stringify(done)}))`,
          ),
        ]),
    ...(again.length === 0
      ? []
      : [
          rawStatement(
            ctx.db,
            sql`update work set state = f.state, due_at = f.due_at, last_error = f.error from (
                select json_extract(value, '$.id') as id, json_extract(value, '$.attempts') as attempts,
                  json_extract(value, '$.state') as state, json_extract(value, '$.due_at') as due_at,
                  json_extract(value, '$.error') as error
                from json_each(${JSON.stringify(again)})) as f
              where work.id = f.id and work.attempts = f.attempts and work.state = 'due'`,
          ),
        ]),
  ]);
}

/** 1 s, 2 s, 4 s, ... up to an hour, each from half to all of it. */
function pauseMs(ctx: Context, attempts: number): number {
  const seconds = Math.min(LONGEST_PAUSE_SECONDS, 2 ** Math.min(attempts, 12));
  return seconds * 1000 * (0.5 + (ctx.random.bytes(1)[0] ?? 0) / 512);
}

function nowOf(ctx: Context): string {
  return ctx.clock.now().toISOString();
}
