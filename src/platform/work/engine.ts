import type { Context } from "../context.ts";
import { describeError } from "../log.ts";
import { BudgetSpent, Meter, metered, meterOf } from "./meter.ts";
import { isExhausted, jittered, type Policy, pauseAfter } from "./policy.ts";
import { type Becomes, claimDue, claimWoken, type Ending, endClaims, type Shares, type WorkRow } from "./rows.ts";
import { after } from "./timer.ts";
import { type Rest, type WorkKind, type WorkKinds, wake } from "./work.ts";

/**
 * The work engine. One statement claims due rows: the oldest of each kind, up to the kind's share. A claim is a lease
 * plus a fence. Claimed rows run concurrently, each with a timeout and each kind with its part of the budget; runs that
 * end at about the same time are recorded in one batch. A kind with more due rows is claimed again as soon as it has
 * room, independently of other kinds. A run that lost its lease cannot change a row that another run has claimed.
 */

const PAUSES: Policy = { first: 2_000, longest: 3_600_000 };
const ATTEMPTS = 30;
const AT_ONCE = 10;
const TIMEOUT_SECONDS = 30;
/** No claims after this long; the caller continues in another invocation. */
const CLAIM_MS = 20_000;
/** Ended runs are recorded once no other run has ended for this long. */
const QUIET_MS = 50;
/** Minimum budget per kind, however many kinds share it. No single step needs more. */
const LEAST_SHARE = 200;
/** Budget reserved for the engine's own statements. */
const RESERVE = 50;
/** Stored errors are cut to this many characters. */
const MAX_ERROR = 1_000;

export type Outcome = "done" | "again" | "retry" | "dead";

interface Ended extends Ending {
  readonly outcome: Outcome;
}

/** A run that has not ended. */
interface Run {
  readonly kind: string;
  readonly done: Promise<void>;
}

interface Ran {
  /** Whether the budget or the time ran out before all due work was done. */
  readonly more: boolean;
  /** The last outcome of each row. */
  readonly outcomes: ReadonlyMap<string, Outcome>;
}

/** Runs all due work. "more": the budget or time of this invocation is spent and more may be due. */
export async function runDue(ctx: Context, kinds: WorkKinds): Promise<"more" | "finished"> {
  const isRecurring = (kind: string) => kinds[kind]?.schedule !== undefined;
  const { more } = await runAll(ctx, kinds, (shares) => claimDue(ctx, shares, [...shares.keys()].filter(isRecurring)));
  return more ? "more" : "finished";
}

/** Runs the rows with these ids that are due and unclaimed; recurring work also before its time. */
export async function runWoken(
  ctx: Context,
  kinds: WorkKinds,
  ids: readonly string[],
): Promise<ReadonlyMap<string, Outcome>> {
  const { outcomes } = await runAll(ctx, kinds, (shares) => claimWoken(ctx, shares, ids));
  return outcomes;
}

async function runAll(
  ctx: Context,
  kinds: WorkKinds,
  claim: (shares: Shares) => Promise<readonly WorkRow[]>,
): Promise<Ran> {
  const began = ctx.clock.now().getTime();
  const budget = withoutReserve(ctx);
  const isOver = () => meterOf(ctx)?.isLow() || ctx.clock.now().getTime() - began >= CLAIM_MS;
  const outcomes = new Map<string, Outcome>();
  const running: Run[] = [];
  const ended: Ended[] = [];
  /** Kinds that may have more due rows than were claimed. */
  const open = new Set(Object.keys(kinds));

  for (;;) {
    const shares = isOver() ? new Map<string, number>() : freeShares(kinds, open, running);
    if (shares.size > 0) {
      const rows = await claim(shares);
      for (const kind of leftUnfilled(kinds, shares, rows)) open.delete(kind);
      const contexts = sharedBudget(budget, rows);
      for (const row of rows) {
        const done = run(contexts.get(row.kind) ?? ctx, kinds[row.kind], row).then((end) => {
          running.splice(running.indexOf(started), 1);
          ended.push(end);
        });
        const started: Run = { kind: row.kind, done };
        running.push(started);
      }
    }
    if (running.length === 0 && ended.length === 0) break;
    await someEnd(running);
    const now = ended.splice(0);
    await endClaims(ctx, now);
    for (const { row, outcome } of now) {
      outcomes.set(row.id, outcome);
      if (outcome === "again") open.add(row.kind);
    }
  }
  wake(
    ctx,
    [...outcomes].flatMap(([id, outcome]) => (outcome === "again" ? [id] : [])),
  );
  return { more: open.size > 0, outcomes };
}

/** How many rows of each open kind may be claimed now. */
function freeShares(kinds: WorkKinds, open: ReadonlySet<string>, running: readonly Run[]): Shares {
  const busy = countByKind(running);
  const shares = new Map<string, number>();
  for (const kind of open) {
    const free = (kinds[kind]?.atOnce ?? AT_ONCE) - (busy.get(kind) ?? 0);
    if (free > 0) shares.set(kind, free);
  }
  return shares;
}

/** The kinds with nothing more due: recurring ones, and those that got fewer rows than their share. */
function leftUnfilled(kinds: WorkKinds, shares: Shares, rows: readonly WorkRow[]): string[] {
  const claimed = countByKind(rows);
  return [...shares.keys()].filter(
    (kind) => kinds[kind]?.schedule || (claimed.get(kind) ?? 0) < (shares.get(kind) ?? 0),
  );
}

function countByKind(rows: readonly { readonly kind: string }[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { kind } of rows) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return counts;
}

/** The budget minus what the engine needs to record ended runs. */
function withoutReserve(ctx: Context): Context {
  const meter = meterOf(ctx);
  return meter ? metered(ctx, new Meter(Math.max(0, meter.left() - RESERVE))) : ctx;
}

/** A context per kind, limited to an equal part of the remaining budget. */
function sharedBudget(ctx: Context, rows: readonly WorkRow[]): ReadonlyMap<string, Context> {
  const meter = meterOf(ctx);
  const kinds = new Set(rows.map(({ kind }) => kind));
  if (!meter) return new Map();
  const part = Math.max(LEAST_SHARE, Math.floor(meter.left() / kinds.size));
  return new Map([...kinds].map((kind) => [kind, metered(ctx, new Meter(part))]));
}

/** Waits until one run has ended, and then for as long as others end in quick succession. */
async function someEnd(running: readonly Run[]): Promise<void> {
  const done = () => running.map((one) => one.done);
  if (running.length === 0) return;
  await Promise.race(done());
  for (let before = running.length + 1; running.length > 0 && running.length < before; ) {
    before = running.length;
    const quiet = after(QUIET_MS);
    await Promise.race([Promise.all(done()), quiet.passed]);
    quiet.cancel();
  }
}

async function run(ctx: Context, kind: WorkKind | undefined, row: WorkRow): Promise<Ended> {
  try {
    if (!kind) throw new Error(`nothing does work of kind ${row.kind}`);
    const rest = await within(kind.timeoutSeconds ?? TIMEOUT_SECONDS, kind.run(ctx, row.payload, row));
    return endOf(ctx, kind, row, rest);
  } catch (error) {
    const last_error = describeError(error).slice(0, MAX_ERROR);
    // Work that exceeded this invocation's budget is retried like failed work, but never becomes dead for it.
    const hadRoom = !(error instanceof BudgetSpent);
    if (hadRoom && isExhausted(row.attempts, kind?.attempts ?? ATTEMPTS) && (await die(ctx, kind, row, last_error)))
      return dead(ctx, kind, row, last_error);
    return retry(ctx, kind, row, last_error);
  }
}

function endOf(ctx: Context, kind: WorkKind, row: WorkRow, rest: Rest | undefined): Ended {
  const payload = rest ? { payload: rest.payload } : {};
  if (rest && rest.inSeconds !== null) {
    if (rest.inSeconds > 0) wake(ctx, [row.id], rest.inSeconds);
    const outcome = rest.inSeconds > 0 ? "done" : "again";
    return { row, outcome, becomes: becomes(ctx, rest.inSeconds * 1000, payload) };
  }
  const due_at = nextTime(ctx, kind);
  return { row, outcome: "done", becomes: due_at === null ? null : { ...becomes(ctx, 0, payload), due_at } };
}

function retry(ctx: Context, kind: WorkKind | undefined, row: WorkRow, last_error: string): Ended {
  const { id, attempts } = row;
  ctx.log.error("work.failed", { id, kind: row.kind, attempts, error: last_error });
  const pause = jittered(pauseAfter(attempts, PAUSES), ctx.random.bytes(1)[0] ?? 0);
  const later = becomes(ctx, pause, { attempts, last_error });
  // Recurring work is retried at its next scheduled time at the latest.
  const next = nextTime(ctx, kind);
  return { row, outcome: "retry", becomes: next !== null && next < later.due_at ? { ...later, due_at: next } : later };
}

function dead(ctx: Context, kind: WorkKind | undefined, row: WorkRow, last_error: string): Ended {
  const { id, attempts } = row;
  ctx.log.error("work.dead", { id, kind: row.kind, attempts, error: last_error });
  const end = becomes(ctx, 0, { state: "dead", attempts, last_error });
  return { row, outcome: "dead", becomes: { ...end, due_at: nextTime(ctx, kind) ?? end.due_at } };
}

function nextTime(ctx: Context, kind: WorkKind | undefined): string | null {
  return kind?.schedule?.(ctx.clock.now()).toISOString() ?? null;
}

/** Runs the kind's `dead` handler. Returns false if that fails; the work is then retried. */
async function die(ctx: Context, kind: WorkKind | undefined, row: WorkRow, error: string): Promise<boolean> {
  if (!kind?.dead) return true;
  try {
    await within(kind.timeoutSeconds ?? TIMEOUT_SECONDS, kind.dead(ctx, row.payload, error));
    return true;
  } catch (cause) {
    ctx.log.error("work.dead_failed", { id: row.id, kind: row.kind, error: describeError(cause) });
    return false;
  }
}

function becomes(ctx: Context, inMs: number, change: Partial<Becomes>): Becomes {
  const due_at = new Date(ctx.clock.now().getTime() + inMs).toISOString();
  return { state: "due", due_at, attempts: 0, last_error: null, ...change };
}

/** Rejects after this many seconds. The work itself is not cancelled. */
async function within<T>(seconds: number, working: Promise<T>): Promise<T> {
  const time = after(seconds * 1000);
  const late = time.passed.then(() => Promise.reject(new Error(`it took longer than ${seconds} s`)));
  try {
    return await Promise.race([working, late]);
  } finally {
    time.cancel();
  }
}
