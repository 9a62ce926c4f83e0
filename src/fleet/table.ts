import { index, integer, sqliteTable, text, uniqueIndex } from "drizzle-orm/sqlite-core";
import type { ActorType } from "../platform/context.ts";
import type { TargetTypeName } from "./target-config.ts";

export const AGENT_STATUSES = ["Online", "Offline", "Degraded"] as const;
export type AgentStatus = (typeof AGENT_STATUSES)[number];

export const agents = sqliteTable(
  "agents",
  {
    id: text().primaryKey(),
    name: text().notNull().unique(),
    hostname: text().notNull(),
    os: text().notNull(),
    architecture: text().notNull(),
    ip_address: text().notNull(),
    version: text().notNull(),
    last_heartbeat_at: text(),
    registered_at: text().notNull(),
    /** The bootstrap credential (`abc-`) with which the agent enrolled; null if a person registered it. */
    credential_id: text(),
    updated_at: text().notNull(),
    retired_at: text(),
    retired_reason: text(),
  },
  (table) => [
    index("agents_registered").on(table.registered_at, table.id),
    index("agents_credential").on(table.credential_id),
    index("agents_retired").on(table.retired_at, table.id),
  ],
);

/** Places where agents deploy certificates. */
export const targets = sqliteTable(
  "targets",
  {
    id: text().primaryKey(),
    name: text().notNull(),
    type: text().$type<TargetTypeName>().notNull(),
    agent_id: text()
      .notNull()
      .references(() => agents.id),
    /** Declared secrets are `********`. */
    config: text({ mode: "json" }).$type<Readonly<Record<string, unknown>>>().notNull(),
    /** Envelope of `{path: secret}`; null if there are none. */
    sealed_secrets: text(),
    enabled: integer({ mode: "boolean" }).notNull(),
    retired_at: text(),
    retired_reason: text(),
    created_at: text().notNull(),
    updated_at: text().notNull(),
  },
  (table) => [
    uniqueIndex("targets_name").on(table.agent_id, table.name),
    index("targets_created").on(table.created_at, table.id),
  ],
);

/**
 * Lets a number of agents enrol themselves until it is used up, expires or is revoked. Only the SHA-256 of the token is
 * kept.
 */
export const agentCredentials = sqliteTable(
  "agent_credentials",
  {
    id: text().primaryKey(),
    name: text().notNull(),
    prefix: text().notNull(),
    token_hash: text().notNull().unique(),
    max_uses: integer().notNull(),
    uses: integer().notNull(),
    expires_at: text().notNull(),
    revoked_at: text(),
    created_by: text().notNull(),
    owner_type: text().$type<ActorType>().notNull(),
    owner_id: text().notNull(),
    last_used_at: text(),
    created_at: text().notNull(),
    updated_at: text().notNull(),
  },
  (table) => [index("agent_credentials_created").on(table.created_at, table.id)],
);
