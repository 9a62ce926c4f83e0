import { and, eq, ne, type SQL, sql } from "drizzle-orm";
import type { Context } from "../../platform/context.ts";
import { certificates, certificateTargets } from "./table.ts";

/** Mapping of certificates to targets, for the fleet. Subqueries are in parentheses. */

/** The ids of the targets of a certificate. */
export function targetsOfCertificate(certificateId: string | SQL): SQL {
  const { certificate_id, target_id } = certificateTargets;
  return sql`(select ${target_id} from ${certificateTargets} where ${certificate_id} = ${certificateId})`;
}

/** The number of unarchived certificates mapped to any of the targets. */
export async function countActiveOn(ctx: Context, targets: SQL): Promise<number> {
  const [row] = await ctx.db
    .select({ n: sql<number>`count(distinct ${certificates.id})` })
    .from(certificateTargets)
    .innerJoin(certificates, eq(certificates.id, certificateTargets.certificate_id))
    .where(and(sql`${certificateTargets.target_id} in ${targets}`, ne(certificates.status, "Archived")));
  return row?.n ?? 0;
}
