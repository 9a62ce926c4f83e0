import { and, eq, gt, isNull, type SQL, sql } from "drizzle-orm";
import { type Context, timestamp } from "../../platform/context.ts";
import { guard, noRow, rowExists, type Statement, unchanged } from "../../platform/database.ts";
import { certificates, certificateVersions } from "./table.ts";
import { latestNotAfter } from "./versions.ts";

/**
 * What becomes of a certificate's status and times. The status is always computed from facts (times, revocations, versions,
 * open jobs), never counted up: so a repeated or late statement changes nothing.
 */

declare module "../../platform/context.ts" {
  interface Wiring {
    /** Conditions on the issuances and renewals of a certificate. */
    readonly issuances: {
      /** One is open that was asked for at a time that meets `when`. */
      open(certificateId: SQL, when?: (askedAt: SQL) => SQL): SQL;
      /** The newest one failed. */
      lastFailed(certificateId: SQL): SQL;
    };
  }
}

/** Condition: an issuance or renewal of the certificate is open. */
export function renewing({ wiring }: Context, certificateId: string): SQL {
  return wiring.issuances.open(sql`${certificateId}`);
}

/** The later of now and a millisecond after `updated_at`: the row's version must rise with each write. */
export function raisedUpdatedAt(now: string): SQL {
  return sql`case when ${certificates.updated_at} < ${now} then ${now}
    else strftime('%Y-%m-%dT%H:%M:%fZ', ${certificates.updated_at}, '+0.001 seconds') end`;
}

/**
 * The status that the facts give at `now`. A renewal that is under way counts when it was asked for after what it is to
 * heal: a certificate that expires or is revoked meanwhile shows that. Expiring begins a renewal window before the end, or
 * at the last third of the life of what lives shorter than that.
 */
export function statusAt({ wiring }: Context, now: string): SQL {
  const { id, status, expires_at, revoked_at, revocation_noted_at, renewal_policy_id } = certificates;
  const left = sql`(julianday(${expires_at}) - julianday(${now}))`;
  const life = sql`(select julianday(v.not_after) - julianday(v.not_before) from certificate_versions v
    where v.certificate_id = ${id} and v.not_after = ${expires_at} limit 1)`;
  const policyWindow = sql`(select p.renewal_window_days from renewal_policies p where p.id = ${renewal_policy_id})`;
  const renewing = wiring.issuances.open(
    sql`${id}`,
    (askedAt) => sql`(${revoked_at} is null or ${askedAt} > ${revocation_noted_at})
      and (${expires_at} is null or ${expires_at} > ${now} or ${askedAt} >= ${expires_at})`,
  );
  const lastFailed = wiring.issuances.lastFailed(sql`${id}`);
  return sql`case
    when ${status} = 'Archived' then 'Archived'
    when ${renewing} then 'RenewalInProgress'
    when ${revoked_at} is not null then 'Revoked'
    when ${expires_at} is null and ${lastFailed} then 'Failed'
    when ${expires_at} is null then 'Pending'
    when ${expires_at} <= ${now} then 'Expired'
    when ${left} <= min(${policyWindow}, coalesce(${life}, 365) / 3.0) then 'Expiring'
    else 'Active' end`;
}

/** Sets the status to what the facts give after the statements before it in the batch. */
export function refreshStatus(ctx: Context, certificateId: string, now: string): Statement {
  return ctx.db
    .update(certificates)
    .set({ status: statusAt(ctx, now), updated_at: raisedUpdatedAt(now) })
    .where(and(eq(certificates.id, certificateId), sql`${certificates.status} <> ${statusAt(ctx, now)}`));
}

export interface RevokedVersion {
  readonly issuer_id: string;
  readonly serial_number: string;
  readonly revoked_at: string;
  readonly reason: string;
}

/**
 * Marks versions, and the certificate with the time and reason of its revocation unless it was renewed since. May be repeated
 * with the same facts, also late; an archived certificate stays archived.
 */
export function revokeStatements(
  ctx: Context,
  certificateId: string,
  of: { readonly revoked_at: string; readonly reason: string },
  versions: readonly RevokedVersion[],
  now: string,
): Statement[] {
  const { certificate_id, revoked_at, not_after, created_at } = certificateVersions;
  const notRenewed = noRow(
    certificateVersions,
    and(eq(certificate_id, certificateId), isNull(revoked_at), gt(not_after, now), gt(created_at, of.revoked_at)),
  );
  return [
    ...versions.map((version) =>
      ctx.db
        .update(certificateVersions)
        .set({ revoked_at: version.revoked_at, revocation_reason: version.reason })
        .where(sameVersion(version)),
    ),
    ctx.db
      .update(certificates)
      .set({
        revoked_at: of.revoked_at,
        revocation_reason: of.reason,
        revocation_noted_at: sql`case when ${certificates.revoked_at} is null then ${now}
          else ${certificates.revocation_noted_at} end`,
        updated_at: raisedUpdatedAt(now),
      })
      .where(and(eq(certificates.id, certificateId), notRenewed)),
    refreshStatus(ctx, certificateId, now),
  ];
}

/** Lifts a hold from versions and certificate. */
export function releaseStatements(
  ctx: Context,
  certificateId: string,
  versions: readonly Pick<RevokedVersion, "issuer_id" | "serial_number">[],
  now: string,
): Statement[] {
  return [
    ...versions.map((version) =>
      ctx.db.update(certificateVersions).set({ revoked_at: null, revocation_reason: null }).where(sameVersion(version)),
    ),
    ctx.db
      .update(certificates)
      .set({ revoked_at: null, revocation_reason: null, revocation_noted_at: null, updated_at: raisedUpdatedAt(now) })
      .where(eq(certificates.id, certificateId)),
    refreshStatus(ctx, certificateId, now),
  ];
}

function sameVersion({ issuer_id, serial_number }: Pick<RevokedVersion, "issuer_id" | "serial_number">) {
  return and(eq(certificateVersions.issuer_id, issuer_id), eq(certificateVersions.serial_number, serial_number));
}

/** Archived: final. */
export function archiveStatement(ctx: Context, certificateId: string, now: string): Statement {
  return ctx.db
    .update(certificates)
    .set({ status: "Archived", updated_at: raisedUpdatedAt(now) })
    .where(eq(certificates.id, certificateId));
}

/**
 * A version was issued: the certificate lasts until the latest end of what is not revoked. `heals`: the issuance was asked
 * for after an earlier revocation, which then is over.
 */
export function issuedStatements(
  ctx: Context,
  certificateId: string,
  of: { readonly version_id: string; readonly issued_at: string; readonly asked_at: string | SQL },
  now: string,
): Statement[] {
  const { id, revoked_at } = certificateVersions;
  const stands = rowExists(certificateVersions, and(eq(id, of.version_id), isNull(revoked_at)));
  const heals = sql`(${certificates.revoked_at} is null
    or (${certificates.revocation_noted_at} < ${of.asked_at} and ${stands}))`;
  return [
    ctx.db
      .update(certificates)
      .set({
        expires_at: latestNotAfter(certificateId),
        last_renewal_at: sql`max(coalesce(${certificates.last_renewal_at}, ''), ${of.issued_at})`,
        revoked_at: sql`case when ${heals} then null else ${certificates.revoked_at} end`,
        revocation_reason: sql`case when ${heals} then null else ${certificates.revocation_reason} end`,
        revocation_noted_at: sql`case when ${heals} then null else ${certificates.revocation_noted_at} end`,
        updated_at: raisedUpdatedAt(now),
      })
      .where(eq(certificates.id, certificateId)),
    refreshStatus(ctx, certificateId, now),
  ];
}

/** One row that says whether and why the certificate is revoked, after the statements before it; `also` is told along with it. */
export function standing<Also extends Readonly<Record<string, SQL>>>(ctx: Context, certificateId: string, also: Also) {
  const named = Object.entries(also).map(([name, value]) => [name, value.as(name)]);
  return ctx.db
    .select({
      revoked: sql<0 | 1>`${certificates.revoked_at} is not null`.as("revoked"),
      reason: certificates.revocation_reason,
      ...Object.fromEntries(named),
    })
    .from(certificates)
    .where(eq(certificates.id, certificateId));
}

export interface StatusChange {
  readonly id: string;
  readonly updated_at: string;
  readonly from: string;
  readonly to: string;
}

/** Certificates whose stored status no longer follows from the facts, ordered by expiry. */
export function dueForStatus(ctx: Context, now: string, limit: number): Promise<StatusChange[]> {
  const { id, status, expires_at, updated_at } = certificates;
  return ctx.db.all<StatusChange>(sql`
    select ${id} as id, ${updated_at} as updated_at, ${status} as "from", ${statusAt(ctx, now)} as "to" from ${certificates}
    where ${status} in ('Active', 'Expiring', 'RenewalInProgress')
      and ${expires_at} <= strftime('%Y-%m-%dT%H:%M:%fZ', ${now},
        '+' || (select coalesce(max(p.renewal_window_days), 0) from renewal_policies p) || ' days')
      and ${status} <> ${statusAt(ctx, now)}
    order by ${expires_at} limit ${limit}`);
}

/** Writes such a change with its event, unless somebody else has written the certificate since. */
export function statusStatements(ctx: Context, change: StatusChange): Statement[] {
  const now = timestamp(ctx);
  return [
    guard(unchanged(certificates, change)),
    refreshStatus(ctx, change.id, now),
    ctx.audit("certificate.status", change.id, { from: change.from, to: change.to }),
  ];
}
