import { sql } from "drizzle-orm";
import { check, index, integer, primaryKey, sqliteTable, text, uniqueIndex } from "drizzle-orm/sqlite-core";
import { rowOf } from "../../platform/database.ts";
import { owners, profiles, renewalPolicies, teams } from "../table.ts";

export const CERTIFICATE_STATUSES = [
  "Pending",
  "Active",
  "Expiring",
  "Expired",
  "RenewalInProgress",
  "Failed",
  "Revoked",
  "Archived",
] as const;

export type CertificateStatus = (typeof CERTIFICATE_STATUSES)[number];

/** A certificate record: the names to certify, and their owner. Each certificate issued for it is a version. */
export const certificates = sqliteTable(
  "certificates",
  {
    id: text().primaryKey(),
    name: text().notNull().unique(),
    common_name: text().notNull(),
    /** Normalised by `parseSan`; need not include the common name. */
    sans: text({ mode: "json" }).$type<readonly string[]>().notNull(),
    environment: text().notNull(),
    owner_id: text()
      .notNull()
      .references(() => owners.id),
    team_id: text()
      .notNull()
      .references(() => teams.id),
    issuer_id: text()
      .notNull()
      .references(() => rowOf("issuers").id),
    renewal_policy_id: text()
      .notNull()
      .references(() => renewalPolicies.id),
    certificate_profile_id: text().references(() => profiles.id),
    tags: text({ mode: "json" }).$type<Readonly<Record<string, string>>>().notNull(),
    status: text().$type<CertificateStatus>().notNull(),
    /** The latest notAfter of its versions; null if none. */
    expires_at: text(),
    last_renewal_at: text(),
    last_deployment_at: text(),
    /** Set while the last issued version is revoked; a later issuance clears it. */
    revoked_at: text(),
    revocation_reason: text(),
    /**
     * When the inventory recorded the revocation, by its own clock (the ledger's times are whole seconds): jobs from
     * before are void, a job from after clears the revocation.
     */
    revocation_noted_at: text(),
    created_at: text().notNull(),
    updated_at: text().notNull(),
  },
  (table) => [
    index("certificates_created").on(table.created_at, table.id),
    index("certificates_expiry").on(table.status, table.expires_at),
    index("certificates_expires").on(table.expires_at, table.id),
    index("certificates_owner").on(table.owner_id, table.created_at, table.id),
    index("certificates_team").on(table.team_id, table.created_at, table.id),
    index("certificates_issuer").on(table.issuer_id, table.created_at, table.id),
    index("certificates_policy").on(table.renewal_policy_id),
    index("certificates_profile").on(table.certificate_profile_id, table.created_at, table.id),
    index("certificates_environment").on(table.environment, table.created_at, table.id),
    index("certificates_common_name").on(table.common_name, table.id),
  ],
);

/** Every name of a certificate including the common name, for look-ups. Triggers maintain it (migrations). */
export const certificateNames = sqliteTable(
  "certificate_names",
  {
    name: text().notNull(),
    certificate_id: text()
      .notNull()
      .references(() => certificates.id),
  },
  (table) => [
    primaryKey({ columns: [table.name, table.certificate_id] }),
    index("certificate_names_certificate").on(table.certificate_id),
  ],
);

/** The targets of a certificate; their agents are the certificate's agents. */
export const certificateTargets = sqliteTable(
  "certificate_targets",
  {
    certificate_id: text()
      .notNull()
      .references(() => certificates.id),
    target_id: text()
      .notNull()
      .references(() => rowOf("targets").id),
  },
  (table) => [
    primaryKey({ columns: [table.certificate_id, table.target_id] }),
    index("certificate_targets_target").on(table.target_id),
  ],
);

/** One issued certificate. Rows are added and marked as revoked, never deleted. */
export const certificateVersions = sqliteTable(
  "certificate_versions",
  {
    id: text().primaryKey(),
    certificate_id: text()
      .notNull()
      .references(() => certificates.id),
    issuer_id: text()
      .notNull()
      .references(() => rowOf("issuers").id),
    /** The id, in public URLs, of the CA that signed. */
    ca_id: text().notNull(),
    serial_number: text().notNull(),
    not_before: text().notNull(),
    not_after: text().notNull(),
    fingerprint_sha256: text().notNull(),
    /** The leaf first, then each issuer up to and including the root. */
    pem_chain: text().notNull(),
    csr_pem: text(),
    key_algorithm: text().notNull(),
    key_size: integer().notNull(),
    /** The agent that holds the key; null if no agent does. */
    agent_id: text().references(() => rowOf("agents").id),
    job_id: text(),
    revoked_at: text(),
    revocation_reason: text(),
    /** Time of signing. */
    created_at: text().notNull(),
  },
  (table) => [
    uniqueIndex("certificate_versions_serial").on(table.issuer_id, table.serial_number),
    index("certificate_versions_certificate").on(table.certificate_id, table.created_at, table.id),
    index("certificate_versions_agent").on(table.agent_id),
    index("certificate_versions_fingerprint").on(table.fingerprint_sha256),
    index("certificate_versions_by_serial").on(table.serial_number),
    check("certificate_versions_no_key", sql`${table.csr_pem} is null or instr(${table.csr_pem}, 'PRIVATE KEY') = 0`),
  ],
);
