import { and, asc, gt, inArray, lte, sql } from "drizzle-orm";
import { commit } from "../platform/commit.ts";
import type { Context } from "../platform/context.ts";
import type { Statement } from "../platform/database.ts";
import type { EventAction } from "../platform/events.ts";
import { everyMinutes } from "../platform/work/schedule.ts";
import { type Claim, holdsStatements, type Payload, type Rest, type WorkKinds } from "../platform/work/work.ts";
import { auditEvents } from "./table.ts";

/**
 * Reactions to events. The audit log is the one stream of events, in the order of commits; a reaction reads it from a cursor of
 * its own. What it does about a page of events and the move of its cursor are one batch, so each event has its effect once,
 * whatever crashes or is woken twice. A reaction is one row of recurring work, whose payload is the cursor: a commit of an event
 * that it wants wakes it, and the tick of the minute finds what no wake-up told of.
 */

/** An event as it is on record. */
export type RecordedEvent = typeof auditEvents.$inferSelect;

/** What a reaction does: statements for the batch that moves its cursor, and the ids of work among them. */
export interface Effects {
  readonly statements: readonly Statement[];
  readonly wakeups: readonly string[];
}

export interface Reaction {
  /** The name of its row; a reaction that is named anew starts anew. */
  readonly name: string;
  readonly actions: readonly EventAction[];
  /** Where a reaction without a cursor starts: at the first event on record, or after the last one of now. */
  readonly from: "beginning" | "now";
  /** Events of these actions in order, at most a page of them. It writes nothing itself. */
  react(ctx: Context, events: readonly RecordedEvent[]): Promise<Effects> | Effects;
}

declare module "../platform/context.ts" {
  interface Wiring {
    readonly reactions: readonly Reaction[];
  }
}

const PAGE = 50;
/** So many events are looked through in one step: most are of actions that a reaction does not want. */
const WINDOW = 1_000;

const kindOf = ({ name }: Pick<Reaction, "name">): string => `reaction.${name}`;

/** The rows of work to wake once an event of this action is committed. */
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

/** One page. */
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

/** The events of a window, and the last sequence number of all. `from` null: none, as the reaction starts now. */
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
