import { and, eq, isNull } from "drizzle-orm";
import type { Context } from "../../platform/context.ts";
import { type AppError, conflict, invalid } from "../../platform/errors.ts";
import { type CaAuthorityRow, certificateAuthorities, type IssuerRow, issuers } from "../table.ts";

/** The CA that signs an issuer's leaves, and what its issuer says of them. */
export interface SigningCa {
  readonly issuer_id: string;
  readonly ca_id: string;
  readonly ledger_id: string;
  /** Its certificate, and those of its issuers up to and including the root, PEM. */
  readonly cert_pem: string;
  readonly chain_pem: string;
  readonly validity_days: number;
}

/** Days that leaves live where the issuer does not say. */
export const DEFAULT_VALIDITY_DAYS = 90;

/**
 * The CA that signs for this issuer now. Throws 400 for an issuer that does not exist, is disabled or of a type that
 * is not available, 409 for a CA that cannot sign.
 */
export async function findSigningCa(ctx: Context, issuerId: string): Promise<SigningCa> {
  const [issuer] = await ctx.db.select().from(issuers).where(eq(issuers.id, issuerId));
  if (!issuer) throw invalid("issuer_id", `issuer ${JSON.stringify(issuerId)} does not exist`, "reference_not_found");
  if (!issuer.enabled) throw invalid("issuer_id", `issuer ${issuer.id} is disabled`, "issuer_disabled");
  if (issuer.type !== "GenericCA") throw typeUnavailable(issuer.type);
  const row = await issuingRow(ctx, issuer);
  if (row.state !== "active") {
    throw conflict("ca_not_active", `CA ${row.id} of issuer ${issuer.id} is ${row.state}: it signs no leaves`);
  }
  return signingCa(row, issuer);
}

/** The row of the CA that an issuer's `issuing_ca_id` names: its own where it names none. */
async function issuingRow(ctx: Context, issuer: IssuerRow): Promise<CaAuthorityRow> {
  const chosen = issuer.config.issuing_ca_id;
  const which =
    typeof chosen === "string" ? eq(certificateAuthorities.id, chosen) : isNull(certificateAuthorities.parent_ca_id);
  const [row] = await ctx.db
    .select()
    .from(certificateAuthorities)
    .where(and(eq(certificateAuthorities.issuer_id, issuer.id), which));
  if (!row) throw conflict("ca_absent", `issuer ${issuer.id} has no CA to sign with`);
  return row;
}

/** The CA whose ledger this is. */
export async function findCaOfLedger(ctx: Context, ledgerId: string): Promise<SigningCa> {
  const [found] = await ctx.db
    .select({ ca: certificateAuthorities, issuer: issuers })
    .from(certificateAuthorities)
    .innerJoin(issuers, eq(issuers.id, certificateAuthorities.issuer_id))
    .where(eq(certificateAuthorities.ledger_id, ledgerId));
  if (!found) throw new Error(`no CA has the ledger ${ledgerId}`);
  return signingCa(found.ca, found.issuer);
}

function signingCa(row: CaAuthorityRow, issuer: IssuerRow): SigningCa {
  const days = issuer.config.validity_days;
  return {
    issuer_id: row.issuer_id,
    ca_id: row.ca_id,
    ledger_id: row.ledger_id,
    cert_pem: row.cert_pem,
    chain_pem: row.chain_pem,
    validity_days: typeof days === "number" ? days : DEFAULT_VALIDITY_DAYS,
  };
}

/** Only GenericCA is built in; connectors to outside CAs are not part of this version. */
export function typeUnavailable(type: string): AppError {
  return invalid(
    "type",
    `issuers of type ${type} are not available in this version; GenericCA is`,
    "issuer_type_unavailable",
  );
}
