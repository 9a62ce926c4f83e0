import { and, eq, inArray, type SQL, sql } from "drizzle-orm";
import type { ActorType } from "../platform/context.ts";
import { rowExists } from "../platform/database.ts";
import { DEMO_ACTOR } from "./demo.ts";
import { actorRoles, apiKeys } from "./table.ts";

/** Names of actors. An id under auth/keys must never be ambiguous. */

/** Names of API keys' actors. */
export const ACTOR_NAME = /^[a-z0-9][a-z0-9_-]{2,63}$/;

/** Names that look like ids of other objects or belong to built-in actors. */
const RESERVED_NAME = new RegExp(`^(?:ak-|u-|abc-|system$|anonymous$|retired$|${DEMO_ACTOR.id}$)`);

/** Whether the name is reserved, for API keys and agents alike. */
export function isReservedName(name: string): boolean {
  return RESERVED_NAME.test(name);
}

const ACTOR_TYPES: readonly ActorType[] = ["User", "System", "Agent", "APIKey", "Anonymous"];

/** An agent's id must not be taken by an actor of any of these types. */
export const OTHER_THAN_AGENTS: readonly ActorType[] = ACTOR_TYPES.filter((type) => type !== "Agent");

/** Condition: an actor with this id and one of these types has or had a key or a role. */
export function isActor(id: string, types: readonly ActorType[] = ACTOR_TYPES): SQL {
  const keys = rowExists(apiKeys, ofActorId(apiKeys, id, types));
  return sql`(${keys} or ${rowExists(actorRoles, ofActorId(actorRoles, id, types))})`;
}

/** Condition: the row belongs to an actor with this id. Lists the types, because the indexes begin with the type. */
export function ofActorId(
  table: typeof apiKeys | typeof actorRoles,
  id: string,
  types: readonly ActorType[] = ACTOR_TYPES,
): SQL | undefined {
  return and(inArray(table.actor_type, [...types]), eq(table.actor_id, id));
}
