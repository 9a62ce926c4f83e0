import { index, integer, sqliteTable, text } from "drizzle-orm/sqlite-core";
import type { LEAF_EKUS } from "../pki/certificate.ts";

export const KEY_FAMILIES = ["RSA", "ECDSA", "Ed25519"] as const;

export interface KeyAlgorithmRule {
  readonly algorithm: (typeof KEY_FAMILIES)[number];
  /** In bits, of the RSA modulus or the curve; Ed25519 has 256. */
  readonly min_size: number;
}

/** Subject attributes of every certificate of a profile; the common name comes from the record. */
export interface ProfileSubject {
  readonly organization?: string | undefined;
  readonly organizational_unit?: string | undefined;
  readonly country?: string | undefined;
}

const stamps = { created_at: text().notNull(), updated_at: text().notNull() };

export const teams = sqliteTable(
  "teams",
  { id: text().primaryKey(), name: text().notNull().unique(), description: text().notNull(), ...stamps },
  (table) => [index("teams_created").on(table.created_at, table.id)],
);

export const owners = sqliteTable(
  "owners",
  {
    id: text().primaryKey(),
    name: text().notNull(),
    email: text().notNull(),
    team_id: text().references(() => teams.id),
    ...stamps,
  },
  (table) => [index("owners_created").on(table.created_at, table.id), index("owners_team").on(table.team_id)],
);

/** What may be issued: keys, lifetime, usages, names (invariant 8). */
export const profiles = sqliteTable(
  "profiles",
  {
    id: text().primaryKey(),
    name: text().notNull().unique(),
    description: text().notNull(),
    allowed_key_algorithms: text({ mode: "json" }).$type<readonly KeyAlgorithmRule[]>().notNull(),
    /** 0: no limit in the profile. */
    max_ttl_seconds: integer().notNull(),
    allowed_ekus: text({ mode: "json" }).$type<readonly (typeof LEAF_EKUS)[number][]>().notNull(),
    required_san_patterns: text({ mode: "json" }).$type<readonly string[]>().notNull(),
    spiffe_uri_pattern: text().notNull(),
    allow_short_lived: integer({ mode: "boolean" }).notNull(),
    must_staple: integer({ mode: "boolean" }).notNull(),
    subject: text({ mode: "json" }).$type<ProfileSubject>().notNull(),
    enabled: integer({ mode: "boolean" }).notNull(),
    ...stamps,
  },
  (table) => [index("profiles_created").on(table.created_at, table.id)],
);

export const renewalPolicies = sqliteTable(
  "renewal_policies",
  {
    id: text().primaryKey(),
    name: text().notNull().unique(),
    renewal_window_days: integer().notNull(),
    auto_renew: integer({ mode: "boolean" }).notNull(),
    max_retries: integer().notNull(),
    retry_interval_seconds: integer().notNull(),
    alert_thresholds_days: text({ mode: "json" }).$type<readonly number[]>().notNull(),
    certificate_profile_id: text().references(() => profiles.id),
    ...stamps,
  },
  (table) => [
    index("renewal_policies_created").on(table.created_at, table.id),
    index("renewal_policies_profile").on(table.certificate_profile_id),
  ],
);
