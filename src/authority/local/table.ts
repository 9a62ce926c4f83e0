import { type AnySQLiteColumn, index, integer, sqliteTable, text, uniqueIndex } from "drizzle-orm/sqlite-core";
import type { SubjectName } from "../../pki/names.ts";
import type { CaState, NameConstraintValues } from "../ledger.ts";
import type { LedgerProblem } from "../ledger-inventory.ts";
import { issuers } from "../table.ts";

/**
 * Every CA of ours: an issuer's own (parent_ca_id null) and the intermediates below it. The ledger is the truth about
 * keys and certificates; this row serves look-ups.
 */
export const certificateAuthorities = sqliteTable(
  "certificate_authorities",
  {
    id: text().primaryKey(),
    issuer_id: text()
      .notNull()
      .references(() => issuers.id),
    parent_ca_id: text().references((): AnySQLiteColumn => certificateAuthorities.id),
    /** Random, never reused. */
    ledger_id: text().notNull().unique(),
    /** The id in public URLs: the issuer's id for its own CA, else the id of this row. */
    ca_id: text().notNull().unique(),
    name: text().notNull(),
    subject: text({ mode: "json" }).$type<SubjectName>().notNull(),
    state: text().$type<CaState>().notNull(),
    /** PEM; empty while the CA waits for its certificate. */
    cert_pem: text().notNull(),
    /** PEM of the CA's issuers up to and including the root; empty for a root. */
    chain_pem: text().notNull(),
    /** PEM of the CSR; null once the CA has its certificate. */
    csr_pem: text(),
    /** Serial in the parent's ledger. */
    serial_number: text(),
    not_before: text(),
    not_after: text(),
    path_len_constraint: integer(),
    name_constraints: text({ mode: "json" }).$type<NameConstraintValues[]>().notNull(),
    algorithm: text().notNull(),
    /** Lower-case hex digest of subject DER and key bits: the fields of an OCSP CertID (RFC 6960 section 4.1.1). */
    name_hash_sha1: text().notNull(),
    key_hash_sha1: text().notNull(),
    name_hash_sha256: text().notNull(),
    key_hash_sha256: text().notNull(),
    /** Hex: tells this CA's serials from made-up ones; null: ask the ledger (`Ledger.serials`). */
    serial_key: text(),
    metadata: text({ mode: "json" }).$type<Record<string, unknown>>().notNull(),
    note: text(),
    created_at: text().notNull(),
    updated_at: text().notNull(),
    retired_at: text(),
    /** Time of revocation by the parent. */
    revoked_at: text(),
    revocation_reason: text(),
  },
  (table) => [
    uniqueIndex("certificate_authorities_name").on(table.issuer_id, table.name),
    index("certificate_authorities_parent").on(table.parent_ca_id),
  ],
);

export type CaAuthorityRow = typeof certificateAuthorities.$inferSelect;

/**
 * How far the inventory has heard of each ledger: the number of the highest recorded fact (`Mark`). A row outlives its
 * issuer and is deleted when the ledger has ended.
 */
export const ledgerMarks = sqliteTable("ledger_marks", {
  ledger_id: text().primaryKey(),
  seq: integer().notNull(),
  /** Set while the ledger takes back what it lost in a restore. */
  restoring_since: text(),
});

/** Every ledger that was begun and has not ended, with or without a CA. */
export const ledgers = sqliteTable("ledgers", {
  /** Random, never reused. */
  id: text().primaryKey(),
  created_at: text().notNull(),
  /** Null: the ledger has a CA, or one is being made. Else the time to end it. */
  ending_at: text(),
  /** Tasks that the ledger keeps failing at; null: none. */
  problems: text({ mode: "json" }).$type<LedgerProblem[]>(),
});
