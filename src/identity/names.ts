import { and, eq, inArray, type SQL, sql } from "drizzle-orm";
import type { ActorType } from "../platform/context.ts";
import { rowExists } from "../platform/database.ts";
import { DEMO_ACTOR } from "./demo.ts";
import { actorRoles, apiKeys } from "./table.ts";

/** What actors may be called: an id under auth/keys must never mean two of them. */

/** Names of API keys' actors. */
export const ACTOR_NAME = /^[a-z0-9][a-z0-9_-]{2,63}$/;

/** What reads as the id of something else, or stands for somebody already. */
const RESERVED_NAME = new RegExp(`^(?:ak-|u-|abc-|system$|anonymous$|retired$|${DEMO_ACTOR.id}$)`);

/** Whether nobody may be called so: no key, no agent. */
export function isReservedName(name: string): boolean {
  return RESERVED_NAME.test(name);
}

const ACTOR_TYPES: readonly ActorType[] = ["User", "System", "Agent", "APIKey", "Anonymous"];

/** All types but agents: what an agent's id must not be. */
export const OTHER_THAN_AGENTS: readonly ActorType[] = ACTOR_TYPES.filter((type) => type !== "Agent");

/** Condition: an actor of this id, of one of these types, has, or had, a key or a role. */
export function isActor(id: string, types: readonly ActorType[] = ACTOR_TYPES): SQL {
  const keys = rowExists(apiKeys, ofActorId(apiKeys, id, types));
  return sql`(${keys} or ${rowExists(actorRoles, ofActorId(actorRoles, id, types))})`;
}

/** Condition: the row is of an actor of this id. The types are named, as the indexes begin with them. */
export function ofActorId(
  table: typeof apiKeys | typeof actorRoles,
  id: string,
  types: readonly ActorType[] = ACTOR_TYPES,
): SQL | undefined {
  return and(inArray(table.actor_type, [...types]), eq(table.actor_id, id));
}
