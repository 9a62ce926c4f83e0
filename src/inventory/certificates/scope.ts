import { eq, type SQL, type SQLWrapper, sql } from "drizzle-orm";
import { type ObjectScope, visible } from "../../platform/access.ts";
import type { Actor, Context } from "../../platform/context.ts";
import { certificates } from "./table.ts";

/**
 * A certificate's place is its profile and its issuer. A permission for either reaches the certificate and everything
 * under it: versions, exports, jobs. A certificate without a profile is reached through its issuer or by a permission
 * for everything.
 */

const COLUMNS = { profile_id: certificates.certificate_profile_id, issuer_id: certificates.issuer_id };

/** The place of a record, as stored or as requested. */
export function placeOf(record: {
  readonly certificate_profile_id: string | null;
  readonly issuer_id: string;
}): ObjectScope {
  return { profile_id: record.certificate_profile_id, issuer_id: record.issuer_id };
}

/** For routes of a certificate `{id}`: its place; null if absent. */
export function certificateScope(
  ctx: Context,
  { id = "" }: Readonly<Record<string, string>>,
): Promise<ObjectScope | null> {
  return placeOfCertificate(ctx, id);
}

/** The place of the certificate with this id, which may be a scalar subquery; null if absent. */
export async function placeOfCertificate(ctx: Context, id: string | SQL): Promise<ObjectScope | null> {
  const [place] = await ctx.db.select(COLUMNS).from(certificates).where(eq(certificates.id, id));
  return place ?? null;
}

/** Limits a list of certificates to those that the actor may see; undefined: all of them. */
export function visibleCertificates(actor: Actor, permission: string): SQL | undefined {
  return visible(actor, permission, COLUMNS);
}

/** The same for rows of a certificate; `certificateId` is their column. */
export function visibleByCertificate(actor: Actor, permission: string, certificateId: SQLWrapper): SQL | undefined {
  const condition = visibleCertificates(actor, permission);
  return condition && sql`${certificateId} in (select ${certificates.id} from ${certificates} where ${condition})`;
}
