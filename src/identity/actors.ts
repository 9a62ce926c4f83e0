import { and, eq, isNull } from "drizzle-orm";
import type { Actor, LookupContext } from "../platform/context.ts";
import { describeError } from "../platform/log.ts";
import { type ActorRef, actorWith, firstExpiry, grantsOf } from "./grants.ts";
import { users } from "./table.ts";

/** What this isolate remembers of actors and their rights, so that a busy one does not ask the database each time. */

/** An isolate may remember a check for so long: what is revoked elsewhere ends here within this. */
const REMEMBER_MS = 5_000;
/** One request looks again so long before a check is forgotten, while the others still go by it: nobody waits, and not all ask at once. */
const AHEAD_MS = 1_500;
const REMEMBER_ENTRIES = 10_000;
/** Within a request time stands still: another one that began a little later may have looked it up meanwhile. */
const SKEW_MS = 1_000;

interface Remembered {
  readonly actor: Actor;
  readonly until: number;
  /** From then on somebody looks again; Infinity while somebody does. */
  renewFrom: number;
}

/**
 * By the key as it was shown, or by `User:<id>`: hashing costs a tenth of a whole request, and memory that can be read holds the
 * requests as well. What is over goes with the next look-up; all of it when full, and with every change to rights made here.
 */
const remembered = new Map<string, Remembered>();
let generation = 0;

/** What is remembered of `name`, or null. `renew` is called by the one request that is to look again, beside its own work. */
export function recall(name: string, now: number, renew: () => void): Actor | null {
  const known = remembered.get(name);
  if (!known || known.until <= now || known.until > now + REMEMBER_MS + SKEW_MS) {
    remembered.delete(name);
    return null;
  }
  if (known.renewFrom <= now) {
    known.renewFrom = Number.POSITIVE_INFINITY;
    renew();
  }
  return known.actor;
}

/** Remembers until five seconds from `now`, or until something of it expires. `since` is what `rightsGeneration` was before the rows were read. */
export function remember(name: string, actor: Actor, now: number, expires: number, since: number): void {
  if (since !== generation) return;
  if (remembered.size >= REMEMBER_ENTRIES) remembered.clear();
  for (const [old, { until }] of remembered) {
    if (until > now) break;
    remembered.delete(old);
  }
  // Behind all others, so that the first ones are those that are over first.
  remembered.delete(name);
  const until = Math.min(now + REMEMBER_MS, expires);
  remembered.set(name, { actor, until, renewFrom: until - AHEAD_MS });
}

/** Who is found no more is not remembered either. */
export function forget(name: string): null {
  remembered.delete(name);
  return null;
}

/** To be called after each change of keys, roles, grants or users: the next request in this isolate sees it. */
export function forgetActors(): void {
  generation++;
  remembered.clear();
}

/** A look-up that began before a change must not outlive it. */
export function rightsGeneration(): number {
  return generation;
}

/** The user as an actor with the rights of now (at most five seconds old); null when absent or deactivated. */
export async function actorOfUser(ctx: LookupContext, id: string): Promise<Actor | null> {
  const look = () => lookUpUser(ctx, id);
  return recall(nameOf(id), ctx.clock.now().getTime(), () => renewLater(ctx, look)) ?? look();
}

/** Looks again when the answer is out. Fails without harm: the next request after the five seconds looks for itself. */
export function renewLater(ctx: LookupContext, look: () => Promise<unknown>): void {
  ctx.defer(look().catch((error) => ctx.log.warn("actor.renew_failed", { error: describeError(error) })));
}

function nameOf(userId: string): string {
  return `User:${userId}`;
}

async function lookUpUser(ctx: LookupContext, id: string): Promise<Actor | null> {
  const now = ctx.clock.now().getTime();
  const since = rightsGeneration();
  const ref: ActorRef = { id, type: "User" };
  const [[user], grants] = await Promise.all([
    ctx.db
      .select({ id: users.id })
      .from(users)
      .where(and(eq(users.id, id), isNull(users.deactivated_at))),
    grantsOf(ctx, ref),
  ]);
  if (!user) return forget(nameOf(id));
  const actor = await actorWith(ctx, ref, grants);
  remember(nameOf(id), actor, now, firstExpiry(grants), since);
  return actor;
}
