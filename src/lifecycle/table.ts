import { sql } from "drizzle-orm";
import { index, integer, sqliteTable, text, uniqueIndex } from "drizzle-orm/sqlite-core";
import type { Approved } from "../authority/ca.ts";
import type { KeptRecord } from "../inventory/certificates/restored.ts";
import { rowOf } from "../platform/database.ts";

export const JOB_TYPES = ["Issuance", "Renewal", "Deployment", "Validation"] as const;
export type JobType = (typeof JOB_TYPES)[number];

export const JOB_STATUSES = [
  "Pending",
  "AwaitingCSR",
  "AwaitingApproval",
  "Running",
  "Completed",
  "Failed",
  "Cancelled",
] as const;
export type JobStatus = (typeof JOB_STATUSES)[number];

/** Work for an agent, and its progress. Only `transition` in `jobs.ts` moves a job. */
export const jobs = sqliteTable(
  "jobs",
  {
    id: text().primaryKey(),
    type: text().$type<JobType>().notNull(),
    certificate_id: text()
      .notNull()
      .references(() => rowOf("certificates").id),
    target_id: text().references(() => rowOf("targets").id),
    agent_id: text().references(() => rowOf("agents").id),
    status: text().$type<JobStatus>().notNull(),
    attempts: integer().notNull(),
    max_attempts: integer().notNull(),
    last_error: text(),
    scheduled_at: text().notNull(),
    started_at: text(),
    completed_at: text(),
    created_at: text().notNull(),
    updated_at: text().notNull(),
    csr_pem: text(),
    /** Digest of the CSR's public key and names: identifies a repeated submission. */
    csr_digest: text(),
    /** What the gate approved: a resumed job orders exactly this. */
    approved: text({ mode: "json" }).$type<Approved & { readonly record?: KeptRecord }>(),
    /** The CA's reference of an order that it answers later; null: not ordered yet, or answered at once. */
    order_reference: text(),
    version_id: text(),
    /** Incremented with every move. */
    fence: integer().notNull(),
  },
  (table) => [
    index("jobs_created").on(table.created_at, table.id),
    index("jobs_status").on(table.status, table.created_at, table.id),
    index("jobs_certificate").on(table.certificate_id, table.created_at),
    index("jobs_agent").on(table.agent_id, table.status),
    index("jobs_target").on(table.target_id),
    uniqueIndex("jobs_open")
      .on(table.certificate_id, table.agent_id)
      .where(
        sql`${table.type} in ('Issuance', 'Renewal') and ${table.status} in ('Pending', 'AwaitingCSR', 'AwaitingApproval', 'Running')`,
      ),
  ],
);
