import { and, asc, eq, ne, sql } from "drizzle-orm";
import { fromHex } from "../../pki/bytes.ts";
import { endOfChain, hasTag } from "../../pki/certificate.ts";
import { NameError } from "../../pki/errors.ts";
import type { KeyAlgorithm } from "../../pki/keys.ts";
import { parseNameConstraints } from "../../pki/name-constraints.ts";
import type { SubjectName } from "../../pki/names.ts";
import { certificatesFromPem } from "../../pki/pem.ts";
import type { ObjectScope } from "../../platform/access.ts";
import { commit, IdempotencyRace } from "../../platform/commit.ts";
import { type Context, timestamp } from "../../platform/context.ts";
import { guard, ReferenceViolation, UniqueViolation, unchanged } from "../../platform/database.ts";
import { AppError, ChangedMeanwhile, conflict, invalid, notFound } from "../../platform/errors.ts";
import { nextUpdatedAt, uniqueConflict } from "../../platform/rows.ts";
import { mustBeWhole } from "../../platform/whole.ts";
import { withdraw } from "../../platform/work/work.ts";
import { mustFindIssuer } from "../issuers/issuers.ts";
import {
  type CaDescription,
  ledgerOf,
  type NameConstraintValues,
  type Refusal,
  type RevocationReason,
  type RevokedEntry,
} from "../ledger.ts";
import { caUrls } from "../ledger-places.ts";
import { refusalError } from "../refusals.ts";
import { ownCaOf } from "./issuer.ts";
import { beginLedger, creationGivenUp, ledgerStands } from "./ledgers.ts";
import { acknowledgeLater, creationOf, type MarkedFact, markStatements } from "./marks.ts";
import { forgetAuthority } from "./public/directory.ts";
import { purgeEntry } from "./purge.ts";
import { chainOfRow, freeCaId, fromLedger, newCaRow } from "./rows.ts";
import { type CaAuthorityRow, certificateAuthorities } from "./table.ts";
import { type Creation, recordIntent, withdrawNow } from "./withdrawal.ts";

export interface NewIntermediate {
  readonly name: string;
  readonly parent_ca_id?: string | null | undefined;
  readonly subject?: SubjectName | null | undefined;
  readonly algorithm?: KeyAlgorithm | null | undefined;
  readonly ttl_days?: number | null | undefined;
  readonly path_len_constraint?: number | null | undefined;
  readonly name_constraints?: readonly Partial<NameConstraintValues>[] | null | undefined;
  readonly ocsp_responder_url?: string | null | undefined;
  readonly metadata?: Record<string, unknown> | null | undefined;
}

const DAY_MS = 86_400_000;
const DEFAULT_TTL_DAYS = 1_825;

/**
 * Creates a CA below another: its key is made in a ledger of its own; its parent signs within path length, name
 * constraints and lifetime. Throws 400 for a request that exceeds the parent, 409 for a parent that is not active.
 */
export async function createIntermediate(
  ctx: Context,
  issuerId: string,
  asked: NewIntermediate,
): Promise<CaAuthorityRow> {
  const issuer = await mustFindIssuer(ctx, issuerId);
  await mustBeWhole(ctx);
  const parent = await parentOf(ctx, issuer.id, asked.parent_ca_id ?? null);
  await refuseTakenName(ctx, issuer.id, asked.name);
  const ttl_seconds = lifetime(ctx, parent, asked.ttl_days ?? null);
  const name_constraints = constraintsOf(asked);
  const subject = asked.subject ?? { common_name: asked.name.slice(0, 64).trim() };
  const id = await freeCaId(ctx, asked.name);
  const ledger_id = await beginLedger(ctx);
  await ctx.sealer.register(ctx.db, ctx.clock.now());
  const child = ledgerOf(ctx, ledger_id);
  const waiting = orThrow(
    await child.createSubordinate({
      ledger_id,
      ca_id: id,
      crl_shards: typeof issuer.config.crl_shards === "number" ? issuer.config.crl_shards : 1,
      pss: false,
      subject,
      algorithm: asked.algorithm ?? "ECDSA-P256",
      path_len: asked.path_len_constraint ?? null,
    }),
  );
  const creation: Creation = {
    ledger_id,
    parent_ledger_id: parent.ledger_id,
    request: {
      request_id: `ca|${ledger_id}`,
      certificate_id: id,
      subject,
      spki: waiting.spki,
      ttl_seconds,
      path_len: asked.path_len_constraint ?? null,
      name_constraints,
      ocsp_urls: asked.ocsp_responder_url ? [asked.ocsp_responder_url] : [],
    },
  };
  const intent = await recordIntent(ctx, creation);
  const issued = await ledgerOf(ctx, parent.ledger_id).issueCa(creation.request);
  if (!issued.ok) throw refusalError(issued);
  const above = certificatesFromPem(parent.cert_pem + parent.chain_pem);
  const ca = orThrow(await child.install([issued.der, ...above]));
  const row = await newCaRow(ctx, ca, {
    id,
    issuer_id: issuer.id,
    parent_ca_id: parent.id,
    name: asked.name,
    metadata: { ...asked.metadata },
    subject,
  });
  const details = { issuer_id: issuer.id, parent_ca_id: parent.id, serial_number: issued.serial, ledger_id };
  const statements = [
    ...withdraw(ctx, intent),
    ledgerStands(ledger_id, creationGivenUp),
    ctx.db.insert(certificateAuthorities).values(row),
    ctx.audit("intermediate_ca.create", id, details),
    ...markStatements(ctx, [issued, creationOf(ca)]),
  ];
  try {
    await commit(ctx, statements, { answer: { status: 201, body: viewOf(ctx, row) } });
    forgetAuthority(issuer.id);
    acknowledgeLater(ctx, [issued, creationOf(ca)]);
  } catch (error) {
    // An AppError comes from a guard: as with the others, nothing was written.
    const kinds = [IdempotencyRace, UniqueViolation, ReferenceViolation, AppError];
    if (kinds.some((kind) => error instanceof kind)) await withdrawNow(ctx, creation);
    if (error instanceof IdempotencyRace) throw error;
    if (error instanceof UniqueViolation) throw uniqueConflict("CA", certificateAuthorities, row, error);
    if (error instanceof ReferenceViolation) throw notFound("issuer", issuer.id);
    if (error instanceof AppError) throw creationGivenUp();
    throw error;
  }
  return row;
}

/** The named parent, or the issuer's own CA. It must be able to sign. */
async function parentOf(ctx: Context, issuerId: string, parentId: string | null): Promise<CaAuthorityRow> {
  const row = await caOfIssuer(ctx, issuerId, parentId, "parent_ca_id");
  if (row.state !== "active") throw conflict("ca_not_active", `the parent ${row.id} is ${row.state}: it signs no more`);
  return row;
}

/** In seconds. A requested lifetime must end before the parent and every CA above it; a default one is cut. */
function lifetime(ctx: Context, parent: CaAuthorityRow, ttlDays: number | null): number {
  const end = endOfChain(chainOfRow(parent));
  const left = end - ctx.clock.now().getTime();
  if (ttlDays !== null && ttlDays * DAY_MS > left) {
    throw invalid("ttl_days", `goes beyond the end of the CAs above, ${new Date(end).toISOString()}`, "out_of_bounds");
  }
  return Math.floor(Math.min((ttlDays ?? DEFAULT_TTL_DAYS) * DAY_MS, left) / 1000);
}

function constraintsOf(asked: NewIntermediate): NameConstraintValues | null {
  const permitted = (asked.name_constraints ?? []).flatMap((one) => [...(one.permitted ?? [])]);
  const excluded = (asked.name_constraints ?? []).flatMap((one) => [...(one.excluded ?? [])]);
  if (permitted.length + excluded.length === 0) return null;
  try {
    parseNameConstraints([{ permitted, excluded }]);
  } catch (error) {
    if (error instanceof NameError) throw invalid("name_constraints", error.message);
    throw error;
  }
  return { permitted, excluded };
}

export async function findCa(ctx: Context, id: string): Promise<CaAuthorityRow | null> {
  const [row] = await ctx.db.select().from(certificateAuthorities).where(eq(certificateAuthorities.id, id));
  return row ?? null;
}

/** For routes of a CA `{id}`: its issuer; null if there is no such CA. */
export async function caScope(
  ctx: Context,
  { id = "" }: Readonly<Record<string, string>>,
): Promise<ObjectScope | null> {
  const ca = await findCa(ctx, id);
  return ca && { issuer_id: ca.issuer_id };
}

export async function mustFindCa(ctx: Context, id: string): Promise<CaAuthorityRow> {
  const row = await findCa(ctx, id);
  if (!row) throw notFound("intermediate CA", id);
  return row;
}

/** The issuer's CA with this id or public name; the issuer's own CA if none is given. */
export async function caOfIssuer(
  ctx: Context,
  issuerId: string,
  caId: string | null,
  field = "ca_id",
): Promise<CaAuthorityRow> {
  if (caId === null || caId === issuerId) return ownCaOf(ctx, issuerId);
  const row = await findCa(ctx, caId);
  if (row?.issuer_id === issuerId) return row;
  throw invalid(field, `issuer ${issuerId} has no CA ${JSON.stringify(caId)}`, "reference_not_found");
}

/** The named CA, else the CA whose tag the serial carries, else the issuer's own. */
export async function caOfSerial(
  ctx: Context,
  issuerId: string,
  caId: string | null,
  serial: string,
): Promise<CaAuthorityRow> {
  const tagged =
    caId === null
      ? (await listCas(ctx, issuerId)).find((row) => row.serial_key && hasTag(serial, fromHex(row.serial_key)))
      : undefined;
  return tagged ?? caOfIssuer(ctx, issuerId, caId);
}

/** Every CA of an issuer, its own first. */
export async function listCas(ctx: Context, issuerId: string): Promise<CaAuthorityRow[]> {
  await mustFindIssuer(ctx, issuerId);
  return ctx.db
    .select()
    .from(certificateAuthorities)
    .where(eq(certificateAuthorities.issuer_id, issuerId))
    .orderBy(
      sql`${certificateAuthorities.parent_ca_id} is not null`,
      asc(certificateAuthorities.created_at),
      asc(certificateAuthorities.id),
    );
}

export interface Retirement {
  readonly note: string | null;
  readonly confirm: boolean;
  readonly reason: RevocationReason | null;
}

/**
 * Two phases: active -> retiring (stops signing at once) -> retired, with `confirm`. A reason also revokes the CA at
 * its parent. Ledgers change first, then the row. 409 while a CA below is not retired, and for the second phase without
 * `confirm`.
 */
export async function retireCa(ctx: Context, id: string, asked: Retirement): Promise<CaAuthorityRow> {
  const row = await mustFindCa(ctx, id);
  if (row.state === "awaiting_certificate") throw conflict("ca_absent", `CA ${id} has no certificate yet`);
  const second = row.state !== "active";
  if (second && !asked.confirm) {
    throw conflict("confirmation_required", `CA ${id} is ${row.state}; "confirm": true retires it for good`);
  }
  const revokes = second && asked.reason !== null && asked.reason !== row.revocation_reason;
  if (row.state === "retired" && !revokes) return row;
  if (second) await refuseWithChildren(ctx, row);
  const parent = revokes ? await parentForRevocation(ctx, row) : null;

  const ca = orThrow(await ledgerOf(ctx, row.ledger_id).retire(second ? "retired" : "retiring"));
  const revoked = parent && asked.reason ? await revokeAt(ctx, parent, row, asked.reason) : [];
  const [entry] = revoked;
  const set: Partial<CaAuthorityRow> = {
    ...(await fromLedger(ca, row.subject)),
    chain_pem: row.chain_pem,
    ...(entry ? { revoked_at: entry.revoked_at, revocation_reason: entry.reason } : {}),
    note: asked.note ?? row.note,
    retired_at: second ? (row.retired_at ?? timestamp(ctx)) : null,
    updated_at: nextUpdatedAt(ctx, row),
  };
  const after = { ...row, ...set };
  const action = second ? "intermediate_ca.retire" : "intermediate_ca.retiring";
  const purge = parent && purgeEntry(ctx, [{ ledger_id: parent.ledger_id, serial: row.serial_number ?? "" }]);
  await commit(
    ctx,
    [
      guard(
        unchanged(certificateAuthorities, row),
        () => new ChangedMeanwhile(`CA ${id} was changed by another request: repeat this one`),
      ),
      ctx.db.update(certificateAuthorities).set(set).where(eq(certificateAuthorities.id, id)),
      ctx.audit(action, id, { issuer_id: row.issuer_id, note: asked.note, reason: after.revocation_reason }),
      ...(purge ? [purge.statement] : []),
      ...markStatements(ctx, revoked),
    ],
    { wakeups: purge ? [purge.id] : [] },
  );
  acknowledgeLater(ctx, revoked);
  return after;
}

async function refuseWithChildren(ctx: Context, row: CaAuthorityRow): Promise<void> {
  const [live] = await ctx.db
    .select({ n: sql<number>`count(*)` })
    .from(certificateAuthorities)
    .where(and(eq(certificateAuthorities.parent_ca_id, row.id), ne(certificateAuthorities.state, "retired")));
  if (live && live.n > 0)
    throw conflict("active_children", `CA ${row.id} has ${live.n} CAs below it that are not retired`);
}

async function parentForRevocation(ctx: Context, row: CaAuthorityRow): Promise<CaAuthorityRow> {
  const parent = row.parent_ca_id === null ? null : await findCa(ctx, row.parent_ca_id);
  if (parent) return parent;
  throw invalid("reason", "the issuer's own CA has no parent here that could revoke it; leave the reason out");
}

async function revokeAt(
  ctx: Context,
  parent: CaAuthorityRow,
  row: CaAuthorityRow,
  reason: RevocationReason,
): Promise<(RevokedEntry & MarkedFact)[]> {
  const result = await ledgerOf(ctx, parent.ledger_id).revoke([row.serial_number ?? ""], reason);
  if (!result.ok) throw refusalError(result);
  return result.entries.map((one) => ({ ...one, ledger_id: parent.ledger_id }));
}

/** A CA in the API's form: without its key, with its public URLs. */
export function viewOf(ctx: Pick<Context, "settings">, row: CaAuthorityRow) {
  const urls = caUrls(ctx.settings.publicUrl, row.ca_id);
  return {
    id: row.id,
    issuer_id: row.issuer_id,
    owning_issuer_id: row.issuer_id,
    parent_ca_id: row.parent_ca_id,
    name: row.name,
    subject: row.subject,
    state: row.state,
    cert_pem: row.cert_pem,
    chain_pem: row.chain_pem,
    csr_pem: row.csr_pem,
    serial_number: row.serial_number,
    not_before: row.not_before,
    not_after: row.not_after,
    path_len_constraint: row.path_len_constraint,
    name_constraints: row.name_constraints,
    algorithm: row.algorithm,
    crl_url: urls.crl(0),
    ocsp_responder_url: urls.ocsp,
    ca_issuers_url: urls.caIssuers,
    metadata: row.metadata,
    note: row.note,
    retired_at: row.retired_at,
    revoked_at: row.revoked_at,
    revocation_reason: row.revocation_reason,
    created_at: row.created_at,
    updated_at: row.updated_at,
  };
}

async function refuseTakenName(ctx: Context, issuerId: string, name: string): Promise<void> {
  const [taken] = await ctx.db
    .select({ id: certificateAuthorities.id })
    .from(certificateAuthorities)
    .where(and(eq(certificateAuthorities.issuer_id, issuerId), eq(certificateAuthorities.name, name)));
  if (taken) throw conflict("already_exists", `name: issuer ${issuerId} has a CA with this name already`);
}

function orThrow(answer: CaDescription | Refusal): CaDescription {
  if (answer.ok) return answer;
  throw refusalError(answer);
}
