import { sql } from "drizzle-orm";
import { index, integer, sqliteTable, text, uniqueIndex } from "drizzle-orm/sqlite-core";
import type { ActorType, ScopeType } from "../platform/context.ts";

/** API keys. Only the SHA-256 of a key is stored; `prefix` helps people tell keys apart. */
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
    /**
     * The owner accountable for the key: the user (or other actor) at the root of the chain of keys that created it.
     */
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

/** Custom roles. Built-in roles are defined in code and never stored here. */
export const roles = sqliteTable("roles", {
  id: text().primaryKey(),
  tenant_id: text().notNull(),
  name: text().notNull().unique(),
  description: text().notNull(),
  created_at: text().notNull(),
  updated_at: text().notNull(),
});

/** Permissions of custom roles, with their scopes. */
export const rolePermissions = sqliteTable(
  "role_permissions",
  {
    role_id: text()
      .notNull()
      .references(() => roles.id),
    permission: text().notNull(),
    scope_type: text().$type<ScopeType>().notNull(),
    /** Empty when global, because NULLs would not be unique. */
    scope_id: text().notNull(),
    granted_by: text().notNull(),
    created_at: text().notNull(),
  },
  (table) => [
    uniqueIndex("role_permissions_grant").on(table.role_id, table.permission, table.scope_type, table.scope_id),
  ],
);

/** Role grants: actor, role, scope, expiry and origin. */
export const actorRoles = sqliteTable(
  "actor_roles",
  {
    id: text().primaryKey(),
    actor_id: text().notNull(),
    actor_type: text().$type<ActorType>().notNull(),
    role_id: text().notNull(),
    scope_type: text().$type<ScopeType>().notNull(),
    /** Empty when global, because NULLs would not be unique. */
    scope_id: text().notNull(),
    /** The group mapping (`grm-`) that manages this grant; empty for a grant made by hand. */
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

/** Events that happen at most once per installation; a row proves that one has. */
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

/** One row per provider: the documents last fetched, shared by all isolates, and exact counters. */
export const oidcProviderState = sqliteTable("oidc_provider_state", {
  provider_id: text()
    .primaryKey()
    .references(() => oidcProviders.id),
  /** The issuer the documents belong to; they are useless for another one. */
  issuer_url: text().notNull(),
  discovery: text({ mode: "json" }).$type<Readonly<Record<string, unknown>>>(),
  jwks: text({ mode: "json" }).$type<Readonly<Record<string, unknown>>>(),
  fetched_at: text(),
  /** The last attempt that failed or was made for an unknown `kid`; limits further attempts. */
  attempted_at: text(),
  refresh_count: integer().notNull(),
  rejected_jws_count: integer().notNull(),
  last_error: text(),
});

/** Maps a provider's group to a role; the resulting grants carry the mapping's id. */
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

/** Users, identified by their provider and subject. */
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

/**
 * HMAC keys of session cookies, sealed for the purpose `session|<id>`. Retired ones verify for one more absolute
 * session lifetime (sessions/signing-keys.ts).
 */
export const sessionKeys = sqliteTable(
  "session_keys",
  {
    id: text().primaryKey(),
    sealed_key: text().notNull(),
    created_at: text().notNull(),
    retired_at: text(),
  },
  // When two isolates create the first or the next key at the same moment, one succeeds.
  (table) => [
    uniqueIndex("session_keys_present").on(sql`(${table.retired_at} is null)`).where(sql`${table.retired_at} is null`),
  ],
);

/**
 * Maps a provider's `sid` to our session (OpenID Connect Back-Channel Logout 1.0). The session itself is in its actor's
 * Durable Object.
 */
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
    /** Empty if the provider sends none. */
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

/** Emergency passwords for when the provider is down (scrypt, PHC string), one per user. */
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

/** Attempts without a valid credential, counted per address, reason and minute until the minute is over and audited. */
export const deniedAttempts = sqliteTable(
  "denied_attempts",
  {
    address: text().notNull(),
    reason: text().notNull(),
    /** RFC 3339 with zero seconds. */
    minute: text().notNull(),
    count: integer().notNull(),
    /** One of the counted requests, to find it in the logs. */
    request_id: text().notNull(),
  },
  (table) => [uniqueIndex("denied_attempts_key").on(table.minute, table.address, table.reason)],
);
