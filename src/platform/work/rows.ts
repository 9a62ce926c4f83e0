import { and, eq, isNull, lte, or, type SQL, sql } from "drizzle-orm";
import { type Context, timestamp } from "../context.ts";
import { inList, rawStatement, runBatch, type Statement } from "../database.ts";
import { work } from "../tables.ts";
import type { Payload } from "./work.ts";

/** The engine's access to work rows: claiming them and recording outcomes. */

const LEASE_MS = 60_000;

export type WorkRow = typeof work.$inferSelect;

/** How many rows of each kind may be claimed. */
export type Shares = ReadonlyMap<string, number>;

/**
 * What a claimed row becomes, unless it has been claimed again since. Null: the work is done and the row is deleted.
 */
export interface Ending {
  readonly row: WorkRow;
  readonly becomes: Becomes | null;
}

export interface Becomes {
  readonly state: "due" | "dead";
  readonly due_at: string;
  readonly attempts: number;
  readonly last_error: string | null;
  /** Absent: the row keeps its payload. */
  readonly payload?: Payload;
}

/**
 * Claims the oldest due rows of each kind, up to its share, and the rows of `recurring` kinds. Missing recurring rows
 * are created first and dead ones whose time has come are revived, all in one round trip.
 */
export async function claimDue(ctx: Context, shares: Shares, recurring: readonly string[]): Promise<WorkRow[]> {
  // Three parameters per kind and one branch for all recurring kinds: D1 binds at most 100 parameters.
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

/** Claims those of `ids` that are due, up to the share of each kind; recurring work also before its time. */
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

/** Records the outcomes of claimed rows in one batch. */
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
