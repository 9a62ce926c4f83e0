import { and, eq, isNull } from "drizzle-orm";
import type { Actor, LookupContext } from "../platform/context.ts";
import { describeError } from "../platform/log.ts";
import { type ActorRef, actorWith, firstExpiry, grantsOf } from "./grants.ts";
import { users } from "./table.ts";

/** Per-isolate cache of actors and their rights, so that frequent callers do not cost a database query each. */

/** Lifetime of an entry, and so the longest delay until a revocation in another isolate takes effect here. */
const REMEMBER_MS = 5_000;
/**
 * Entries are renewed this long before they expire, by one request, while the others keep using the old entry: none
 * waits, and not all of them query.
 */
const AHEAD_MS = 1_500;
const REMEMBER_ENTRIES = 10_000;
/** Time stands still within a request, so an entry may come from a request that began slightly later. */
const SKEW_MS = 1_000;

interface Remembered {
  readonly actor: Actor;
  readonly until: number;
  /** When the entry should be renewed; Infinity while a renewal is running. */
  renewFrom: number;
}

/**
 * Keyed by the API key as sent, or by `User:<id>`: hashing the key would cost a tenth of a whole request, and anyone
 * who can read this memory can read the requests as well. Expired entries are dropped at the next look-up; the whole
 * cache is cleared when full and after every change to rights made in this isolate.
 */
const remembered = new Map<string, Remembered>();
let generation = 0;

/** The cached actor, or null. Calls `renew` in the one request that should refresh the entry in the background. */
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

/**
 * Caches the actor for five seconds from `now`, or until `expires`. `since` is the `rightsGeneration` from before the
 * rows were read.
 */
export function remember(name: string, actor: Actor, now: number, expires: number, since: number): void {
  if (since !== generation) return;
  if (remembered.size >= REMEMBER_ENTRIES) remembered.clear();
  for (const [old, { until }] of remembered) {
    if (until > now) break;
    remembered.delete(old);
  }
  // Re-inserted at the end: entries stay ordered by expiry, soonest first.
  remembered.delete(name);
  const until = Math.min(now + REMEMBER_MS, expires);
  remembered.set(name, { actor, until, renewFrom: until - AHEAD_MS });
}

/** Drops an actor that no longer exists from the cache. */
export function forget(name: string): null {
  remembered.delete(name);
  return null;
}

/** Call after every change of keys, roles, grants or users, so that the next request in this isolate sees it. */
export function forgetActors(): void {
  generation++;
  remembered.clear();
}

/** Lets `remember` discard a look-up that began before a change. */
export function rightsGeneration(): number {
  return generation;
}

/** The user as an actor with its current rights (at most five seconds old); null if absent or deactivated. */
export async function actorOfUser(ctx: LookupContext, id: string): Promise<Actor | null> {
  const look = () => lookUpUser(ctx, id);
  return recall(nameOf(id), ctx.clock.now().getTime(), () => renewLater(ctx, look)) ?? look();
}

/**
 * Refreshes after the answer is sent. A failure is harmless: once the entry expires, the next request looks the actor
 * up itself.
 */
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
