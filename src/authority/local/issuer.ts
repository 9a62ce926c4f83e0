import { and, eq, isNotNull, isNull, ne, type SQL, sql } from "drizzle-orm";
import { caChainWarnings } from "../../pki/certificate.ts";
import { certificatesFromPem } from "../../pki/pem.ts";
import type { Context } from "../../platform/context.ts";
import { guard, inList, noRow } from "../../platform/database.ts";
import { AppError, ChangedMeanwhile, conflict, invalid } from "../../platform/errors.ts";
import { type CaType, type IssuerPart, NOTHING_TO_RECORD, type ShownIssuer } from "../ca.ts";
import { MASK, parseConfig } from "../config.ts";
import { type CaDescription, ledgerOf, type Refusal } from "../ledger.ts";
import { refusalError, translate } from "../refusals.ts";
import type { IssuerRow } from "../table.ts";
import { caStatements, chainBelow } from "./below.ts";
import { findLocalCa, issuingQuery, recordingOf, signingLocalCa } from "./ca.ts";
import {
  changeableShape,
  changedGenericCaConfig,
  type GenericCaConfig,
  genericCaConfig,
  originShape,
  SECRET_FIELDS,
} from "./config.ts";
import { beginLedger, endLedgersOf, ledgerStands } from "./ledgers.ts";
import { creationOf } from "./marks.ts";
import { makeCa, PAST_FIELDS, sameCa, subjectOf } from "./origin.ts";
import { problemsOf } from "./problems.ts";
import { chainOfRow, freeCaId, fromLedger, newCaRow } from "./rows.ts";
import { type CaAuthorityRow, certificateAuthorities } from "./table.ts";

/** GenericCA: issuers whose CAs are our own. */
export const genericCa: CaType = {
  query: issuingQuery,
  signing: signingLocalCa,
  find: findLocalCa,

  /** Creates the CA in a ledger of its own, then the rows. A sweep ends a ledger whose rows were never written. */
  creation(values) {
    const config = parseConfig(genericCaConfig, values);
    return async (ctx, { id, name }) => {
      if (config.issuing_ca_id)
        throw invalid("config.issuing_ca_id", "a new issuer has no intermediate yet: set it later");
      const ledger_id = await beginLedger(ctx);
      await ctx.sealer.register(ctx.db, ctx.clock.now());
      const of = { name, config };
      const ca = okOr400(await makeCa(ctx, ledgerOf(ctx, ledger_id), { ledger_id, ca_id: id }, of), "config");
      const row = await newCaRow(ctx, ca, {
        id: await freeCaId(ctx, name),
        issuer_id: id,
        parent_ca_id: null,
        name,
        metadata: {},
        subject: subjectOf(of),
      });
      const kept = storedConfig(config, ca);
      return {
        config: kept,
        sealed_config: null,
        statements: [
          ...(row.cert_pem === "" ? [] : [guard(noRow(certificateAuthorities, sameCa(row)), changedMeanwhile)]),
          ledgerStands(ledger_id, changedMeanwhile),
          ctx.db.insert(certificateAuthorities).values(row),
        ],
        recording: recordingOf(ctx, [creationOf(ca)]),
        details: { algorithm: row.algorithm, ledger_id },
        shown: await shown(kept, row),
      };
    };
  },

  /** A new `ca_cert_pem` goes to the ledger before any row is written. */
  async change(ctx, before, { config: values, force, updated_at }) {
    const config: ConfigChanges = parseConfig(changedGenericCaConfig, values);
    const own = await ownCaOf(ctx, before.id);
    checkFixed(before, own, config);
    const kept = await changedConfig(ctx, before, config);
    const ca = await changeCa(ctx, before, own, config, force);
    const set = ca ? { ...(await fromLedger(ca, own.subject)), updated_at } : {};
    const row = { ...own, ...set };
    return {
      config: kept,
      sealed_config: null,
      statements: ca ? await caStatements(ctx, row, set) : [],
      recording: NOTHING_TO_RECORD,
      details: {},
      shown: await shown(kept, row),
    } satisfies IssuerPart;
  },

  async show(ctx, rows) {
    const ids = rows.map((row) => row.id);
    const owns = await ctx.db
      .select()
      .from(certificateAuthorities)
      .where(ownOf(inList(certificateAuthorities.issuer_id, ids)));
    const problems = await problemsOf(ctx, ids);
    const views = rows.map(async (row) => {
      const own = owns.find((ca) => ca.issuer_id === row.id) ?? null;
      return [row.id, { ...(await shown(row.config, own)), ...problems.get(row.id) }] as const;
    });
    return new Map(await Promise.all(views));
  },

  async leaving(ctx, { id }) {
    const { issuer_id, parent_ca_id, state, ledger_id } = certificateAuthorities;
    const live = and(eq(issuer_id, id), isNotNull(parent_ca_id), ne(state, "retired"));
    const [found] = await ctx.db.select({ n: sql<number>`count(*)` }).from(certificateAuthorities).where(live);
    if (found && found.n > 0)
      throw conflict("in_use", `the issuer has ${found.n} intermediates that are not retired; nothing was deleted`);
    const rows = await ctx.db.select({ ledger_id }).from(certificateAuthorities).where(eq(issuer_id, id));
    return {
      statements: [
        guard(noRow(certificateAuthorities, live), changedMeanwhile),
        ctx.db.delete(certificateAuthorities).where(eq(issuer_id, id)),
      ],
      end: { ledgers: rows.map((row) => row.ledger_id) },
    };
  },

  end: (ctx, { ledgers }) => endLedgersOf(ctx, ledgers as readonly string[]),
};

type ConfigChanges = Partial<Record<keyof GenericCaConfig, unknown>>;

/** The configuration to store: without secrets and without fields that the CA's row has. */
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

async function shown(stored: Record<string, unknown>, ca: CaAuthorityRow | null): Promise<ShownIssuer> {
  const { imported, ...config } = stored;
  const secrets = imported ? Object.fromEntries(SECRET_FIELDS.map((field) => [field, MASK])) : {};
  const material = ca?.cert_pem ? { ca_cert_pem: ca.cert_pem + ca.chain_pem } : {};
  const csr = ca?.csr_pem ? { ca_csr_pem: ca.csr_pem } : {};
  const warnings = ca?.chain_pem ? await caChainWarnings(chainOfRow(ca)) : [];
  return {
    config: { ...config, ...material, ...csr, ...secrets },
    ...(warnings.length > 0 ? { warnings } : {}),
  };
}

/** The issuer's own CA, the top of its hierarchy. Throws AppError 400 for an issuer whose CA is not ours. */
export async function ownCaOf(ctx: Context, issuerId: string): Promise<CaAuthorityRow> {
  const [row] = await ctx.db
    .select()
    .from(certificateAuthorities)
    .where(ownOf(eq(certificateAuthorities.issuer_id, issuerId)));
  if (row) return row;
  throw new AppError(
    400,
    "no_own_ca",
    `issuer ${issuerId} has no CA of its own here: its certificates come from outside`,
  );
}

function ownOf(condition: SQL) {
  return and(condition, isNull(certificateAuthorities.parent_ca_id));
}

/** Changes the ledgers as configured; null: nothing to change. */
async function changeCa(
  ctx: Context,
  before: IssuerRow,
  own: CaAuthorityRow,
  { crl_shards, ca_cert_pem: pem }: ConfigChanges,
  force: boolean,
): Promise<CaDescription | null> {
  let ca: CaDescription | null = null;
  if (typeof crl_shards === "number" && crl_shards !== before.config.crl_shards)
    ca = await setShards(ctx, own, crl_shards);
  if (typeof pem === "string" && pem !== own.cert_pem + own.chain_pem) {
    const chain = translate("config.ca_cert_pem", "ca_invalid", () => certificatesFromPem(pem));
    ca = okOr400(await ledgerOf(ctx, own.ledger_id).install(chain, { force }), "config");
    await chainBelow(ctx, own, ca.chain);
  }
  return ca;
}

/** Sets the number of lists for later certificates at every CA of the issuer. Returns the issuer's own CA. */
async function setShards(ctx: Context, own: CaAuthorityRow, crl_shards: number): Promise<CaDescription> {
  const below = await ctx.db
    .select({ ledger_id: certificateAuthorities.ledger_id })
    .from(certificateAuthorities)
    .where(and(eq(certificateAuthorities.issuer_id, own.issuer_id), ne(certificateAuthorities.id, own.id)));
  for (const { ledger_id } of below) okOr400(await ledgerOf(ctx, ledger_id).configure({ crl_shards }), "config");
  return okOr400(await ledgerOf(ctx, own.ledger_id).configure({ crl_shards }), "config");
}

/** Fixed fields may be sent back unchanged; a different value is a 400 that names the field. */
function checkFixed(before: IssuerRow, own: CaAuthorityRow, config: ConfigChanges): void {
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

async function changedConfig(ctx: Context, before: IssuerRow, config: ConfigChanges) {
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

function okOr400(answer: CaDescription | Refusal, field: string): CaDescription {
  if (answer.ok) return answer;
  if (answer.code === "ca_invalid" || answer.code === "lint_failed" || answer.code === "out_of_bounds") {
    throw invalid(field, answer.message, answer.code);
  }
  throw refusalError(answer);
}

function changedMeanwhile(): AppError {
  return new ChangedMeanwhile("the issuer was changed by another request: read again and repeat");
}
