import { and, asc, gt, inArray, lte, sql } from "drizzle-orm";
import { commit } from "../platform/commit.ts";
import type { Context } from "../platform/context.ts";
import type { Statement } from "../platform/database.ts";
import type { EventAction } from "../platform/events.ts";
import { everyMinutes } from "../platform/work/schedule.ts";
import { type Claim, holdsStatements, type Payload, type Rest, type WorkKinds } from "../platform/work/work.ts";
import { auditEvents } from "./table.ts";

/**
 * Reactions to events. The audit log is the single stream of events, in commit order; each reaction reads it from its
 * own cursor. The effects of a page of events and the cursor's move are one batch, so each event takes effect exactly
 * once, despite crashes and duplicate wake-ups. A reaction is one row of recurring work whose payload is the cursor.
 * Committing an event it handles wakes it; the minute tick picks up events whose wake-up was lost.
 */

export type RecordedEvent = typeof auditEvents.$inferSelect;

/** Effects of a reaction: statements for the batch that moves its cursor, and the ids of work rows among them. */
export interface Effects {
  readonly statements: readonly Statement[];
  readonly wakeups: readonly string[];
}

export interface Reaction {
  /** The name of its work row. A renamed reaction starts over. */
  readonly name: string;
  readonly actions: readonly EventAction[];
  /** Where a reaction without a cursor starts: at the first recorded event, or after the latest one. */
  readonly from: "beginning" | "now";
  /** Receives matching events in order, at most one page. Must not write anything itself. */
  react(ctx: Context, events: readonly RecordedEvent[]): Promise<Effects> | Effects;
}

declare module "../platform/context.ts" {
  interface Wiring {
    readonly reactions: readonly Reaction[];
  }
}

const PAGE = 50;
/** Events scanned per step; a reaction handles few of them. */
const WINDOW = 1_000;

const kindOf = ({ name }: Pick<Reaction, "name">): string => `reaction.${name}`;

/** The work rows to wake after an event of this action is committed. */
export function reactionsTo(action: EventAction, reactions: readonly Reaction[]): string[] {
  return reactions.filter(({ actions }) => actions.includes(action)).map(kindOf);
}

export function reactionWork(reactions: readonly Reaction[]): WorkKinds {
  return Object.fromEntries(
    reactions.map((reaction) => [
      kindOf(reaction),
      {
        run: (ctx: Context, payload: Payload, claim: Claim) => step(ctx, reaction, payload, claim),
        schedule: everyMinutes(1),
        atOnce: 1,
        whenFull: true as const,
      },
    ]),
  );
}

/** Handles one page. */
async function step(ctx: Context, reaction: Reaction, { after }: Payload, claim: Claim): Promise<Rest> {
  const from = typeof after === "number" ? after : reaction.from === "beginning" ? 0 : null;
  const { events, head } = await eventsAfter(ctx, from, reaction.actions);
  const last = events.length < PAGE ? Math.min(head, (from ?? head) + WINDOW) : (events.at(-1)?.seq ?? head);
  const payload = { after: last };
  if (events.length > 0) {
    const { statements, wakeups } = await reaction.react(ctx, events);
    await commit(ctx, [...holdsStatements(ctx, claim, payload), ...statements], { wakeups });
  }
  return { payload, inSeconds: last < head ? 0 : null };
}

/**
 * The matching events of a window, and the highest sequence number of the log. `from` null: no events, since the
 * reaction starts now.
 */
async function eventsAfter(
  ctx: Context,
  from: number | null,
  actions: readonly EventAction[],
): Promise<{ events: RecordedEvent[]; head: number }> {
  const log = ctx.db
    .select({ head: sql<number>`coalesce(max(seq), 0)`.as("head") })
    .from(auditEvents)
    .as("log");
  const wanted = and(
    gt(auditEvents.seq, from ?? log.head),
    lte(auditEvents.seq, sql`${from ?? 0} + ${WINDOW}`),
    inArray(auditEvents.action, [...actions]),
  );
  const rows = await ctx.db
    .select({ head: log.head, event: auditEvents })
    .from(log)
    .leftJoin(auditEvents, wanted)
    .orderBy(asc(auditEvents.seq))
    .limit(PAGE);
  return { events: rows.flatMap(({ event }) => (event ? [event] : [])), head: rows[0]?.head ?? 0 };
}
