import { integer, sqliteTable, text } from "drizzle-orm/sqlite-core";

/** An issuer: certificates come from its CA, ours or an outside one. `config` holds no secret. */
export const issuers = sqliteTable("issuers", {
  id: text().primaryKey(),
  name: text().notNull().unique(),
  type: text().notNull(),
  config: text({ mode: "json" }).$type<Record<string, unknown>>().notNull(),
  /** Sealed secrets of an outside CA's configuration; null: none, or kept in a ledger. */
  sealed_config: text(),
  enabled: integer({ mode: "boolean" }).notNull(),
  last_tested_at: text(),
  test_status: text({ enum: ["untested", "success", "failed"] }).notNull(),
  created_at: text().notNull(),
  updated_at: text().notNull(),
});

export type IssuerRow = typeof issuers.$inferSelect;

/** Keys refused for ever: those of certificates revoked for keyCompromise. */
export const blockedKeys = sqliteTable("blocked_keys", {
  /** SHA-256 of the SubjectPublicKeyInfo. */
  spki_sha256: text().primaryKey(),
  reason: text().notNull(),
  certificate_id: text(),
  created_at: text().notNull(),
});
