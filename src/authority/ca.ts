import { eq, type SQL } from "drizzle-orm";
import type { BatchItem } from "drizzle-orm/batch";
import type { Bytes } from "../pki/bytes.ts";
import type { GeneralName } from "../pki/general-names.ts";
import type { AuditDetails, Context } from "../platform/context.ts";
import type { Statement } from "../platform/database.ts";
import { invalid } from "../platform/errors.ts";
import type { Refusal, RevocationReason } from "./ledger.ts";
import { type IssuerRow, issuers } from "./table.ts";

/**
 * A CA as the wings see it: it signs orders and revokes certificates. Our own ledger (`local/`) answers an order at
 * once. An outside CA is one file in `src/upstream` and one line in `worker/wiring.ts`.
 *
 * Every method is idempotent. An AppError below 500 is a final refusal; any other error may be retried.
 */
export interface Ca {
  readonly issuer_id: string;
  /** The id in versions and public URLs; an issuer's own CA has the issuer's id. */
  readonly ca_id: string;
  /**
   * SHA-256 of the CA's key, set where the id may later name another CA: an order goes only to the CA it was approved
   * for.
   */
  readonly ca_key: string | null;
  /** Maximum lifetime of a leaf, in seconds. */
  readonly ttl_seconds: number;
  /**
   * True: the CA stores an order before acting on it and hands over certificates that its caller never recorded. False:
   * the caller stores the order first and asks again.
   */
  readonly keepsOrders: boolean;

  /** PEM: the CA's own certificate, then each issuer up to and including the root. */
  chain(): Promise<string>;
  /** The same `request_id` is the same order, as far as the CA supports it. */
  order(order: Order): Promise<OrderAnswer>;
  /** The state of an order that was not answered at once. */
  poll(reference: string): Promise<"pending" | "ready">;
  /** The certificate of an order that is ready. */
  certificate(reference: string): Promise<CaCertificate>;
  revoke(request: RevokeAtCa): Promise<RevocationOutcome>;
  /** Lifts certificateHold only. */
  release(request: ReleaseAtCa): Promise<RevocationOutcome>;
  /** The reason the CA cannot issue, or null. */
  test(): Promise<string | null>;
}

/** Identifies the CA that received an order. */
export type CaReference = Pick<Ca, "issuer_id" | "ca_id"> & { readonly ca_key?: string | null | undefined };

/** A type of issuer: its CAs and its configuration. */
export interface CaType {
  /**
   * The statement that reads what `signing` needs, so that the caller can batch it with other reads; absent where
   * `signing` needs nothing.
   */
  query?(ctx: Context, issuerId: string | SQL): BatchItem<"sqlite">;
  /** The CA that signs for the issuer now; `rows` is the result of `query`. Throws AppError 409 when no CA can sign. */
  signing(ctx: Context, issuer: IssuerRow, rows: readonly unknown[]): Promise<Ca>;
  /** The CA of a reference in any state; null if it no longer exists. */
  find(ctx: Context, issuer: IssuerRow, ca: CaReference): Promise<Ca | null>;

  /** Validates the configuration of a new issuer (AppError 400). The returned function creates the issuer's part. */
  creation(config: Readonly<Record<string, unknown>>): (ctx: Context, issuer: NewIssuer) => Promise<IssuerPart>;
  /** Absent fields of the configuration keep their value. */
  change(ctx: Context, before: IssuerRow, change: IssuerChange): Promise<IssuerPart>;
  /** Issuers in the API's form, by id. */
  show(ctx: Context, rows: readonly IssuerRow[]): Promise<ReadonlyMap<string, ShownIssuer>>;
  /** What must be deleted along with an issuer. Throws AppError 409 while the issuer is in use. */
  leaving(ctx: Context, issuer: IssuerRow): Promise<Leaving>;
  /** Ends a deleted issuer at its CA; retried until it succeeds. */
  end(ctx: Context, what: Leaving["end"]): Promise<void>;
}

export type NewIssuer = Pick<IssuerRow, "id" | "name">;

export interface IssuerChange {
  readonly config: Readonly<Record<string, unknown>>;
  /** Accepts a CA certificate that expires before certificates it issued. */
  readonly force: boolean;
  readonly updated_at: string;
}

/** The part of an issuer that its type decides. */
export interface IssuerPart {
  /** Without secrets. */
  readonly config: Record<string, unknown>;
  readonly sealed_config: string | null;
  /** Statements for rows that refer to the issuer's row. */
  readonly statements: readonly Statement[];
  readonly recording: Recording;
  /** Audit event details. */
  readonly details: AuditDetails;
  readonly shown: ShownIssuer;
}

/** Secrets are masked. */
export interface ShownIssuer {
  readonly config: Record<string, unknown>;
  /** Warnings about the CA's chain; absent if none. */
  readonly warnings?: readonly string[];
  /** Tasks that keep failing at the issuer's CAs; absent if none. */
  readonly problems?: readonly CaProblem[];
}

export interface CaProblem {
  readonly ca_id: string;
  readonly task: string;
  readonly since: string;
  readonly error: string;
}

export interface Leaving {
  /** Run in the batch that deletes the issuer's row, before the delete. */
  readonly statements: readonly Statement[];
  /** The argument of `end`, as JSON. */
  readonly end: Readonly<Record<string, unknown>>;
}

/** By the type of issuer. */
export type CaTypes = Readonly<Record<string, CaType>>;

declare module "../platform/context.ts" {
  interface Wiring {
    readonly cas: CaTypes;
    /** Orders for a certificate that may not have become a version yet. */
    readonly orders: {
      /** The CAs of all orders for the certificate. */
      casOf(ctx: Context, certificateId: string): Promise<CaReference[]>;
      /** Whether a CA may be signing for the certificate now. */
      areRunning(ctx: Context, certificateId: string): Promise<boolean>;
    };
  }
}

/** What may be signed. Plain JSON, so that a job can store it and place the same order again. */
export interface Approved extends CaReference {
  readonly subject: Readonly<Record<string, string>>;
  readonly sans: readonly GeneralName[];
  /** SubjectPublicKeyInfo, DER in lower-case hex. */
  readonly spki: string;
  /** RSA, ECDSA or Ed25519, with the key size in bits. */
  readonly key_algorithm: string;
  readonly key_size: number;
  readonly ekus: readonly string[];
  readonly must_staple: boolean;
  readonly ttl_seconds: number;
}

export interface Order {
  readonly request_id: string;
  /** The certificate record that the new version belongs to. */
  readonly certificate_id: string;
  readonly approved: Approved;
  /** The CSR that proved possession of the key. */
  readonly csr_pem: string;
  /** What the caller needs to record the certificate; a CA that keeps orders returns it with the certificate. */
  readonly settle: Readonly<Record<string, unknown>>;
}

/** `reference`: the CA's name for an order that it answers later; `retry_seconds`: when to ask, if the CA says so. */
export type OrderAnswer =
  | { readonly certificate: CaCertificate }
  | { readonly reference: string; readonly retry_seconds?: number };

/** A certificate as the CA returned it, unchecked. */
export interface CaCertificate {
  readonly der: Bytes;
  /** PEM of the issuers up to and including the root, if different from the CA's present chain. */
  readonly chain_pem?: string;
  /** Permanent key, unique across all CAs; default: issuer and serial. */
  readonly key?: string;
  /** Time of signing; default: now. */
  readonly issued_at?: string;
  /** Set if the certificate was revoked before it was recorded. */
  readonly revoked_at?: string | null;
  readonly revocation_reason?: RevocationReason | null;
  readonly recording?: Recording;
}

/** What must be recorded along with the CA's answer. */
export interface Recording {
  /** For the batch that records the answer. */
  readonly statements: readonly Statement[];
  /** Ids of the work that the statements create. */
  readonly wakeups: readonly string[];
  /** Call once the batch is committed. */
  done(): void;
}

export const NOTHING_TO_RECORD: Recording = { statements: [], wakeups: [], done: () => undefined };

/** A version that has not expired, as the inventory has it. */
export interface KnownVersion {
  readonly serial: string;
  readonly certificate_id: string;
  readonly spki_sha256: string;
  readonly revoked_at: string | null;
  readonly reason: RevocationReason | null;
}

export interface ReleaseAtCa {
  readonly certificate_id: string;
  /** The versions that this CA issued. */
  readonly versions: readonly KnownVersion[];
}

export interface RevokeAtCa extends ReleaseAtCa {
  /** Null: unspecified; accepts the reason of an earlier revocation. */
  readonly reason: RevocationReason | null;
}

/** A version with its status at the CA. */
export interface RevokedVersion extends KnownVersion {
  /** False if an earlier call made the change. */
  readonly changed: boolean;
}

export type RevocationOutcome =
  | { readonly ok: true; readonly entries: readonly RevokedVersion[]; readonly recording: Recording }
  | Refusal;

/** The type of an issuer. Throws AppError 400 for an unknown type. */
export function caTypeOf(ctx: Context, type: string): CaType {
  const found = Object.hasOwn(ctx.wiring.cas, type) ? ctx.wiring.cas[type] : undefined;
  if (found) return found;
  const there = Object.keys(ctx.wiring.cas).join(", ");
  throw invalid(
    "type",
    `issuers of type ${type} are not available in this version; ${there} is`,
    "issuer_type_unavailable",
  );
}

/** The CA of a reference; null if the CA or its issuer no longer exists. */
export async function findCa(ctx: Context, ca: CaReference): Promise<Ca | null> {
  const [issuer] = await ctx.db.select().from(issuers).where(eq(issuers.id, ca.issuer_id));
  return issuer ? caTypeOf(ctx, issuer.type).find(ctx, issuer, ca) : null;
}

/** The reads that `signingCa` needs, for the caller's batch. */
export function signingQueries(ctx: Context, issuerId: string | SQL): BatchItem<"sqlite">[] {
  const ofTypes = Object.values(ctx.wiring.cas).flatMap((type) => type.query?.(ctx, issuerId) ?? []);
  return [ctx.db.select().from(issuers).where(eq(issuers.id, issuerId)), ...ofTypes];
}

/**
 * The CA that signs for this issuer now; `found` is the result of `signingQueries`. Throws 400 for an absent or
 * disabled issuer, 409 when no CA can sign.
 */
export async function signingCa(ctx: Context, issuerId: string, found: readonly unknown[]): Promise<Ca> {
  const [[issuer] = [], ...ofTypes] = found as readonly [IssuerRow[], ...unknown[][]];
  if (!issuer) throw invalid("issuer_id", `issuer ${JSON.stringify(issuerId)} does not exist`, "reference_not_found");
  if (!issuer.enabled) throw invalid("issuer_id", `issuer ${issuer.id} is disabled`, "issuer_disabled");
  const type = caTypeOf(ctx, issuer.type);
  const at = Object.values(ctx.wiring.cas)
    .filter(({ query }) => query)
    .indexOf(type);
  return type.signing(ctx, issuer, ofTypes[at] ?? []);
}
