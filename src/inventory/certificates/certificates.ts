import { and, asc, eq, getTableColumns, type SQL, sql } from "drizzle-orm";
import type { SQLiteColumn } from "drizzle-orm/sqlite-core";
import { may, mustHold } from "../../platform/access.ts";
import { commit, IdempotencyRace } from "../../platform/commit.ts";
import { type Context, timestamp } from "../../platform/context.ts";
import { down, up } from "../../platform/cursor.ts";
import {
  guard,
  inList,
  ReferenceViolation,
  referenced,
  type Statement,
  UniqueViolation,
  unchanged,
} from "../../platform/database.ts";
import { conflict, invalid, notFound } from "../../platform/errors.ts";
import type { Page, PageRequest } from "../../platform/paging.ts";
import { repeatedly } from "../../platform/race.ts";
import { checkReferences } from "../../platform/references.ts";
import { checkIfMatch, freeId, listPage, nextUpdatedAt, uniqueConflict } from "../../platform/rows.ts";
import { mustBeWhole } from "../../platform/whole.ts";
import { renewalPolicies } from "../table.ts";
import { type CertificateFilter, canonical, conditions } from "./filter.ts";
import { placeOf, visibleCertificates } from "./scope.ts";
import { renewing } from "./state.ts";
import { CERTIFICATE_STATUSES, certificates, certificateTargets } from "./table.ts";

export { CERTIFICATE_STATUSES };
export type Certificate = typeof certificates.$inferSelect;
/** A record in the API's form. */
export type CertificateView = Omit<Certificate, "revocation_noted_at"> & { readonly target_ids: readonly string[] };

/** Fields that a caller may set. */
export interface CertificateFields {
  readonly name: string;
  readonly common_name: string;
  readonly sans: readonly string[];
  readonly environment: string;
  readonly owner_id: string;
  readonly team_id: string;
  readonly issuer_id: string;
  readonly renewal_policy_id: string;
  readonly certificate_profile_id: string | null;
  readonly tags: Readonly<Record<string, string>>;
  readonly target_ids: readonly string[];
}

/** Reads the record, for the caller's batch. */
export function certificateQuery(ctx: Context, id: string | SQL) {
  return ctx.db.select().from(certificates).where(eq(certificates.id, id));
}

/** Expression: a column of the record that refers to another row. */
export function referenceOf(
  id: string | SQL,
  column: "issuer_id" | "certificate_profile_id" | "renewal_policy_id",
): SQL {
  return sql`(select ${certificates[column]} from ${certificates} where ${certificates.id} = ${id})`;
}

/** The renewal policy of the record. */
export function policyQuery(ctx: Context, id: string) {
  const policy = referenceOf(id, "renewal_policy_id");
  return ctx.db.select().from(renewalPolicies).where(eq(renewalPolicies.id, policy));
}

/** The record, or null. */
export async function findCertificate(ctx: Context, id: string): Promise<Certificate | null> {
  const [row] = await certificateQuery(ctx, id);
  return row ?? null;
}

/** The record; 404 if absent. */
export async function mustFindCertificate(ctx: Context, id: string): Promise<Certificate> {
  const row = await findCertificate(ctx, id);
  if (!row) throw notFound("certificate", id);
  return row;
}

/** The records of these ids, by id. */
export async function certificatesByIds(ctx: Context, ids: readonly string[]): Promise<Map<string, Certificate>> {
  const rows = await ctx.db.select().from(certificates).where(inList(certificates.id, ids));
  return new Map(rows.map((row) => [row.id, row]));
}

/** The records with their targets, in the same order. */
export async function viewsOf(ctx: Context, rows: readonly Certificate[]): Promise<CertificateView[]> {
  const ids = rows.map((row) => row.id);
  const mappings = await ctx.db
    .select()
    .from(certificateTargets)
    .where(inList(certificateTargets.certificate_id, ids))
    .orderBy(asc(certificateTargets.target_id));
  const targets = Map.groupBy(mappings, (mapping) => mapping.certificate_id);
  return rows.map(({ revocation_noted_at: _, ...row }) => ({
    ...row,
    target_ids: (targets.get(row.id) ?? []).map((mapping) => mapping.target_id),
  }));
}

export async function viewOf(ctx: Context, row: Certificate): Promise<CertificateView> {
  const [view] = await viewsOf(ctx, [row]);
  if (!view) throw new Error("one row has one view");
  return view;
}

/**
 * A new record: Pending, nothing is issued yet. 403 unless the actor holds cert.issue for its profile or issuer. Owner,
 * team, renewal policy and targets may be any that exist. Names and ids are unique across all scopes, so anyone who may
 * create a certificate can learn that one exists.
 */
export async function createCertificate(
  ctx: Context,
  chosenId: string | undefined,
  fields: CertificateFields,
): Promise<CertificateView> {
  mustHold(ctx.actor, "cert.issue", placeOf(fields));
  await mustBeWhole(ctx);
  const now = timestamp(ctx);
  const { target_ids, ...own } = fields;
  const row: Certificate = {
    ...own,
    ...canonicalNames(own),
    id: chosenId ?? (await freeId(ctx, certificates, "mc-", own.name)),
    status: "Pending",
    expires_at: null,
    last_renewal_at: null,
    last_deployment_at: null,
    revoked_at: null,
    revocation_reason: null,
    revocation_noted_at: null,
    created_at: now,
    updated_at: now,
  };
  await checkReferences(ctx, certificates, row);
  const targets = await checkTargets(ctx, target_ids);
  const { revocation_noted_at: _, ...shown } = row;
  const view: CertificateView = { ...shown, target_ids: targets };
  const statements = [
    ctx.db.insert(certificates).values(row),
    ...mapStatements(ctx, row.id, targets),
    ctx.audit("certificate.create", row.id, {
      name: row.name,
      common_name: row.common_name,
      issuer_id: row.issuer_id,
    }),
  ];
  await save(ctx, statements, row, { status: 201, body: view });
  return view;
}

/**
 * Changes the fields in `values`; issued certificates stay as they are. 403 unless the actor holds cert.edit for the
 * record's present and new place. Moving it during a renewal, which would then be signed at the new place, also needs
 * cert.issue there (else 409). Owner, team, renewal policy and targets may be any that exist.
 */
export function updateCertificate(
  ctx: Context,
  id: string,
  values: Partial<CertificateFields>,
  ifMatch: string | null,
): Promise<CertificateView> {
  // A concurrent issuance may write the same row: retry instead of refusing.
  return repeatedly(() => updateOnce(ctx, id, values, ifMatch));
}

async function updateOnce(
  ctx: Context,
  id: string,
  values: Partial<CertificateFields>,
  ifMatch: string | null,
): Promise<CertificateView> {
  const before = await mustFindCertificate(ctx, id);
  mustHold(ctx.actor, "cert.edit", placeOf(before));
  mustHold(ctx.actor, "cert.edit", placeOf({ ...before, ...values }));
  checkIfMatch(before, ifMatch);
  const { target_ids, ...own } = values;
  const changed = { ...own, ...canonicalNames(own) };
  const row: Certificate = { ...before, ...changed, updated_at: nextUpdatedAt(ctx, before) };
  await checkReferences(ctx, certificates, row, changed);
  const targets = target_ids === undefined ? undefined : await checkTargets(ctx, target_ids);
  // Writes only the requested fields: status and times are written elsewhere.
  const set = { ...changed, updated_at: row.updated_at };
  const statements = [
    guard(unchangedSince(before)),
    ...(await moveGuards(ctx, before, row)),
    ctx.db.update(certificates).set(set).where(eq(certificates.id, id)),
    ...(targets ? [unmapStatement(ctx, id), ...mapStatements(ctx, id, targets)] : []),
    ctx.audit("certificate.update", id, { fields: Object.keys(values) }),
  ];
  await save(ctx, statements, row);
  return viewOf(ctx, row);
}

/**
 * An open job follows its record: moving the record would have the job signed by the new issuer, without the permission
 * to issue there.
 */
async function moveGuards(ctx: Context, before: Certificate, after: Certificate): Promise<Statement[]> {
  const moves = before.issuer_id !== after.issuer_id || before.certificate_profile_id !== after.certificate_profile_id;
  if (!moves || may(ctx.actor, "cert.issue", placeOf(after))) return [];
  const [open] = await ctx.db.all<{ n: number }>(sql`select ${renewing(ctx, before.id)} as n`);
  if (open?.n === 1)
    throw conflict(
      "renewal_in_progress",
      "a renewal is under way and would be signed by the new profile and issuer, for which this needs the permission cert.issue",
    );
  return [guard(sql`not ${renewing(ctx, before.id)}`)];
}

/** Condition: the row was not written since it was read. */
export function unchangedSince(row: Pick<Certificate, "id" | "updated_at">): SQL {
  return unchanged(certificates, row);
}

async function save(
  ctx: Context,
  statements: Statement[],
  row: Certificate,
  answer?: { status: number; body: unknown },
): Promise<void> {
  try {
    await commit(ctx, statements, answer ? { answer } : {});
  } catch (error) {
    if (error instanceof IdempotencyRace) throw error;
    if (error instanceof UniqueViolation) throw uniqueConflict("certificate", certificates, row, error);
    if (error instanceof ReferenceViolation)
      throw conflict("changed_meanwhile", "something that the certificate refers to was deleted meanwhile");
    throw error;
  }
}

/** Common name and SANs in canonical form, without duplicates; 400 for an invalid name. */
function canonicalNames(fields: Partial<CertificateFields>): { common_name?: string; sans?: string[] } {
  const result: { common_name?: string; sans?: string[] } = {};
  if (fields.common_name !== undefined) result.common_name = canonical("common_name", fields.common_name);
  if (fields.sans !== undefined)
    result.sans = [...new Set(fields.sans.map((name, at) => canonical(`sans.${at}`, name)))];
  return result;
}

async function checkTargets(ctx: Context, ids: readonly string[]): Promise<string[]> {
  const wanted = [...new Set(ids)].sort();
  const table = referenced(certificateTargets.target_id);
  const found = await ctx.db.select({ id: table.id }).from(table).where(inList(table.id, wanted));
  const missing = wanted.find((id) => !found.some((row) => row.id === id));
  if (missing !== undefined)
    throw invalid("target_ids", `target ${JSON.stringify(missing)} does not exist`, "reference_not_found");
  return wanted;
}

function mapStatements(ctx: Context, certificate_id: string, targets: readonly string[]): Statement[] {
  if (targets.length === 0) return [];
  return targets.map((target_id) => ctx.db.insert(certificateTargets).values({ certificate_id, target_id }));
}

function unmapStatement(ctx: Context, id: string): Statement {
  return ctx.db.delete(certificateTargets).where(eq(certificateTargets.certificate_id, id));
}

/** Sort keys of the API: every shown column by name, some also in the contract's camel case. */
const SORT: Readonly<Record<string, SQLiteColumn>> = {
  createdAt: certificates.created_at,
  updatedAt: certificates.updated_at,
  notAfter: certificates.expires_at,
  expiresAt: certificates.expires_at,
  commonName: certificates.common_name,
  name: certificates.name,
  status: certificates.status,
  environment: certificates.environment,
  ...Object.fromEntries(
    Object.values(getTableColumns(certificates))
      .filter((column) => !["sans", "tags", "revocation_noted_at"].includes(column.name))
      .map((column) => [column.name, column]),
  ),
};

export const SORT_KEYS = Object.keys(SORT);

/** One page of the certificates that the actor may see, with their total. */
export async function listCertificates(
  ctx: Context,
  page: PageRequest,
  filter: CertificateFilter,
  sort: { readonly key: string; readonly descending: boolean },
): Promise<Page<CertificateView>> {
  const by = SORT[sort.key] ?? certificates.created_at;
  const direction = sort.descending ? down : up;
  const { data, ...rest } = await listPage(ctx, certificates, page, {
    where: and(conditions(ctx, filter), visibleCertificates(ctx.actor, "cert.read")),
    order: [direction(by), direction(certificates.id)],
  });
  return { data: await viewsOf(ctx, data), ...rest };
}
