import { and, asc, desc, eq, gt, type SQL, sql } from "drizzle-orm";
import { alias } from "drizzle-orm/sqlite-core";
import { type Context, timestamp } from "../../platform/context.ts";
import { down } from "../../platform/cursor.ts";
import { ifThere, inList, rowExists, type Statement } from "../../platform/database.ts";
import type { Page, PageRequest } from "../../platform/paging.ts";
import { listPage } from "../../platform/rows.ts";
import { keptRecord } from "./restored.ts";
import { certificates, certificateVersions } from "./table.ts";

export type Version = typeof certificateVersions.$inferSelect;
/** `current`: the newest version of its certificate and agent. */
export type VersionView = Version & { readonly current: boolean };

/** The newest version of a certificate, optionally of one agent; null if none. */
export async function newestVersion(ctx: Context, certificateId: string, agentId?: string): Promise<Version | null> {
  const [row] = await newestVersionQuery(ctx, certificateId, agentId);
  return row ?? null;
}

export function newestVersionQuery(ctx: Context, certificateId: string, agentId?: string) {
  return ctx.db
    .select()
    .from(certificateVersions)
    .where(
      and(
        eq(certificateVersions.certificate_id, certificateId),
        agentId === undefined ? undefined : eq(certificateVersions.agent_id, agentId),
      ),
    )
    .orderBy(desc(certificateVersions.created_at), desc(certificateVersions.id))
    .limit(1);
}

/** Expression: the job of the newest version of a certificate. */
export function newestJobOf(certificateId: string): SQL {
  const { certificate_id, job_id, created_at, id } = certificateVersions;
  return sql`(select ${job_id} from ${certificateVersions} where ${certificate_id} = ${certificateId}
    order by ${created_at} desc, ${id} desc limit 1)`;
}

/** Condition: the agent, an expression of the outer query, has had a version of the certificate. */
export function hasVersion(certificateId: string, agentId: SQL): SQL {
  const { certificate_id, agent_id } = certificateVersions;
  return rowExists(certificateVersions, sql`${certificate_id} = ${certificateId} and ${agent_id} = ${agentId}`);
}

/** Versions of a certificate, newest first. */
export async function listVersions(ctx: Context, certificateId: string, page: PageRequest): Promise<Page<VersionView>> {
  const { data, ...rest } = await listPage(ctx, certificateVersions, page, {
    where: eq(certificateVersions.certificate_id, certificateId),
    order: [down(certificateVersions.created_at), down(certificateVersions.id)],
  });
  const current = await currentIds(ctx, certificateId);
  return { data: data.map((row) => ({ ...row, current: current.has(row.id) })), ...rest };
}

/** One version in the API's form. */
export async function findVersion(ctx: Context, id: string): Promise<VersionView | null> {
  const [row] = await ctx.db.select().from(certificateVersions).where(eq(certificateVersions.id, id));
  if (!row) return null;
  return { ...row, current: (await currentIds(ctx, row.certificate_id)).has(id) };
}

async function currentIds(ctx: Context, certificateId: string): Promise<Set<string>> {
  const newer = alias(certificateVersions, "newer");
  const rows = await ctx.db
    .select({ id: certificateVersions.id })
    .from(certificateVersions)
    .where(
      and(
        eq(certificateVersions.certificate_id, certificateId),
        sql`not exists (select 1 from ${certificateVersions} as newer
          where ${newer.certificate_id} = ${certificateVersions.certificate_id}
            and ${newer.agent_id} is ${certificateVersions.agent_id}
            and (${newer.created_at}, ${newer.id}) > (${certificateVersions.created_at}, ${certificateVersions.id}))`,
      ),
    );
  return new Set(rows.map((row) => row.id));
}

/** Condition: the version is the newest of its certificate and agent. */
export function isCurrent(id: string): SQL {
  return sql`not exists (select 1 from certificate_versions own join certificate_versions newer
    on newer.certificate_id = own.certificate_id and newer.agent_id is own.agent_id
      and (newer.created_at, newer.id) > (own.created_at, own.id) where own.id = ${id})`;
}

/** Adds a version. Idempotent: an issuer uses a serial once. */
export function addVersion(ctx: Context, version: Version): Statement {
  return ctx.db
    .insert(certificateVersions)
    .values({ ...version, agent_id: ifThere(certificateVersions.agent_id, version.agent_id) })
    .onConflictDoNothing({ target: [certificateVersions.issuer_id, certificateVersions.serial_number] });
}

/** The stored version with this serial, if any. */
export function storedVersionQuery(ctx: Context, { issuer_id, serial_number }: Version) {
  return ctx.db
    .select({ revoked_at: certificateVersions.revoked_at })
    .from(certificateVersions)
    .where(and(eq(certificateVersions.issuer_id, issuer_id), eq(certificateVersions.serial_number, serial_number)));
}

/** The version that expires last among the unrevoked ones, or among all if every version is revoked. */
export function latestVersionQuery(ctx: Context, certificateId: string) {
  const { certificate_id, not_before, not_after, revoked_at } = certificateVersions;
  return ctx.db
    .select({ not_before, not_after, revoked_at })
    .from(certificateVersions)
    .where(eq(certificate_id, certificateId))
    .orderBy(sql`${revoked_at} is not null`, desc(not_after))
    .limit(1);
}

/** A CA as versions identify it. */
export type VersionCa = Pick<Version, "issuer_id" | "ca_id">;

/** The CAs that issued versions of a certificate. */
export function casOfVersions(ctx: Context, certificateId: string): Promise<VersionCa[]> {
  const { issuer_id, ca_id, certificate_id } = certificateVersions;
  return ctx.db.selectDistinct({ issuer_id, ca_id }).from(certificateVersions).where(eq(certificate_id, certificateId));
}

/** The versions of a certificate that have not expired. */
export function validVersions(ctx: Context, certificateId: string): Promise<Version[]> {
  const { certificate_id, not_after } = certificateVersions;
  return ctx.db
    .select()
    .from(certificateVersions)
    .where(and(eq(certificate_id, certificateId), gt(not_after, timestamp(ctx))));
}

/**
 * The serials that a CA revokes for a certificate. A version that was revoked before a renewal keeps its reason, except
 * that a hold becomes final with the rest.
 */
export async function revocableSerials(ctx: Context, ca: VersionCa, certificateId: string): Promise<string[]> {
  const versions = await versionsWithPast(ctx, certificateId);
  const isValid = ({ not_after }: Version) => not_after >= timestamp(ctx);
  return serialsOf(ca, versions, (version) => !version.past || (version.isHeld && isValid(version)));
}

/** The serials whose hold a CA lifts. A final revocation before a renewal does not prevent it. */
export async function releasableSerials(ctx: Context, ca: VersionCa, certificateId: string): Promise<string[]> {
  return serialsOf(ca, await versionsWithPast(ctx, certificateId), (version) => !version.past || version.isHeld);
}

/** `past`: revoked in an earlier second than the newest version was issued. */
interface VersionWithPast extends Version {
  readonly past: boolean;
  readonly isHeld: boolean;
}

async function versionsWithPast(ctx: Context, certificateId: string): Promise<VersionWithPast[]> {
  const rows = await ctx.db
    .select()
    .from(certificateVersions)
    .where(eq(certificateVersions.certificate_id, certificateId));
  const second = (time: string) => Math.floor(Date.parse(time) / 1000);
  const newest = Math.max(...rows.map((row) => second(row.created_at)));
  return rows.map((row) => ({
    ...row,
    past: row.revoked_at !== null && newest > second(row.revoked_at),
    isHeld: row.revocation_reason === "certificateHold",
  }));
}

function serialsOf(
  ca: VersionCa,
  versions: readonly VersionWithPast[],
  which: (version: VersionWithPast) => boolean,
): string[] {
  const own = versions.filter(({ issuer_id, ca_id }) => issuer_id === ca.issuer_id && ca_id === ca.ca_id);
  return own.filter(which).map((version) => version.serial_number);
}

export type VersionStatus = Pick<Version, "certificate_id" | "serial_number" | "revoked_at" | "revocation_reason">;

/** The inventory's versions of these serials of one issuer. */
export function versionsOfSerials(
  ctx: Context,
  issuerId: string,
  serials: readonly string[],
): Promise<VersionStatus[]> {
  const { certificate_id, serial_number, revoked_at, revocation_reason } = certificateVersions;
  return ctx.db
    .select({ certificate_id, serial_number, revoked_at, revocation_reason })
    .from(certificateVersions)
    .where(and(eq(certificateVersions.issuer_id, issuerId), inList(serial_number, serials)));
}

/** Serials of a CA with their status, in order of serial. */
export function versionsAfter(
  ctx: Context,
  ca: VersionCa,
  serial: string,
  limit: number,
): Promise<Pick<Version, "serial_number" | "revoked_at" | "revocation_reason">[]> {
  const { serial_number, revoked_at, revocation_reason } = certificateVersions;
  return ctx.db
    .select({ serial_number, revoked_at, revocation_reason })
    .from(certificateVersions)
    .where(and(ofCa(ca), gt(serial_number, serial)))
    .orderBy(asc(serial_number))
    .limit(limit);
}

/** The certificates that a CA issued under these serials, with everything needed to hand them over again. */
export async function versionCertificates(ctx: Context, ca: VersionCa, serials: readonly string[]) {
  const rows = await ctx.db
    .select({ version: certificateVersions, record: certificates })
    .from(certificateVersions)
    .innerJoin(certificates, eq(certificates.id, certificateVersions.certificate_id))
    .where(and(ofCa(ca), inList(certificateVersions.serial_number, serials)));
  return rows.map(({ version, record }) => {
    const { job_id, agent_id, csr_pem, key_algorithm, key_size } = version;
    return {
      serial_number: version.serial_number,
      certificate_id: version.certificate_id,
      request_id: job_id,
      issued_at: version.created_at,
      pem_chain: version.pem_chain,
      settle: { job_id, agent_id, csr_pem, key_algorithm, key_size, record: keptRecord(record) },
    };
  });
}

function ofCa({ issuer_id, ca_id }: VersionCa) {
  return and(eq(certificateVersions.issuer_id, issuer_id), eq(certificateVersions.ca_id, ca_id));
}
