import { type AnySQLiteColumn, index, integer, sqliteTable, text, uniqueIndex } from "drizzle-orm/sqlite-core";
import type { SubjectName } from "../../pki/names.ts";
import type { CaState, NameConstraintValues } from "../ledger.ts";
import type { LedgerProblem } from "../ledger-inventory.ts";
import { issuers } from "../table.ts";

/**
 * Every CA of ours: an issuer's own (parent_ca_id null) and the intermediates below it. The ledger is the truth about keys
 * and certificates; this row is what people and relying parties look up.
 */
export const certificateAuthorities = sqliteTable(
  "certificate_authorities",
  {
    id: text().primaryKey(),
    issuer_id: text()
      .notNull()
      .references(() => issuers.id),
    parent_ca_id: text().references((): AnySQLiteColumn => certificateAuthorities.id),
    /** Random and never used again. */
    ledger_id: text().notNull().unique(),
    /** As public URLs name it: the issuer's id for its own CA, else the id of this row. */
    ca_id: text().notNull().unique(),
    name: text().notNull(),
    subject: text({ mode: "json" }).$type<SubjectName>().notNull(),
    state: text().$type<CaState>().notNull(),
    /** PEM; empty while it waits for its certificate. */
    cert_pem: text().notNull(),
    /** PEM of its issuers up to and including the root; empty for a root. */
    chain_pem: text().notNull(),
    /** PEM of the request while it waits for its certificate. */
    csr_pem: text(),
    /** In the parent's ledger. */
    serial_number: text(),
    not_before: text(),
    not_after: text(),
    path_len_constraint: integer(),
    name_constraints: text({ mode: "json" }).$type<NameConstraintValues[]>().notNull(),
    algorithm: text().notNull(),
    /** Lower-case hex of subject DER and key bits: what an OCSP CertID names (RFC 6960 section 4.1.1). */
    name_hash_sha1: text().notNull(),
    key_hash_sha1: text().notNull(),
    name_hash_sha256: text().notNull(),
    key_hash_sha256: text().notNull(),
    /** Hex: tells every serial of this CA from made-up ones; null where the ledger has to be asked (`Ledger.serials`). */
    serial_key: text(),
    metadata: text({ mode: "json" }).$type<Record<string, unknown>>().notNull(),
    note: text(),
    created_at: text().notNull(),
    updated_at: text().notNull(),
    retired_at: text(),
    /** Revoked at the parent. */
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
 * How far the inventory has heard of each ledger: the number of the highest fact that it has recorded (`Mark`). Rows stay when
 * an issuer goes, until its ledger has ended.
 */
export const ledgerMarks = sqliteTable("ledger_marks", {
  ledger_id: text().primaryKey(),
  seq: integer().notNull(),
  /** While the ledger takes back what it lost in a restore; null else. */
  restoring_since: text(),
});

/** Every ledger that was ever begun and has not ended: those of CAs, and those whose CA never came to be or is gone. */
export const ledgers = sqliteTable("ledgers", {
  /** Random and never used again. */
  id: text().primaryKey(),
  created_at: text().notNull(),
  /** Null: it has a CA, or one is being made. Else when it is asked to end: nobody has its CA. */
  ending_at: text(),
  /** What it goes on trying in vain; null: nothing. */
  problems: text({ mode: "json" }).$type<LedgerProblem[]>(),
});
