import { index, sqliteTable, text, uniqueIndex } from "drizzle-orm/sqlite-core";
import type { ActorType, ScopeType } from "../platform/context.ts";

/** API keys. Only the SHA-256 of a key is kept; `prefix` helps people to tell keys apart. */
export const apiKeys = sqliteTable(
  "api_keys",
  {
    id: text().primaryKey(),
    actor_id: text().notNull(),
    actor_type: text().$type<ActorType>().notNull(),
    name: text().notNull(),
    prefix: text().notNull(),
    key_hash: text().notNull(),
    created_by: text().notNull(),
    created_at: text().notNull(),
    expires_at: text(),
    last_used_at: text(),
    revoked_at: text(),
  },
  (table) => [
    uniqueIndex("api_keys_hash").on(table.key_hash),
    index("api_keys_actor").on(table.actor_type, table.actor_id),
  ],
);

/** Which actor holds which role, in which scope, until when. */
export const actorRoles = sqliteTable(
  "actor_roles",
  {
    id: text().primaryKey(),
    actor_id: text().notNull(),
    actor_type: text().$type<ActorType>().notNull(),
    role_id: text().notNull(),
    scope_type: text().$type<ScopeType>().notNull(),
    /** Empty when global, so that the uniqueness below holds. */
    scope_id: text().notNull(),
    expires_at: text(),
    granted_by: text().notNull(),
    created_at: text().notNull(),
  },
  (table) => [
    uniqueIndex("actor_roles_grant").on(
      table.actor_type,
      table.actor_id,
      table.role_id,
      table.scope_type,
      table.scope_id,
    ),
    index("actor_roles_role").on(table.role_id),
  ],
);

/** What may happen once in the life of an installation: the row is the proof that it has. */
export const milestones = sqliteTable("milestones", {
  name: text().primaryKey(),
  at: text().notNull(),
});
