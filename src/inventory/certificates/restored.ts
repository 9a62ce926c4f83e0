import { type SQL, sql } from "drizzle-orm";
import { type Context, timestamp } from "../../platform/context.ts";
import { rawStatement, type Statement } from "../../platform/database.ts";
import type { certificates } from "./table.ts";

type Certificate = typeof certificates.$inferSelect;

/**
 * Records lost when the database was restored to an earlier state. The ledger keeps with each certificate what its
 * record said at signing, so that the record can be written again under its own id.
 */
export type KeptRecord = Pick<
  Certificate,
  | "name"
  | "common_name"
  | "sans"
  | "environment"
  | "owner_id"
  | "team_id"
  | "renewal_policy_id"
  | "certificate_profile_id"
  | "tags"
>;

export function keptRecord(record: Certificate): KeptRecord {
  const { name, common_name, sans, environment, owner_id, team_id, renewal_policy_id, certificate_profile_id, tags } =
    record;
  return { name, common_name, sans, environment, owner_id, team_id, renewal_policy_id, certificate_profile_id, tags };
}

/** A record rebuilt from the only thing left of it, a certificate's names. */
export function recordOfNames(id: string, common_name: string, sans: readonly string[]): KeptRecord {
  const unknown = { environment: "restored", owner_id: "", team_id: "", renewal_policy_id: "" };
  return { ...unknown, name: id, common_name, sans, certificate_profile_id: null, tags: {} };
}

/**
 * Statements that write a record again unless it exists. A lost owner, team or renewal policy is replaced by the oldest
 * one; targets must be chosen again.
 */
export function restoreStatements(ctx: Context, id: string, issuerId: string, kept: KeptRecord): Statement[] {
  const now = timestamp(ctx);
  const oldest = (table: SQL, kept: string) => sql`coalesce((select id from ${table} where id = ${kept}),
    (select id from ${table} order by created_at, id limit 1))`;
  return [
    rawStatement(
      ctx.db,
      sql`insert into certificates (id, name, common_name, sans, environment, owner_id, team_id, issuer_id,
          renewal_policy_id, certificate_profile_id, tags, status, created_at, updated_at)
        select ${id}, case when exists (select 1 from certificates where name = ${kept.name}) then ${id} else ${kept.name} end,
          ${kept.common_name}, ${JSON.stringify(kept.sans)}, ${kept.environment}, ${oldest(sql`owners`, kept.owner_id)},
          ${oldest(sql`teams`, kept.team_id)}, ${issuerId}, ${oldest(sql`renewal_policies`, kept.renewal_policy_id)},
          (select id from profiles where id = ${kept.certificate_profile_id}), ${JSON.stringify(kept.tags)},
          'Pending', ${now}, ${now}
        where not exists (select 1 from certificates where id = ${id})`,
    ),
    ctx.audit("certificate.restore", id, { name: kept.name, issuer_id: issuerId }, { id: `audit-restored-${id}` }),
  ];
}
