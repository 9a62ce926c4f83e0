import { and, eq, ne, type SQL, sql } from "drizzle-orm";
import type { Context } from "../../platform/context.ts";
import { certificates, certificateTargets } from "./table.ts";

/** Which targets certificates are meant for, as the fleet asks. Subqueries stand in parentheses. */

/** The ids of the targets of a certificate. */
export function targetsOfCertificate(certificateId: string | SQL): SQL {
  const { certificate_id, target_id } = certificateTargets;
  return sql`(select ${target_id} from ${certificateTargets} where ${certificate_id} = ${certificateId})`;
}

/** How many certificates that are not archived are meant for one of the targets. */
export async function countActiveOn(ctx: Context, targets: SQL): Promise<number> {
  const [row] = await ctx.db
    .select({ n: sql<number>`count(distinct ${certificates.id})` })
    .from(certificateTargets)
    .innerJoin(certificates, eq(certificates.id, certificateTargets.certificate_id))
    .where(and(sql`${certificateTargets.target_id} in ${targets}`, ne(certificates.status, "Archived")));
  return row?.n ?? 0;
}
