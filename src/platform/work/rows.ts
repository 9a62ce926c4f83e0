import { and, eq, isNull, lte, or, type SQL, sql } from "drizzle-orm";
import { type Context, timestamp } from "../context.ts";
import { inList, rawStatement, runBatch, type Statement } from "../database.ts";
import { work } from "../tables.ts";
import type { Payload } from "./work.ts";

/** What the engine does with the rows of work: claims them, and writes down what came of it. */

const LEASE_MS = 60_000;

export type WorkRow = typeof work.$inferSelect;

/** How many of each kind may be claimed. */
export type Shares = ReadonlyMap<string, number>;

/** What a claimed row becomes; a row that was claimed again meanwhile stays as it is. Null: the work is done, the row goes. */
export interface Ending {
  readonly row: WorkRow;
  readonly becomes: Becomes | null;
}

export interface Becomes {
  readonly state: "due" | "dead";
  readonly due_at: string;
  readonly attempts: number;
  readonly last_error: string | null;
  /** Absent where the payload stays as it is in the row. */
  readonly payload?: Payload;
}

/**
 * Claims what is due: the oldest of each kind, up to its share, and the rows of `recurring` kinds. Those are made first where
 * they are missing, and revived where they are dead and their time has come: one round trip.
 */
export async function claimDue(ctx: Context, shares: Shares, recurring: readonly string[]): Promise<WorkRow[]> {
  // Three parameters a kind, one branch for all that recur: D1 binds at most 100.
  const now = timestamp(ctx);
  const isDue = and(eq(work.state, "due"), lte(work.due_at, now), isFree(now));
  const picks = [...shares]
    .filter(([kind]) => !recurring.includes(kind))
    .map(
      ([kind, share]) => sql`${work.id} in (select id from ${work} where ${and(eq(work.kind, kind), isDue)}
        order by due_at, id limit ${sql.raw(String(share))})`,
    );
  if (recurring.length === 0) return picks.length === 0 ? [] : claim(ctx, or(...picks));
  const which = or(and(inList(work.id, recurring), isDue), ...picks);
  const [, rows] = await ctx.db.batch([keepStatement(ctx, recurring, now) as never, claim(ctx, which)]);
  return rows as WorkRow[];
}

/** Claims those of these ids that are due, of each kind its share; recurring work also before its time. */
export function claimWoken(ctx: Context, shares: Shares, ids: readonly string[]): Promise<WorkRow[]> {
  const now = timestamp(ctx);
  return claim(
    ctx,
    sql`${work.id} in (select ranked.id from (
        select id, kind, row_number() over (partition by kind order by due_at, id) as place from work
        where id in (select value from json_each(${JSON.stringify(ids)})) and state = 'due'
          and (due_at <= ${now} or id = kind) and ${isFree(now)}) as ranked
      join json_each(${JSON.stringify(Object.fromEntries(shares))}) as share on share.key = ranked.kind
      where ranked.place <= share.value)`,
  );
}

function isFree(now: string): SQL | undefined {
  return or(isNull(work.lease_until), lte(work.lease_until, now));
}

function claim(ctx: Context, which: SQL | undefined) {
  const lease_until = new Date(ctx.clock.now().getTime() + LEASE_MS).toISOString();
  return ctx.db
    .update(work)
    .set({ lease_until, attempts: sql`${work.attempts} + 1`, fence: sql`${work.fence} + 1` })
    .where(which)
    .returning();
}

function keepStatement(ctx: Context, kinds: readonly string[], now: string): Statement {
  return rawStatement(
    ctx.db,
    sql`insert into work (id, kind, payload, state, attempts, fence, due_at, created_at)
      select value, value, '{}', 'due', 0, 0, ${now}, ${now} from json_each(${JSON.stringify(kinds)}) where true
      on conflict (id) do update set state = 'due', attempts = 0
        where work.state = 'dead' and work.due_at <= excluded.due_at`,
  );
}

/** Writes down what came of claimed rows, in one batch. */
export async function endClaims(ctx: Context, endings: readonly Ending[]): Promise<void> {
  const gone: [string, number][] = [];
  const changed: (Becomes & { id: string; fence: number })[] = [];
  for (const { row, becomes } of endings) {
    if (becomes === null) gone.push([row.id, row.fence]);
    else changed.push({ ...becomes, id: row.id, fence: row.fence });
  }
  const statements: Statement[] = [];
  if (gone.length > 0)
    statements.push(
      rawStatement(
        ctx.db,
        sql`delete from work where (id, fence) in (select value ->> 0, value ->> 1 from json_each(${JSON.stringify(gone)}))`,
      ),
    );
  if (changed.length > 0)
    statements.push(
      rawStatement(
        ctx.db,
        sql`update work set state = b.state, due_at = b.due_at, attempts = b.attempts, last_error = b.last_error,
            payload = coalesce(b.payload, work.payload), lease_until = null
          from (select value ->> 'id' as id, value ->> 'fence' as fence, value ->> 'state' as state,
              value ->> 'due_at' as due_at, value ->> 'attempts' as attempts, value ->> 'last_error' as last_error,
              value -> 'payload' as payload
            from json_each(${JSON.stringify(changed)})) as b
          where work.id = b.id and work.fence = b.fence and work.state = 'due'`,
      ),
    );
  await runBatch(ctx.db, statements);
}
