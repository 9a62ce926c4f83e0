import { and, eq, isNull } from "drizzle-orm";
import type { Actor } from "../platform/context.ts";
import { type ActorRef, actorWith, firstExpiry, grantsOf, type LookupContext } from "./grants.ts";
import { users } from "./table.ts";

/** What this isolate remembers of actors and their rights, so that a busy one does not ask the database each time. */

/** An isolate may remember a check for so long: what is revoked elsewhere ends here within this. */
const REMEMBER_MS = 5_000;
const REMEMBER_ENTRIES = 10_000;

interface Remembered {
  readonly actor: Actor;
  readonly until: number;
}

/** By `key:<SHA-256>` or `User:<id>`; holds no key. Emptied when full, and by every change to rights that this isolate makes. */
const remembered = new Map<string, Remembered>();
let generation = 0;

export function recall(name: string, now: number): Actor | null {
  const known = remembered.get(name);
  if (known && known.until > now && known.until <= now + REMEMBER_MS) return known.actor;
  remembered.delete(name);
  return null;
}

/** Remembers until five seconds from `now`, or until something of it expires. `since` is what `rightsGeneration` was before the rows were read. */
export function remember(name: string, actor: Actor, now: number, expires: number, since: number): void {
  if (since !== generation) return;
  if (remembered.size >= REMEMBER_ENTRIES) remembered.clear();
  remembered.set(name, { actor, until: Math.min(now + REMEMBER_MS, expires) });
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
  const name = `User:${id}`;
  const now = ctx.clock.now().getTime();
  const known = recall(name, now);
  if (known) return known;
  const since = rightsGeneration();
  const ref: ActorRef = { id, type: "User" };
  const [[user], grants] = await Promise.all([
    ctx.db
      .select({ id: users.id })
      .from(users)
      .where(and(eq(users.id, id), isNull(users.deactivated_at))),
    grantsOf(ctx, ref),
  ]);
  if (!user) return null;
  const actor = await actorWith(ctx, ref, grants);
  remember(name, actor, now, firstExpiry(grants), since);
  return actor;
}
