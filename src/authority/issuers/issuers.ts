import { and, eq, isNotNull, isNull, ne, type SQL, sql } from "drizzle-orm";
import { forgetActors } from "../../identity/actors.ts";
import { endScope } from "../../identity/scope-end.ts";
import { caChainWarnings } from "../../pki/certificate.ts";
import { certificatesFromPem } from "../../pki/pem.ts";
import { visible } from "../../platform/access.ts";
import { commit, IdempotencyRace } from "../../platform/commit.ts";
import { type Context, timestamp } from "../../platform/context.ts";
import { up } from "../../platform/cursor.ts";
import {
  guard,
  inList,
  noRow,
  ReferenceViolation,
  type Statement,
  UniqueViolation,
  unchanged,
} from "../../platform/database.ts";
import { AppError, ChangedMeanwhile, conflict, invalid, notFound } from "../../platform/errors.ts";
import type { Page, PageRequest } from "../../platform/paging.ts";
import { ownScope } from "../../platform/resource.ts";
import { checkIfMatch, freeId, listPage, nextUpdatedAt, uniqueConflict } from "../../platform/rows.ts";
import { mustBeWhole } from "../../platform/whole.ts";
import { caTypeOf, findCa } from "../ca.ts";
import { type CaDescription, ledgerOf, type Refusal } from "../ledger.ts";
import { beginLedger, ledgerStands } from "../ledgers.ts";
import { acknowledgeLater, creationOf, markStatements } from "../marks.ts";
import { forgetAuthority } from "../public/directory.ts";
import { refusalError, translate } from "../refusals.ts";
import { type CaAuthorityRow, certificateAuthorities, type IssuerRow, issuers } from "../table.ts";
import { caStatements, chainBelow } from "./below.ts";
import { changeableShape, type GenericCaConfig, MASK, originShape, SECRET_FIELDS } from "./config.ts";
import { makeCa, type NewIssuer, PAST_FIELDS, sameCa, subjectOf } from "./origin.ts";
import { type CaProblem, problemsOf } from "./problems.ts";
import { chainOfRow, freeCaId, fromLedger, newCaRow } from "./rows.ts";

/** An issuer as the API shows it: secrets masked, the certificate or request of its own CA in its configuration. */
export interface IssuerView extends Omit<IssuerRow, "config"> {
  readonly config: Record<string, unknown>;
  /** What of the CA's chain should be known; absent where nothing is. */
  readonly warnings?: readonly string[];
  /** What the ledgers of its CAs go on trying in vain; absent where that is nothing. */
  readonly problems?: readonly CaProblem[];
}

const UNIQUE = { kind: "issuer", unique: ["name"] };

/** Makes the CA in a ledger of its own, then the rows. A ledger whose rows never came is ended by a sweep. */
export async function createIssuer(ctx: Context, issuer: NewIssuer): Promise<IssuerView> {
  caTypeOf(ctx, issuer.type);
  await mustBeWhole(ctx);
  const id = issuer.id ?? (await freeId(ctx, issuers, "iss-", issuer.name));
  await refuseTaken(ctx, id, issuer.name);
  if (issuer.config.issuing_ca_id)
    throw invalid("config.issuing_ca_id", "a new issuer has no intermediate yet: set it later");
  const ledger_id = await beginLedger(ctx);
  await ctx.sealer.register(ctx.db, ctx.clock.now());
  const ca = okOr400(await makeCa(ctx, ledgerOf(ctx, ledger_id), { ledger_id, ca_id: id }, issuer), "config");
  const now = timestamp(ctx);
  const row: IssuerRow = {
    id,
    name: issuer.name,
    type: issuer.type,
    config: storedConfig(issuer.config, ca),
    enabled: issuer.enabled,
    last_tested_at: null,
    test_status: "untested",
    created_at: now,
    updated_at: now,
  };
  const caRow = await newCaRow(ctx, ca, {
    id: await freeCaId(ctx, issuer.name),
    issuer_id: id,
    parent_ca_id: null,
    name: issuer.name,
    metadata: {},
    subject: subjectOf(issuer),
  });
  const view = await show(row, caRow);
  const statements = [
    ...(caRow.cert_pem === "" ? [] : [guard(noRow(certificateAuthorities, sameCa(caRow)), changedMeanwhile)]),
    ledgerStands(ledger_id),
    ctx.db.insert(issuers).values(row),
    ctx.db.insert(certificateAuthorities).values(caRow),
    ctx.audit("issuer.create", id, { name: row.name, type: row.type, algorithm: caRow.algorithm, ledger_id }),
    ...markStatements(ctx, [creationOf(ca)]),
  ];
  await save(ctx, statements, row, { status: 201, body: view });
  acknowledgeLater(ctx, [creationOf(ca)]);
  return view;
}

/** What the row keeps: no secret, nothing that the CA's own row has. */
function storedConfig(config: GenericCaConfig, ca: CaDescription): Record<string, unknown> {
  const { ca_cert_pem: _cert, ca_key_pem, ca_csr_pem: _csr, ...rest } = config;
  const past: readonly string[] = PAST_FIELDS;
  const kept = Object.fromEntries(
    Object.entries(rest).filter(([name, value]) => value !== undefined && value !== null && !past.includes(name)),
  );
  return {
    ...kept,
    key_algorithm: ca.algorithm,
    crl_shards: ca.crl_shards,
    validity_days: config.validity_days ?? 90,
    ...(ca_key_pem === undefined ? {} : { imported: true }),
  };
}

async function show(row: IssuerRow, ca: CaAuthorityRow | null): Promise<IssuerView> {
  const { imported, ...config } = row.config;
  const secrets = imported ? Object.fromEntries(SECRET_FIELDS.map((field) => [field, MASK])) : {};
  const material = ca?.cert_pem ? { ca_cert_pem: ca.cert_pem + ca.chain_pem } : {};
  const csr = ca?.csr_pem ? { ca_csr_pem: ca.csr_pem } : {};
  const warnings = ca?.chain_pem ? await caChainWarnings(chainOfRow(ca)) : [];
  const view = { ...row, config: { ...config, ...material, ...csr, ...secrets } };
  return warnings.length > 0 ? { ...view, warnings } : view;
}

/** For routes of an issuer `{id}`: it is its own scope, as long as it exists. */
export const issuerScope = ownScope(issuers, "issuer_id");

export async function mustFindIssuer(ctx: Context, id: string): Promise<IssuerRow> {
  const [row] = await ctx.db.select().from(issuers).where(eq(issuers.id, id));
  if (!row) throw notFound("issuer", id);
  return row;
}

/** The issuer's own CA: the first of its hierarchy. */
export async function ownCaOf(ctx: Context, issuerId: string): Promise<CaAuthorityRow> {
  const [row] = await ctx.db
    .select()
    .from(certificateAuthorities)
    .where(ownOf(eq(certificateAuthorities.issuer_id, issuerId)));
  if (!row) throw new Error(`issuer ${issuerId} has no CA row`);
  return row;
}

function ownOf(condition: SQL) {
  return and(condition, isNull(certificateAuthorities.parent_ca_id));
}

export async function getIssuer(ctx: Context, id: string): Promise<IssuerView> {
  const view = await show(await mustFindIssuer(ctx, id), await ownCaOf(ctx, id));
  return { ...view, ...(await problemsOf(ctx, [id])).get(id) };
}

/** One page of what the actor may see, and its total. */
export async function listIssuers(ctx: Context, page: PageRequest): Promise<Page<IssuerView>> {
  const { data, ...rest } = await listPage<IssuerRow>(ctx, issuers, page, {
    where: visible(ctx.actor, "issuer.read", { issuer_id: issuers.id }),
    order: [up(issuers.created_at), up(issuers.id)],
  });
  const ids = data.map((row) => row.id);
  const owns = await ctx.db
    .select()
    .from(certificateAuthorities)
    .where(ownOf(inList(certificateAuthorities.issuer_id, ids)));
  const problems = await problemsOf(ctx, ids);
  const shown = data.map(async (row) => {
    const view = await show(row, owns.find((ca) => ca.issuer_id === row.id) ?? null);
    return { ...view, ...problems.get(row.id) };
  });
  return { data: await Promise.all(shown), ...rest };
}

export interface IssuerChanges {
  readonly name?: string | null | undefined;
  readonly type?: string | null | undefined;
  readonly enabled?: boolean | null | undefined;
  /** Takes a certificate that ends before those that the CA issued. */
  readonly force?: boolean | undefined;
  readonly config?: Partial<Record<keyof GenericCaConfig, unknown>> | null | undefined;
}

/** Absent fields keep their value, also inside `config`. A new `ca_cert_pem` goes to the ledger before the row is written. */
export async function updateIssuer(
  ctx: Context,
  id: string,
  changes: IssuerChanges,
  ifMatch: string | null,
): Promise<IssuerView> {
  const before = await mustFindIssuer(ctx, id);
  checkIfMatch(before, ifMatch);
  const own = await ownCaOf(ctx, id);
  if (changes.name === null) throw invalid("name", "cannot be cleared");
  if (changes.type != null && changes.type !== before.type) throw invalid("type", "an issuer cannot change its type");
  const config = { ...changes.config };
  checkFixed(before, own, config);
  const kept = await changedConfig(ctx, before, config);
  const ledger = ledgerOf(ctx, own.ledger_id);
  let ca: CaDescription | null = null;
  if (typeof config.crl_shards === "number" && config.crl_shards !== before.config.crl_shards) {
    ca = await setShards(ctx, own, config.crl_shards);
  }
  if (typeof config.ca_cert_pem === "string" && config.ca_cert_pem !== own.cert_pem + own.chain_pem) {
    const pem = config.ca_cert_pem;
    const chain = translate("config.ca_cert_pem", "ca_invalid", () => certificatesFromPem(pem));
    ca = okOr400(await ledger.install(chain, { force: changes.force ?? false }), "config");
    await chainBelow(ctx, own, ca.chain);
  }
  const row: IssuerRow = {
    ...before,
    name: changes.name ?? before.name,
    enabled: changes.enabled ?? before.enabled,
    config: kept,
    updated_at: nextUpdatedAt(ctx, before),
  };
  const set = ca ? { ...(await fromLedger(ca, own.subject)), updated_at: row.updated_at } : {};
  const caRow = { ...own, ...set };
  const statements = [
    guard(unchanged(issuers, before), changedMeanwhile),
    ctx.db.update(issuers).set(row).where(eq(issuers.id, id)),
    ...(ca ? await caStatements(ctx, caRow, set) : []),
    ctx.audit("issuer.update", id, {
      fields: [...Object.keys(changes).filter((name) => name !== "config"), ...Object.keys(config)],
    }),
  ];
  await save(ctx, statements, row);
  return show(row, caRow);
}

/** Every CA of an issuer spreads its later certificates over as many lists. Answers the issuer's own. */
async function setShards(ctx: Context, own: CaAuthorityRow, crl_shards: number): Promise<CaDescription> {
  const below = await ctx.db
    .select({ ledger_id: certificateAuthorities.ledger_id })
    .from(certificateAuthorities)
    .where(and(eq(certificateAuthorities.issuer_id, own.issuer_id), ne(certificateAuthorities.id, own.id)));
  for (const { ledger_id } of below) okOr400(await ledgerOf(ctx, ledger_id).configure({ crl_shards }), "config");
  return okOr400(await ledgerOf(ctx, own.ledger_id).configure({ crl_shards }), "config");
}

/** What is fixed may come back as it was; anything else is a 400 that names the field. */
function checkFixed(
  before: IssuerRow,
  own: CaAuthorityRow,
  config: Partial<Record<keyof GenericCaConfig, unknown>>,
): void {
  for (const field of Object.keys(originShape) as (keyof typeof originShape)[]) {
    const value = config[field];
    if (value === undefined || value === null) continue;
    if (JSON.stringify(value) !== JSON.stringify(before.config[field])) {
      const further = PAST_FIELDS.some((past) => past === field);
      const remedy = further
        ? "comes with the CA; further ones go to POST /api/v1/issuers/{id}/issued and /revocations"
        : "cannot change: it belongs to the CA that exists; make another issuer";
      throw invalid(`config.${field}`, remedy);
    }
  }
  const key = config.ca_key_pem;
  if (key !== undefined && key !== null && key !== MASK) {
    throw invalid("config.ca_key_pem", `the key of a CA cannot change; leave it out or send ${MASK}`);
  }
  if (config.ca_cert_pem === null && own.cert_pem !== "") throw invalid("config.ca_cert_pem", "cannot be cleared");
}

async function changedConfig(ctx: Context, before: IssuerRow, config: Partial<Record<keyof GenericCaConfig, unknown>>) {
  const kept: Record<string, unknown> = { ...before.config };
  for (const field of Object.keys(changeableShape) as (keyof typeof changeableShape)[]) {
    const value = config[field];
    if (value === undefined) continue;
    if (value === null) {
      if (field !== "issuing_ca_id") throw invalid(`config.${field}`, "cannot be cleared");
      delete kept[field];
    } else kept[field] = value;
  }
  const chosen = config.issuing_ca_id;
  if (typeof chosen === "string" && chosen !== before.config.issuing_ca_id) {
    const [row] = await ctx.db
      .select({ state: certificateAuthorities.state })
      .from(certificateAuthorities)
      .where(and(eq(certificateAuthorities.id, chosen), eq(certificateAuthorities.issuer_id, before.id)));
    if (!row)
      throw invalid(
        "config.issuing_ca_id",
        `issuer ${before.id} has no CA ${JSON.stringify(chosen)}`,
        "reference_not_found",
      );
    if (row.state !== "active") throw invalid("config.issuing_ca_id", `CA ${chosen} is ${row.state}`, "ca_not_active");
  }
  return kept;
}

/** 409 while certificates were issued by it or records name it, or intermediates of it are not retired. */
export async function deleteIssuer(ctx: Context, id: string, ifMatch: string | null): Promise<void> {
  const row = await mustFindIssuer(ctx, id);
  checkIfMatch(row, ifMatch);
  const live = and(
    eq(certificateAuthorities.issuer_id, id),
    isNotNull(certificateAuthorities.parent_ca_id),
    ne(certificateAuthorities.state, "retired"),
  );
  const [found] = await ctx.db.select({ n: sql<number>`count(*)` }).from(certificateAuthorities).where(live);
  if (found && found.n > 0)
    throw conflict("in_use", `the issuer has ${found.n} intermediates that are not retired; nothing was deleted`);
  try {
    await commit(ctx, [
      guard(unchanged(issuers, row), changedMeanwhile),
      guard(noRow(certificateAuthorities, live), changedMeanwhile),
      ctx.db.delete(certificateAuthorities).where(eq(certificateAuthorities.issuer_id, id)),
      ctx.db.delete(issuers).where(eq(issuers.id, id)),
      ...(await endScope(ctx, "issuer", id)),
      ctx.audit("issuer.delete", id, { name: row.name }),
    ]);
    forgetAuthority(id);
    forgetActors();
  } catch (error) {
    if (error instanceof ReferenceViolation) {
      throw conflict("in_use", "certificates name this issuer or were issued by it; nothing was deleted");
    }
    throw error;
  }
}

/** Asks the issuer's CA whether it can issue. 400 that says what keeps it from that. */
export async function testIssuer(ctx: Context, id: string): Promise<void> {
  const row = await mustFindIssuer(ctx, id);
  const ca = await findCa(ctx, { issuer_id: id, ca_id: id });
  if (!ca) throw new Error(`issuer ${id} has no CA`);
  const flaw = await ca.test();
  const now = timestamp(ctx);
  await commit(ctx, [
    ctx.db
      .update(issuers)
      .set({ last_tested_at: now, test_status: flaw ? "failed" : "success" })
      .where(eq(issuers.id, row.id)),
    ctx.audit("issuer.test", id, { result: flaw ?? "success" }),
  ]);
  if (flaw) throw new AppError(400, "connection_test_failed", flaw);
}

// -------------------------------------------------------------------------------------------------------------- internal

function okOr400(answer: CaDescription | Refusal, field: string): CaDescription {
  if (answer.ok) return answer;
  if (answer.code === "ca_invalid" || answer.code === "lint_failed" || answer.code === "out_of_bounds") {
    throw invalid(field, answer.message, answer.code);
  }
  throw refusalError(answer);
}

/** Before a key is made for nothing; the unique indexes decide in the end. A CA's id and an issuer's name the same URLs. */
async function refuseTaken(ctx: Context, id: string, name: string): Promise<void> {
  const [[taken], [ca]] = await ctx.db.batch([
    ctx.db.select({ id: issuers.id }).from(issuers).where(sql`${issuers.id} = ${id} or ${issuers.name} = ${name}`),
    ctx.db
      .select({ id: certificateAuthorities.id })
      .from(certificateAuthorities)
      .where(sql`${certificateAuthorities.id} = ${id} or ${certificateAuthorities.ca_id} = ${id}`),
  ]);
  if (taken) {
    const field = taken.id === id ? "id" : "name";
    throw conflict("already_exists", `${field}: an issuer with this ${field} exists already`);
  }
  if (ca) throw idOfCa(id);
}

function idOfCa(id: string): AppError {
  return conflict("already_exists", `id: a CA of an issuer has the id ${JSON.stringify(id)} already`);
}

async function save(ctx: Context, statements: Statement[], row: IssuerRow, answer?: { status: number; body: unknown }) {
  try {
    await commit(ctx, statements, answer ? { answer } : {});
    forgetAuthority(row.id);
  } catch (error) {
    if (error instanceof IdempotencyRace) throw error;
    if (error instanceof UniqueViolation && error.columns.includes("certificate_authorities.ca_id"))
      throw idOfCa(row.id);
    if (error instanceof UniqueViolation) throw uniqueConflict(UNIQUE, row, error);
    throw error;
  }
}

function changedMeanwhile(): AppError {
  return new ChangedMeanwhile("the issuer was changed by another request: read again and repeat");
}
