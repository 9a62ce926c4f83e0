import { sql } from "drizzle-orm";
import { index, integer, sqliteTable, text, uniqueIndex } from "drizzle-orm/sqlite-core";
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
    /** Who answers for the key: the user (or other actor) at the beginning of the chain of keys that made it. */
    owner_type: text().$type<ActorType>().notNull().default("System"),
    owner_id: text().notNull().default("system"),
    created_at: text().notNull(),
    expires_at: text(),
    last_used_at: text(),
    revoked_at: text(),
  },
  (table) => [
    uniqueIndex("api_keys_hash").on(table.key_hash),
    index("api_keys_actor").on(table.actor_type, table.actor_id),
    index("api_keys_owner").on(table.owner_type, table.owner_id),
  ],
);

/** Roles that people made. The built-in ones are in code and never in this table. */
export const roles = sqliteTable("roles", {
  id: text().primaryKey(),
  tenant_id: text().notNull(),
  name: text().notNull().unique(),
  description: text().notNull(),
  created_at: text().notNull(),
  updated_at: text().notNull(),
});

/** What a role of `roles` may do, and in which scope. */
export const rolePermissions = sqliteTable(
  "role_permissions",
  {
    role_id: text()
      .notNull()
      .references(() => roles.id),
    permission: text().notNull(),
    scope_type: text().$type<ScopeType>().notNull(),
    /** Empty when global, so that the uniqueness below holds. */
    scope_id: text().notNull(),
    granted_by: text().notNull(),
    created_at: text().notNull(),
  },
  (table) => [
    uniqueIndex("role_permissions_grant").on(table.role_id, table.permission, table.scope_type, table.scope_id),
  ],
);

/** Which actor holds which role, in which scope, until when, and where that comes from. */
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
    /** The group mapping (`grm-`) that gives and takes this grant; empty when somebody granted it by hand. */
    mapping_id: text().notNull().default(""),
    expires_at: text(),
    granted_by: text().notNull(),
    created_at: text().notNull(),
  },
  (table) => [
    uniqueIndex("actor_roles_source").on(
      table.actor_type,
      table.actor_id,
      table.role_id,
      table.scope_type,
      table.scope_id,
      table.mapping_id,
    ),
    index("actor_roles_role").on(table.role_id),
    index("actor_roles_mapping").on(table.mapping_id),
  ],
);

/** What may happen once in the life of an installation: the row is the proof that it has. */
export const milestones = sqliteTable("milestones", {
  name: text().primaryKey(),
  at: text().notNull(),
});

/** Identity providers (OpenID Connect). The client secret is sealed for the purpose `oidc|<id>`. */
export const oidcProviders = sqliteTable("oidc_providers", {
  id: text().primaryKey(),
  tenant_id: text().notNull(),
  name: text().notNull().unique(),
  issuer_url: text().notNull(),
  client_id: text().notNull(),
  sealed_client_secret: text().notNull(),
  redirect_uri: text().notNull(),
  groups_claim_path: text().notNull(),
  groups_claim_format: text().notNull(),
  fetch_userinfo: integer({ mode: "boolean" }).notNull(),
  scopes: text({ mode: "json" }).$type<readonly string[]>().notNull(),
  allowed_email_domains: text({ mode: "json" }).$type<readonly string[]>().notNull(),
  iat_window_seconds: integer().notNull(),
  jwks_cache_ttl_seconds: integer().notNull(),
  enabled: integer({ mode: "boolean" }).notNull(),
  created_at: text().notNull(),
  updated_at: text().notNull(),
});

/** What was last fetched from a provider, shared by all isolates, with true counters. One row a provider. */
export const oidcProviderState = sqliteTable("oidc_provider_state", {
  provider_id: text()
    .primaryKey()
    .references(() => oidcProviders.id),
  /** The issuer that the documents are of: another one makes them worthless. */
  issuer_url: text().notNull(),
  discovery: text({ mode: "json" }).$type<Readonly<Record<string, unknown>>>(),
  jwks: text({ mode: "json" }).$type<Readonly<Record<string, unknown>>>(),
  fetched_at: text(),
  /** The last attempt that failed or was made for an unknown `kid`: what brakes further ones. */
  attempted_at: text(),
  refresh_count: integer().notNull(),
  rejected_jws_count: integer().notNull(),
  last_error: text(),
});

/** Group of a provider to role: the grants that come of it carry the mapping's id. */
export const oidcGroupMappings = sqliteTable(
  "oidc_group_mappings",
  {
    id: text().primaryKey(),
    tenant_id: text().notNull(),
    provider_id: text()
      .notNull()
      .references(() => oidcProviders.id),
    group_name: text().notNull(),
    role_id: text().notNull(),
    scope_type: text().$type<ScopeType>().notNull(),
    scope_id: text().notNull(),
    created_by: text().notNull(),
    created_at: text().notNull(),
  },
  (table) => [
    uniqueIndex("oidc_group_mappings_grant").on(
      table.provider_id,
      table.group_name,
      table.role_id,
      table.scope_type,
      table.scope_id,
    ),
    index("oidc_group_mappings_role").on(table.role_id),
  ],
);

/** People, known by their provider and its subject. */
export const users = sqliteTable(
  "users",
  {
    id: text().primaryKey(),
    tenant_id: text().notNull(),
    oidc_provider_id: text()
      .notNull()
      .references(() => oidcProviders.id),
    oidc_subject: text().notNull(),
    email: text().notNull(),
    display_name: text().notNull(),
    last_login_at: text(),
    deactivated_at: text(),
    created_at: text().notNull(),
    updated_at: text().notNull(),
  },
  (table) => [
    uniqueIndex("users_subject").on(table.oidc_provider_id, table.oidc_subject),
    index("users_created").on(table.created_at, table.id),
  ],
);

/** HMAC keys of session cookies, sealed for the purpose `session|<id>`. Retired ones verify until `retired_at` and a day. */
export const sessionKeys = sqliteTable(
  "session_keys",
  {
    id: text().primaryKey(),
    sealed_key: text().notNull(),
    created_at: text().notNull(),
    retired_at: text(),
  },
  // Of two isolates that make the first key, or the next one, at the same moment, one succeeds.
  (table) => [
    uniqueIndex("session_keys_present").on(sql`(${table.retired_at} is null)`).where(sql`${table.retired_at} is null`),
  ],
);

/** Finds the session that a provider's `sid` belongs to (OpenID Connect Back-Channel Logout 1.0). The session itself is its actor's object's. */
export const oidcSessions = sqliteTable(
  "oidc_sessions",
  {
    session_id: text().primaryKey(),
    provider_id: text()
      .notNull()
      .references(() => oidcProviders.id),
    user_id: text()
      .notNull()
      .references(() => users.id),
    /** Empty where the provider sends none. */
    sid: text().notNull(),
    /** Sealed for the purpose `id-token|<session id>`: the hint of an RP-initiated logout. */
    sealed_id_token: text(),
    expires_at: text().notNull(),
  },
  (table) => [
    index("oidc_sessions_sid").on(table.provider_id, table.sid),
    index("oidc_sessions_expires").on(table.expires_at),
  ],
);

/** Passwords for when the provider is down (scrypt, PHC string), one a user. */
export const breakglassCredentials = sqliteTable("breakglass_credentials", {
  id: text().primaryKey(),
  actor_id: text()
    .notNull()
    .unique()
    .references(() => users.id),
  password_hash: text().notNull(),
  created_by: text().notNull(),
  created_at: text().notNull(),
  updated_at: text().notNull(),
  last_used_at: text(),
});

/** Attempts without a valid credential, gathered by address, reason and minute until the minute is over and the audit row is written. */
export const deniedAttempts = sqliteTable(
  "denied_attempts",
  {
    address: text().notNull(),
    reason: text().notNull(),
    /** RFC 3339, seconds zero. */
    minute: text().notNull(),
    count: integer().notNull(),
    /** One of the requests, to find it in the logs. */
    request_id: text().notNull(),
  },
  (table) => [uniqueIndex("denied_attempts_key").on(table.minute, table.address, table.reason)],
);
