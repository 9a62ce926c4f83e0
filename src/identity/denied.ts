import { sql } from "drizzle-orm";
import { addressKey } from "../platform/caller.ts";
import { ANONYMOUS_ACTOR, type Caller, type Context } from "../platform/context.ts";
import { guard, rawStatement, runBatch } from "../platform/database.ts";
import { describeError } from "../platform/log.ts";
import { ifUnchanged } from "../platform/race.ts";
import { sha256HexSync } from "../platform/text.ts";
import { deniedAttempts } from "./table.ts";

/**
 * The bounded audit trail of refusals. An authenticated actor exceeding its rights gets an audit event (`auditDenied`).
 * Attempts without a valid credential (`noteDenied`) are counted in the isolate, then in the table `denied_attempts`,
 * and become one audit event per address, reason and minute (`recordDenied`, a sweep).
 *
 * Memory bound per isolate: both maps cover one minute and hold at most MAX_KEYS and MAX_EVENTS entries.
 */

const MINUTE_MS = 60_000;
/** Counts are flushed to the database about this often. An isolate that ends loses the counts since its last flush. */
const FLUSH_MS = 1_000;
/** A flush that has not finished after this long was cut off with its request; the next request takes over. */
const FLUSH_STUCK_MS = 30_000;
const MAX_ROUNDS = 3;
/** Counts of a minute are final this long after it ends; later ones are added to the minute in which they arrive. */
const GRACE_MS = 10_000;
/** Pairs of address and reason counted separately per isolate and minute; beyond that the address is `other`. */
const MAX_KEYS = 500;
/** Refused-permission events kept in memory per isolate, and per actor before paths are merged into one event. */
const MAX_EVENTS = 10_000;
const MAX_EVENTS_ACTOR = 100;
const SLICE = 50;

/** Stands for all addresses that are not counted separately. */
const OTHER = "other";

/** The part of a context that noting an attempt needs; during authentication there is no actor yet. */
export type NoteContext = Pick<Context, "clock" | "db" | "defer" | "log" | "requestId" | "storageFull">;

interface Attempts {
  readonly address: string;
  readonly reason: string;
  /** Start of the minute in Unix milliseconds. */
  readonly minute: number;
  readonly request_id: string;
  count: number;
}

let gathered = new Map<string, Attempts>();
/** Pairs of address and reason seen in this minute; kept across flushes. */
let known = { minute: 0, keys: new Set<string>() };
let flush = { running: false, since: 0 };

/**
 * Counts an attempt without a valid credential. `reason` is a fixed snake_case code, never caller input. Returns at
 * once. The door notes every 401 and every refusal before there is an actor; a handler calls this only for a failed
 * sign-in that it answers differently (with a redirect).
 */
export function noteDenied(ctx: NoteContext, caller: Pick<Caller, "address">, reason: string): void {
  const now = ctx.clock.now().getTime();
  const minute = now - (now % MINUTE_MS);
  if (known.minute !== minute) known = { minute, keys: new Set() };
  const wanted = addressKey(caller.address) ?? caller.address;
  // While the disk is full, counts stay in memory; beyond its bound they are lost.
  if (ctx.storageFull && gathered.size >= MAX_KEYS) return;
  const isKnown = known.keys.has(`${wanted} ${reason}`) || known.keys.size < MAX_KEYS;
  if (isKnown) known.keys.add(`${wanted} ${reason}`);
  count({ address: isKnown ? wanted : OTHER, reason, minute, request_id: ctx.requestId, count: 1 });
  if (ctx.storageFull) return;
  if (flush.running && now - flush.since >= 0 && now - flush.since < FLUSH_STUCK_MS) return;
  const wait = Math.min(Math.max(flush.since + FLUSH_MS - now, 0), FLUSH_MS);
  flush = { running: true, since: now };
  ctx.defer(flushLater(ctx, wait, flush));
}

function count(attempts: Attempts): void {
  const key = `${attempts.minute} ${attempts.address} ${attempts.reason}`;
  const before = gathered.get(key);
  if (before) before.count += attempts.count;
  else gathered.set(key, attempts);
}

/** Flushes until nothing is left. Under a flood another request takes over after a few rounds. */
async function flushLater(ctx: NoteContext, firstWaitMs: number, mine: typeof flush): Promise<void> {
  try {
    let wait = firstWaitMs;
    for (let round = 0; round < MAX_ROUNDS && gathered.size > 0; round++) {
      if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
      await flushOnce(ctx);
      wait = FLUSH_MS;
    }
  } finally {
    if (flush === mine) flush = { running: false, since: ctx.clock.now().getTime() };
  }
}

async function flushOnce(ctx: NoteContext): Promise<void> {
  const batch = gathered;
  gathered = new Map();
  try {
    const now = ctx.clock.now().getTime();
    const rows = [...batch.values()].map((one) => ({ ...one, minute: minuteOf(inTime(one.minute, now)) }));
    await ctx.db.run(sql`insert into ${deniedAttempts} (address, reason, minute, count, request_id)
      select value ->> 'address', value ->> 'reason', value ->> 'minute', sum(value ->> 'count'), min(value ->> 'request_id')
      from json_each(${JSON.stringify(rows)}) where true group by 1, 2, 3
      on conflict (minute, address, reason) do update set count = count + excluded.count`);
  } catch (error) {
    // Kept for the next flush, within the memory bound.
    if (gathered.size < MAX_KEYS) for (const one of batch.values()) count(one);
    ctx.log.warn("denied.flush_failed", { error: describeError(error) });
  }
}

/** The minute to count attempts in: their own, or the current one if their own may already be recorded. */
function inTime(minute: number, now: number): number {
  return now < minute + MINUTE_MS + GRACE_MS / 2 ? minute : now - (now % MINUTE_MS);
}

function minuteOf(time: number): string {
  return new Date(time).toISOString();
}

/**
 * One slice of the sweep: writes an audit event per address, reason and finished minute and deletes the counts in the
 * same batch.
 */
export async function recordDenied(ctx: Context): Promise<string | null> {
  const now = ctx.clock.now().getTime() - GRACE_MS;
  const rows = await ctx.db
    .select()
    .from(deniedAttempts)
    .where(sql`${deniedAttempts.minute} < ${minuteOf(now - (now % MINUTE_MS))}`)
    .orderBy(deniedAttempts.minute, deniedAttempts.address, deniedAttempts.reason)
    .limit(SLICE);
  if (rows.length === 0) return null;
  const events = rows.map(({ address, reason, minute, count, request_id }) =>
    ctx.audit(
      "auth.denied",
      address,
      { reason, minute, count, request_id },
      { id: `audit-${sha256HexSync(`denied|${minute}|${address}|${reason}`).slice(0, 32)}`, actor: ANONYMOUS_ACTOR },
    ),
  );
  const keys = JSON.stringify(rows.map(({ address, reason, minute }) => ({ address, reason, minute })));
  const these = sql`exists (select 1 from json_each(${keys}) as k
    where k.value ->> 'minute' = minute and k.value ->> 'address' = address and k.value ->> 'reason' = reason)`;
  const total = rows.reduce((sum, row) => sum + row.count, 0);
  const unchanged = guard(sql`(select sum(count) from ${deniedAttempts} where ${these}) = ${total}`);
  const removal = rawStatement(ctx.db, sql`delete from ${deniedAttempts} where ${these}`);
  // A late count or a concurrent run makes this fail; the next tick tries again.
  const recorded = await ifUnchanged(() => runBatch(ctx.db, [unchanged, ...events, removal]));
  return !recorded || rows.length < SLICE ? null : "more";
}

let refused = { minute: 0, ids: new Set<string>(), byActor: new Map<string, number>() };

/** An attempt that exceeded the actor's rights. */
export interface RefusedAttempt {
  readonly operation: string;
  readonly method: string;
  readonly path: string;
  /** The error code. */
  readonly reason: string;
}

/**
 * Audits an attempt that exceeded the actor's rights: one event per actor, operation and path per minute. After a
 * hundred different paths in a minute, an actor gets one event per operation instead.
 */
export async function auditDenied(ctx: Context, attempt: RefusedAttempt): Promise<void> {
  const now = ctx.clock.now().getTime();
  const minute = now - (now % MINUTE_MS);
  if (refused.minute !== minute || refused.ids.size >= MAX_EVENTS)
    refused = { minute, ids: new Set(), byActor: new Map() };
  const actor = `${ctx.actor.type}:${ctx.actor.id}`;
  const tried = refused.byActor.get(actor) ?? 0;
  const path = tried < MAX_EVENTS_ACTOR ? attempt.path.slice(0, 500) : "*";
  const id = sha256HexSync([actor, attempt.operation, attempt.reason, path, minute].join("\n"));
  if (refused.ids.has(id)) return;
  // Recorded before the write, so that concurrent attempts count too.
  const memory = refused;
  memory.ids.add(id);
  memory.byActor.set(actor, tried + 1);
  const { operation, method, reason } = attempt;
  const event = ctx.audit(
    "auth.denied",
    operation,
    { method, path, reason, address: ctx.caller.address },
    { id: `audit-${id.slice(0, 32)}`, resource_type: "route" },
  );
  try {
    await runBatch(ctx.db, [event]);
  } catch (error) {
    // The request is still refused; the next attempt is audited again.
    memory.ids.delete(id);
    ctx.log.error("denied.audit_failed", { operation, reason, error: describeError(error) });
  }
}
