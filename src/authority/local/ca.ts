import { and, eq, getTableColumns, type SQL, sql } from "drizzle-orm";
import { releasableSerials, revocableSerials } from "../../inventory/certificates/versions.ts";
import { fromHex } from "../../pki/bytes.ts";
import type { Context } from "../../platform/context.ts";
import { conflict, unavailable } from "../../platform/errors.ts";
import type { Ca, CaCertificate, CaReference, Order, Recording, RevocationOutcome } from "../ca.ts";
import { type Issued, type Ledger, ledgerOf, type RevokeResult } from "../ledger.ts";
import { refusalError } from "../refusals.ts";
import { type IssuerRow, issuers } from "../table.ts";
import { acknowledgeLater, type MarkedFact, markStatements } from "./marks.ts";
import { purgeEntry } from "./purge.ts";
import { type CaAuthorityRow, certificateAuthorities } from "./table.ts";

/** CAs of our own: each has a ledger, which signs at once and keeps the orders. */

/** Default lifetime of leaves, in days. */
export const DEFAULT_VALIDITY_DAYS = 90;
const DAY = 86_400;

/** Implements `CaType.signing`. */
export async function signingLocalCa(ctx: Context, issuer: IssuerRow, rows: readonly unknown[]): Promise<Ca> {
  const [row] = rows as CaAuthorityRow[];
  if (!row) throw conflict("ca_absent", `issuer ${issuer.id} has no CA to sign with`);
  if (row.state !== "active")
    throw conflict("ca_not_active", `CA ${row.id} of issuer ${issuer.id} is ${row.state}: it signs no leaves`);
  return localCa(ctx, row, issuer);
}

/** Implements `CaType.find`. */
export async function findLocalCa(ctx: Context, issuer: IssuerRow, { ca_id, ca_key }: CaReference): Promise<Ca | null> {
  const [row] = await ctx.db
    .select()
    .from(certificateAuthorities)
    .where(and(eq(certificateAuthorities.issuer_id, issuer.id), eq(certificateAuthorities.ca_id, ca_id)));
  // A deleted and re-created issuer has the old one's id and another key.
  if (!row || (ca_key && ca_key !== row.key_hash_sha256)) return null;
  return localCa(ctx, row, issuer);
}

/** Implements `CaType.query`: the row of the CA in the issuer's `issuing_ca_id`, or of its own CA if that is null. */
export function issuingQuery(ctx: Context, issuerId: string | SQL) {
  const { id, issuer_id, parent_ca_id } = certificateAuthorities;
  const chosen = sql`json_extract(${issuers.config}, '$.issuing_ca_id')`;
  return ctx.db
    .select(getTableColumns(certificateAuthorities))
    .from(certificateAuthorities)
    .innerJoin(issuers, eq(issuers.id, issuer_id))
    .where(and(eq(issuers.id, issuerId), sql`${id} = ${chosen} or (${chosen} is null and ${parent_ca_id} is null)`));
}

function localCa(ctx: Context, row: CaAuthorityRow, issuer: IssuerRow): Ca {
  const days = issuer.config.validity_days;
  const ledger = ledgerOf(ctx, row.ledger_id);
  return {
    issuer_id: row.issuer_id,
    ca_id: row.ca_id,
    ca_key: row.key_hash_sha256,
    ttl_seconds: (typeof days === "number" ? days : DEFAULT_VALIDITY_DAYS) * DAY,
    keepsOrders: true,
    chain: async () => row.cert_pem + row.chain_pem,
    order: async (order) => ({ certificate: certificateOf(ctx, await issue(ledger, order)) }),
    poll: refuseReference,
    certificate: refuseReference,
    async revoke({ certificate_id, reason }) {
      const known = await revocableSerials(ctx, row, certificate_id);
      const serials = known.length > 0 ? known : await ledger.unsettled(certificate_id);
      if (!Array.isArray(serials)) return serials;
      return outcomeOf(ctx, row.ledger_id, await ledger.revoke(serials, reason));
    },
    async release({ certificate_id }) {
      const serials = await releasableSerials(ctx, row, certificate_id);
      return outcomeOf(ctx, row.ledger_id, await ledger.release(serials));
    },
    test: () => flawOf(ledger),
  };
}

async function issue(ledger: Ledger, { request_id, certificate_id, approved, settle }: Order): Promise<Issued> {
  const { subject, sans, ekus, must_staple, ttl_seconds } = approved;
  const spki = fromHex(approved.spki);
  const [result] = await ledger.issue([
    { request_id, certificate_id, subject, sans, spki, ekus, must_staple, ttl_seconds, settle },
  ]);
  if (!result) throw unavailable("ledger_silent", "the CA did not answer");
  if (!result.ok) throw refusalError(result);
  return result;
}

async function refuseReference(reference: string): Promise<never> {
  throw new Error(`our own CAs answer an order at once: nothing is pending under ${reference}`);
}

/** A certificate of a ledger, with what the inventory records for it. */
export function certificateOf(ctx: Context, issued: Issued): CaCertificate {
  const { der, issued_at, revoked_at, revocation_reason } = issued;
  const key = `${issued.ledger_id}/${issued.serial}`;
  return { der, key, issued_at, revoked_at, revocation_reason, recording: recordingOf(ctx, [issued]) };
}

/** Records how far the inventory has heard of the ledgers of these facts. */
export function recordingOf(ctx: Context, facts: readonly MarkedFact[]): Recording {
  return { statements: markStatements(ctx, facts), wakeups: [], done: () => acknowledgeLater(ctx, facts) };
}

/** The same for a change of status: the edge also drops the old status. */
export function statusRecordingOf(ctx: Context, facts: readonly MarkedFact[]): Recording {
  const recording = recordingOf(ctx, facts);
  const purge = purgeEntry(ctx, facts);
  return { ...recording, statements: [purge.statement, ...recording.statements], wakeups: [purge.id] };
}

function outcomeOf(ctx: Context, ledger_id: string, result: RevokeResult): RevocationOutcome {
  if (!result.ok) return result;
  const facts = result.entries.map(({ serial, mark }) => ({ ledger_id, serial, mark }));
  return { ok: true, entries: result.entries, recording: statusRecordingOf(ctx, facts) };
}

/** The CA that this ledger belongs to. */
export async function findCaOfLedger(ctx: Context, ledgerId: string): Promise<Ca | null> {
  const [found] = await ctx.db
    .select({ ca: certificateAuthorities, issuer: issuers })
    .from(certificateAuthorities)
    .innerJoin(issuers, eq(issuers.id, certificateAuthorities.issuer_id))
    .where(eq(certificateAuthorities.ledger_id, ledgerId));
  return found ? localCa(ctx, found.ca, found.issuer) : null;
}

/** Asks the ledger for everything that issuing and OCSP need. */
async function flawOf(ledger: Ledger): Promise<string | null> {
  const ca = await ledger.describe();
  if (!ca) return "the ledger of this issuer is empty";
  if (ca.state === "awaiting_certificate") return "the CA waits for its certificate: put it into config.ca_cert_pem";
  const responder = await ledger.responder();
  if (!responder.ok) return responder.message;
  const late = (await ledger.crls()).find((crl) => crl.number === null);
  return late ? `the list ${late.url} is not published${late.last_error ? `: ${late.last_error}` : " yet"}` : null;
}
