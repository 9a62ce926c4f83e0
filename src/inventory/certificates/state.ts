import { and, asc, eq, inArray, lte, max, type SQL, sql } from "drizzle-orm";
import { type Context, timestamp } from "../../platform/context.ts";
import { guard, inList, type Statement, unchanged } from "../../platform/database.ts";
import { nextUpdatedAt } from "../../platform/rows.ts";
import { readTogether } from "../../platform/writer.ts";
import { renewalPolicies } from "../table.ts";
import { nextStatus, type StatusFacts } from "./status.ts";
import { type CertificateStatus, certificates, certificateVersions } from "./table.ts";
import { latestVersionQuery, storedVersionQuery, type Version } from "./versions.ts";

/**
 * Updates a certificate's status and times. Code that changes a fact behind the status (status.ts) reads the facts,
 * computes the next status and writes the row unless it was written since: each write raises `updated_at`, so the
 * second of two concurrent writers reads again. A repeated or late change does nothing.
 */

/** Jobs that the batch using these facts will end. */
export interface Ending {
  readonly jobs: readonly string[];
  readonly failed: boolean;
}

declare module "../../platform/context.ts" {
  interface Wiring {
    /** Expressions for a certificate's issuances and renewals, with the jobs in `ending` counted as ended. */
    readonly issuances: {
      /** Time of the newest open request; null if none is open. */
      askedAt(certificateId: SQL, ending: Ending): SQL;
      /** 1 if the newest one failed, else 0. */
      lastFailed(certificateId: SQL, ending: Ending): SQL;
    };
  }
}

const NONE: Ending = { jobs: [], failed: false };

/** Condition: an issuance or renewal of the certificate is open. */
export function renewing({ wiring }: Context, certificateId: string): SQL {
  return sql`${wiring.issuances.askedAt(sql`${certificateId}`, NONE)} is not null`;
}

/** The columns that events of a certificate change, and the facts behind its status. */
export interface Facts extends StatusFacts {
  readonly id: string;
  readonly last_renewal_at: string | null;
  readonly revocation_reason: string | null;
  readonly updated_at: string;
}

// Written out with its table: inside a subquery drizzle omits the outer table's name.
const ID = sql`certificates.id`;
const WINDOW_DAYS = sql<number>`(select p.renewal_window_days from renewal_policies p
  where p.id = certificates.renewal_policy_id)`;
const LIVES_FROM = sql<string | null>`(select v.not_before from certificate_versions v
  where v.certificate_id = certificates.id and v.not_after = certificates.expires_at limit 1)`;

function selectFacts({ db, wiring }: Context, ending: Ending) {
  const { id, status, expires_at, last_renewal_at, updated_at } = certificates;
  const { revoked_at, revocation_reason, revocation_noted_at } = certificates;
  return db
    .select({
      id,
      status,
      expires_at,
      last_renewal_at,
      revoked_at,
      revocation_reason,
      revocation_noted_at,
      updated_at,
      window_days: WINDOW_DAYS.as("window_days"),
      lives_from: LIVES_FROM.as("lives_from"),
      asked_at: sql<string | null>`${wiring.issuances.askedAt(ID, ending)}`.as("asked_at"),
      last_failed: sql`${wiring.issuances.lastFailed(ID, ending)}`.mapWith(Boolean).as("last_failed"),
    })
    .from(certificates);
}

/** Reads the facts of one certificate, for the caller's batch. */
export function factsQuery(ctx: Context, id: string, ending: Ending = NONE) {
  return selectFacts(ctx, ending).where(eq(certificates.id, id));
}

/** The facts of these certificates. */
export function factsOf(ctx: Context, ids: readonly string[], ending: Ending = NONE): Promise<Facts[]> {
  return selectFacts(ctx, ending).where(inList(certificates.id, ids));
}

type Change = Partial<Omit<Facts, "id" | "updated_at">>;

/** Writes the row as the changed facts require, unless it was written since (ChangedMeanwhile). */
export function changeStatements(ctx: Context, facts: Facts, change: Change = {}): Statement[] {
  const next = { ...facts, ...change };
  const { expires_at, last_renewal_at, revoked_at, revocation_reason, revocation_noted_at } = next;
  const set = {
    expires_at,
    last_renewal_at,
    revoked_at,
    revocation_reason,
    revocation_noted_at,
    status: nextStatus(next, timestamp(ctx)),
    updated_at: nextUpdatedAt(ctx, facts),
  };
  return [
    guard(unchanged(certificates, facts)),
    ctx.db.update(certificates).set(set).where(eq(certificates.id, facts.id)),
  ];
}

/** Whether the change leaves the row as it is. */
function changesNothing(ctx: Context, facts: Facts, change: Change): boolean {
  const keys = Object.keys(change) as (keyof Change)[];
  const same = keys.every((key) => change[key] === facts[key]);
  return same && nextStatus({ ...facts, ...change }, timestamp(ctx)) === facts.status;
}

export interface RevokedVersion {
  readonly issuer_id: string;
  readonly serial_number: string;
  readonly revoked_at: string;
  readonly reason: string;
}

/**
 * Marks versions as revoked, and the certificate with time and reason of its revocation unless it was renewed since.
 * Idempotent, also when late; an archived certificate stays archived.
 */
export async function revokeStatements(
  ctx: Context,
  certificateId: string,
  of: { readonly revoked_at: string; readonly reason: string },
  versions: readonly RevokedVersion[],
): Promise<Statement[]> {
  const [[facts], [found]] = await readTogether(
    ctx,
    factsQuery(ctx, certificateId),
    besidesQuery(ctx, certificateId, of.revoked_at, versions),
  );
  if (!facts) return [];
  const revoked = {
    revoked_at: of.revoked_at,
    revocation_reason: of.reason,
    revocation_noted_at: facts.revoked_at === null ? timestamp(ctx) : facts.revocation_noted_at,
  };
  const change = found?.renewed ? {} : revoked;
  if (!found?.unmarked && changesNothing(ctx, facts, change)) return [];
  return [
    ...changeStatements(ctx, facts, change),
    ...versions.map((version) =>
      ctx.db
        .update(certificateVersions)
        .set({ revoked_at: version.revoked_at, revocation_reason: version.reason })
        .where(sameVersion(version)),
    ),
  ];
}

/**
 * Whether the certificate was renewed since, apart from these versions, and whether one of these is not yet marked as
 * given.
 */
function besidesQuery(ctx: Context, certificateId: string, since: string, versions: readonly RevokedVersion[]) {
  const listed = sql`json_each(${JSON.stringify(versions)}) l`;
  const same = sql`v.issuer_id = l.value ->> 'issuer_id' and v.serial_number = l.value ->> 'serial_number'`;
  return ctx.db.all<{ renewed: 0 | 1; unmarked: 0 | 1 }>(sql`select
    exists (select 1 from certificate_versions v where v.certificate_id = ${certificateId} and v.revoked_at is null
      and v.not_after > ${timestamp(ctx)} and v.created_at > ${since}
      and not exists (select 1 from ${listed} where ${same})) as renewed,
    exists (select 1 from ${listed} join certificate_versions v on ${same}
      where v.revoked_at is not l.value ->> 'revoked_at' or v.revocation_reason is not l.value ->> 'reason') as unmarked`);
}

/** Lifts a hold from versions and their certificate. */
export async function releaseStatements(
  ctx: Context,
  certificateId: string,
  versions: readonly Pick<RevokedVersion, "issuer_id" | "serial_number">[],
): Promise<Statement[]> {
  const [facts] = await factsQuery(ctx, certificateId);
  if (!facts) return [];
  return [
    ...changeStatements(ctx, facts, { revoked_at: null, revocation_reason: null, revocation_noted_at: null }),
    ...versions.map((version) =>
      ctx.db.update(certificateVersions).set({ revoked_at: null, revocation_reason: null }).where(sameVersion(version)),
    ),
  ];
}

function sameVersion({ issuer_id, serial_number }: Pick<RevokedVersion, "issuer_id" | "serial_number">) {
  return and(eq(certificateVersions.issuer_id, issuer_id), eq(certificateVersions.serial_number, serial_number));
}

/** The reads that `issued` needs, for the caller's batch. `job_id`: the job that ends with the version. */
export function issuedQueries(ctx: Context, version: Version, job_id: string | null) {
  const ending = { jobs: job_id === null ? [] : [job_id], failed: false };
  return [
    factsQuery(ctx, version.certificate_id, ending),
    storedVersionQuery(ctx, version),
    latestVersionQuery(ctx, version.certificate_id),
  ] as const;
}

/**
 * Records an issued version: `expires_at` becomes the latest end among unrevoked versions. An earlier revocation is
 * cleared if the version was requested after it. `more`: the job ends too, so the row must be written even if it stays
 * the same.
 */
export function issuedStatements(
  ctx: Context,
  [[facts], [stored], [latest]]: readonly [Facts[], Pick<Version, "revoked_at">[], Lasting[]],
  version: Version,
  { asked_at, more }: { readonly asked_at: string; readonly more: boolean },
): Statement[] {
  if (!facts) throw new Error(`certificate ${version.certificate_id} is not there`);
  const { revoked_at } = stored ?? version;
  const { revocation_noted_at: noted } = facts;
  const heals = facts.revoked_at !== null && revoked_at === null && noted !== null && noted < asked_at;
  const last = stored || !latest ? (latest ?? version) : later(latest, version);
  const change: Change = {
    expires_at: last.not_after,
    lives_from: last.not_before,
    last_renewal_at: [facts.last_renewal_at ?? "", version.created_at].sort().at(-1) ?? null,
    ...(heals ? { revoked_at: null, revocation_reason: null, revocation_noted_at: null } : {}),
  };
  if (stored && !more && changesNothing(ctx, facts, change)) return [];
  return changeStatements(ctx, facts, change);
}

type Lasting = Pick<Version, "not_before" | "not_after" | "revoked_at">;

/** An unrevoked version outlasts a revoked one; otherwise the later end wins. */
function later(a: Lasting, b: Lasting): Lasting {
  if ((a.revoked_at === null) !== (b.revoked_at === null)) return a.revoked_at === null ? a : b;
  return a.not_after >= b.not_after ? a : b;
}

/**
 * One row with the certificate's revocation, if any, as the preceding statements left it; `also` adds columns to that
 * row.
 */
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

/** A certificate whose stored status no longer matches its facts. */
export interface StatusChange {
  readonly facts: Facts;
  readonly to: CertificateStatus;
}

/** Outdated certificates, soonest expiry first. SQL preselects by index; `statusOf` decides. */
export async function dueForStatus(ctx: Context, limit: number): Promise<StatusChange[]> {
  const now = timestamp(ctx);
  const widest = ctx.db.select({ days: max(renewalPolicies.renewal_window_days) }).from(renewalPolicies);
  const until = sql`strftime('%Y-%m-%dT%H:%M:%fZ', ${now}, '+' || coalesce(${widest}, 0) || ' days')`;
  const rows = await selectFacts(ctx, NONE)
    .where(
      and(
        inArray(certificates.status, ["Active", "Expiring", "RenewalInProgress"]),
        lte(certificates.expires_at, until),
        mayBeDue(ctx, now),
      ),
    )
    .orderBy(asc(certificates.expires_at))
    .limit(limit);
  const changes = rows.map((facts) => ({ facts, to: nextStatus(facts, now) }));
  return changes.filter(({ facts, to }) => to !== facts.status);
}

/** Condition: the certificate ends soon enough that time, or a changed policy, may have changed its status. */
function mayBeDue({ wiring }: Context, now: string): SQL {
  const askedAt = wiring.issuances.askedAt(ID, NONE);
  const days = (from: SQL) => sql`(julianday(certificates.expires_at) - julianday(${from}))`;
  const inWindow = sql`${days(sql`${now}`)} <= min(${WINDOW_DAYS}, coalesce(${days(LIVES_FROM)}, 365) / 3.0)`;
  const isOver = sql`certificates.expires_at <= ${now}`;
  return sql`case certificates.status
    when 'Active' then ${inWindow}
    when 'Expiring' then ${isOver} or not ${inWindow}
    else ${askedAt} is null or (${isOver} and ${askedAt} < certificates.expires_at) end`;
}

/** Writes such a change with its event, unless the certificate was written since. */
export function statusStatements(ctx: Context, { facts, to }: StatusChange): Statement[] {
  return [...changeStatements(ctx, facts), ctx.audit("certificate.status", facts.id, { from: facts.status, to })];
}

/** Archived: final. */
export function archiveStatement(ctx: Context, row: Pick<Facts, "id" | "updated_at">): Statement {
  return ctx.db
    .update(certificates)
    .set({ status: "Archived", updated_at: nextUpdatedAt(ctx, row) })
    .where(eq(certificates.id, row.id));
}
