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
 * A CA, as the wings see it: certificates are ordered from it, and it revokes them. Our own ledger (`local/`) is the CA that
 * answers an order at once. An outside CA is one file in `src/upstream` and one line in `worker/wiring.ts`.
 *
 * Every method may be repeated. An AppError below 500 is a refusal that stands; any other error is worth another attempt.
 */
export interface Ca {
  readonly issuer_id: string;
  /** As versions and public URLs name it; an issuer's own CA has the issuer's id. */
  readonly ca_id: string;
  /** SHA-256 of its key, where its id may come to name another CA: an order goes to the CA that it was approved for. */
  readonly ca_key: string | null;
  /** The longest life of a leaf, seconds. */
  readonly ttl_seconds: number;
  /**
   * True: the CA stores an order before it acts on it, and hands over what its caller never recorded. False: the caller stores
   * the order first, and asks again.
   */
  readonly keepsOrders: boolean;

  /** PEM: its own certificate first, then each issuer up to and including the root. */
  chain(): Promise<string>;
  /** The same `request_id` is the same order, as far as the CA can tell. */
  order(order: Order): Promise<OrderAnswer>;
  /** What became of an order that was not answered at once. */
  poll(reference: string): Promise<"pending" | "ready">;
  /** The certificate of an order that is ready. */
  certificate(reference: string): Promise<CaCertificate>;
  revoke(request: RevokeAtCa): Promise<RevocationOutcome>;
  /** Lifts certificateHold, and nothing else. */
  release(request: ReleaseAtCa): Promise<RevocationOutcome>;
  /** What keeps it from issuing; null: nothing. */
  test(): Promise<string | null>;
}

/** Which CA something was ordered from. */
export type CaReference = Pick<Ca, "issuer_id" | "ca_id"> & { readonly ca_key?: string | null | undefined };

/** What there is to know of one type of issuer: its CAs, and what its issuers are made of. */
export interface CaType {
  /** What `signing` needs to know of an issuer's CAs, one statement for a read in company; absent where it needs nothing. */
  query?(ctx: Context, issuerId: string | SQL): BatchItem<"sqlite">;
  /** The CA that signs for the issuer now; `rows` are what `query` found. Throws AppError 409 where it has none that can. */
  signing(ctx: Context, issuer: IssuerRow, rows: readonly unknown[]): Promise<Ca>;
  /** The CA of a reference, whatever its state; null where it is gone. */
  find(ctx: Context, issuer: IssuerRow, ca: CaReference): Promise<Ca | null>;

  /** Checks the configuration of a new issuer (AppError 400); the answer makes what it asks for. */
  creation(config: Readonly<Record<string, unknown>>): (ctx: Context, issuer: NewIssuer) => Promise<IssuerPart>;
  /** Absent fields of the configuration keep their value. */
  change(ctx: Context, before: IssuerRow, change: IssuerChange): Promise<IssuerPart>;
  /** Issuers as the API shows them, by id. */
  show(ctx: Context, rows: readonly IssuerRow[]): Promise<ReadonlyMap<string, ShownIssuer>>;
  /** What goes along with a deleted issuer. Throws AppError 409 where something needs it. */
  leaving(ctx: Context, issuer: IssuerRow): Promise<Leaving>;
  /** Ends a deleted issuer at its CA: it is called until it succeeds. */
  end(ctx: Context, what: Leaving["end"]): Promise<void>;
}

export type NewIssuer = Pick<IssuerRow, "id" | "name">;

export interface IssuerChange {
  readonly config: Readonly<Record<string, unknown>>;
  /** Takes a certificate of the CA that ends before those that it issued. */
  readonly force: boolean;
  readonly updated_at: string;
}

/** The part of an issuer that its type decides. */
export interface IssuerPart {
  /** Without secrets. */
  readonly config: Record<string, unknown>;
  readonly sealed_config: string | null;
  /** Rows that refer to the issuer's own. */
  readonly statements: readonly Statement[];
  readonly recording: Recording;
  /** For the audit event. */
  readonly details: AuditDetails;
  readonly shown: ShownIssuer;
}

/** Secrets are masked. */
export interface ShownIssuer {
  readonly config: Record<string, unknown>;
  /** What of the CA's chain should be known; absent where nothing is. */
  readonly warnings?: readonly string[];
  /** What its CAs go on trying in vain; absent where that is nothing. */
  readonly problems?: readonly CaProblem[];
}

export interface CaProblem {
  readonly ca_id: string;
  readonly task: string;
  readonly since: string;
  readonly error: string;
}

export interface Leaving {
  /** For the batch that deletes the issuer's row, before that. */
  readonly statements: readonly Statement[];
  /** What `end` needs, as JSON. */
  readonly end: Readonly<Record<string, unknown>>;
}

/** By the type of issuer. */
export type CaTypes = Readonly<Record<string, CaType>>;

declare module "../platform/context.ts" {
  interface Wiring {
    readonly cas: CaTypes;
    /** What was ordered for a certificate and may not have arrived as a version yet. */
    readonly orders: {
      /** The CAs of all its orders. */
      casOf(ctx: Context, certificateId: string): Promise<CaReference[]>;
      /** Whether a CA may be signing for it now. */
      areRunning(ctx: Context, certificateId: string): Promise<boolean>;
    };
  }
}

/** What may be signed: plain JSON, so that a job can keep it and ask again for exactly this. */
export interface Approved extends CaReference {
  readonly subject: Readonly<Record<string, string>>;
  readonly sans: readonly GeneralName[];
  /** SubjectPublicKeyInfo, DER in lower-case hex. */
  readonly spki: string;
  /** RSA, ECDSA or Ed25519, and its bits. */
  readonly key_algorithm: string;
  readonly key_size: number;
  readonly ekus: readonly string[];
  readonly must_staple: boolean;
  readonly ttl_seconds: number;
}

export interface Order {
  readonly request_id: string;
  /** The certificate record that it is a version of. */
  readonly certificate_id: string;
  readonly approved: Approved;
  /** The request that proved possession of the key. */
  readonly csr_pem: string;
  /** What the caller needs to record the certificate; a CA that keeps orders hands it over with the certificate. */
  readonly settle: Readonly<Record<string, unknown>>;
}

/** `reference`: the CA has the order under that name and answers later; `retry_seconds`: when to ask, where it says so. */
export type OrderAnswer =
  | { readonly certificate: CaCertificate }
  | { readonly reference: string; readonly retry_seconds?: number };

/** A certificate as the CA gave it: nothing of it is checked. */
export interface CaCertificate {
  readonly der: Bytes;
  /** PEM of those above it up to and including the root, where it is not the CA's present chain. */
  readonly chain_pem?: string;
  /** Names it for ever, among those of all CAs; issuer and serial unless told. */
  readonly key?: string;
  /** When it was signed; now unless told. */
  readonly issued_at?: string;
  /** It may be revoked before anybody has recorded it. */
  readonly revoked_at?: string | null;
  readonly revocation_reason?: RevocationReason | null;
  readonly recording?: Recording;
}

/** What the CA needs to be recorded along with what it said. */
export interface Recording {
  /** For the batch that records it. */
  readonly statements: readonly Statement[];
  /** Work among the statements. */
  readonly wakeups: readonly string[];
  /** To be called when the batch is committed. */
  done(): void;
}

export const NOTHING_TO_RECORD: Recording = { statements: [], wakeups: [], done: () => undefined };

/** A still valid version, as the inventory has it. */
export interface KnownVersion {
  readonly serial: string;
  readonly certificate_id: string;
  readonly spki_sha256: string;
  readonly revoked_at: string | null;
  readonly reason: RevocationReason | null;
}

export interface ReleaseAtCa {
  readonly certificate_id: string;
  /** Those that this CA issued. */
  readonly versions: readonly KnownVersion[];
}

export interface RevokeAtCa extends ReleaseAtCa {
  /** Null: unspecified, and no objection to the reason of an earlier revocation. */
  readonly reason: RevocationReason | null;
}

/** A version and what the CA says of it now. */
export interface RevokedVersion extends KnownVersion {
  /** False where an earlier call had done it. */
  readonly changed: boolean;
}

export type RevocationOutcome =
  | { readonly ok: true; readonly entries: readonly RevokedVersion[]; readonly recording: Recording }
  | Refusal;

/** The type of an issuer. Throws AppError 400 for one that this version has not. */
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

/** The CA of a reference; null where it or its issuer is gone. */
export async function findCa(ctx: Context, ca: CaReference): Promise<Ca | null> {
  const [issuer] = await ctx.db.select().from(issuers).where(eq(issuers.id, ca.issuer_id));
  return issuer ? caTypeOf(ctx, issuer.type).find(ctx, issuer, ca) : null;
}

/** What `signingCa` needs to know, for a read in company. */
export function signingQueries(ctx: Context, issuerId: string | SQL): BatchItem<"sqlite">[] {
  const ofTypes = Object.values(ctx.wiring.cas).flatMap((type) => type.query?.(ctx, issuerId) ?? []);
  return [ctx.db.select().from(issuers).where(eq(issuers.id, issuerId)), ...ofTypes];
}

/**
 * The CA that signs for this issuer now, by what `signingQueries` found. Throws 400 for an issuer that is absent or disabled, 409
 * where no CA can sign.
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
