import type { Bytes } from "../pki/bytes.ts";
import type { GeneralName } from "../pki/general-names.ts";
import type { KeyAlgorithm } from "../pki/keys.ts";
import type { SubjectName } from "../pki/names.ts";
import type { Context } from "../platform/context.ts";

/**
 * The ledger of one CA as the wings see it: serials, certificates signed, revocations, CRL numbers and sealed keys. It
 * is the only place that signs. It has one writer; every result is durable before it is returned (invariant 1). Every
 * method is idempotent. A caller's mistake is a `Refusal`, never an exception across RPC. Times are RFC 3339 UTC
 * strings, serials lower-case hex without a sign octet.
 */
export interface Ledger {
  /** Null while the ledger holds no CA. */
  describe(): Promise<CaDescription | null>;

  /** Creates a root; its key is generated in the ledger and never leaves it. */
  createRoot(request: CreateRoot): Promise<CaDescription | Refusal>;
  /** Imports a CA: its chain (issuing CA first, up to the root if known) and its key in PKCS#8. */
  importCa(request: ImportCa): Promise<CaDescription | Refusal>;
  /** Imports what the CA issued and revoked elsewhere. Each batch, up to a few thousand entries, is atomic. */
  importEntries(entries: readonly ImportedEntry[]): Promise<ImportOutcome | Refusal>;
  /** Creates a subordinate with a key generated here; it waits for its certificate and returns its CSR. */
  createSubordinate(request: CreateSubordinate): Promise<CaDescription | Refusal>;
  /**
   * Installs the certificate for a subordinate's CSR, or a successor of the present one (same key, name and key
   * identifier), with its chain (issuing CA first). Refuses one that ends before certificates it issued unless `force`
   * is set.
   */
  install(chain: readonly Bytes[], options?: { readonly force?: boolean }): Promise<CaDescription | Refusal>;
  /** Settings for later certificates; existing certificates keep theirs. */
  configure(settings: { readonly crl_shards: number }): Promise<CaDescription | Refusal>;
  /** active -> retiring -> retired; a retiring CA signs no certificate but still answers for existing ones. */
  retire(to: "retiring" | "retired"): Promise<CaDescription | Refusal>;

  /** Issues leaves, each independent of the others' refusals. Results are in the order of the requests. */
  issue(requests: readonly IssueRequest[]): Promise<IssueResult[]>;
  /** Issues the certificate of a CA below this one. */
  issueCa(request: IssueCaRequest): Promise<IssueResult>;
  /** The inventory has recorded these facts: removes them from the outbox. */
  acknowledge(facts: readonly Fact[]): Promise<void>;
  /** The inventory lacks these although it acknowledged them: puts them back in the outbox. */
  handOverAgain(requestIds: readonly string[]): Promise<void>;

  /**
   * Compares its mark with the inventory's again and hands over what the inventory lacks. Returns the number of facts
   * still waiting; `recovering` while the ledger itself takes back what it lost.
   */
  attune(): Promise<{ readonly ok: true; readonly waiting: number } | Refusal>;

  /** Expiry does not change a status. Called for every OCSP answer that is signed; the usual answer is one word. */
  status(serial: string): Promise<SerialStatus | Refusal>;
  /**
   * No reason: unspecified; accepts the reason of an earlier revocation. A certificate that expired unrevoked stays as
   * it is.
   */
  revoke(serials: readonly string[], reason: RevocationReason | null): Promise<RevokeResult>;
  /**
   * Revokes by serial. Accepts an unknown serial that this CA may have issued: the CA was imported, or the serial
   * carries its tag. Refuses serials that are revoked by other means: CAs below, and the OCSP responder.
   */
  revokeSerial(serial: string, reason: RevocationReason | null): Promise<SerialRevoked | Refusal>;
  /** Lifts certificateHold only. */
  release(serials: readonly string[]): Promise<RevokeResult>;
  /** Versions signed for a certificate that the inventory has not acknowledged. */
  unsettled(certificateId: string): Promise<string[] | Refusal>;

  /** What an isolate needs to sign OCSP responses for this CA. */
  responder(): Promise<ResponderMaterial | Refusal>;
  /**
   * Lets an isolate tell this CA's serials from made-up ones without a call for each. `have`: the `up_to` of the
   * isolate's present filter, or null.
   */
  serials(have: number | null): Promise<SerialKnowledge>;
  /** The state of each list of this CA. */
  crls(): Promise<CrlState[]>;
  /**
   * Ends a ledger whose CA no longer exists: it signs no more, keeps answering until its last certificate has expired,
   * then deletes all its data.
   */
  end(): Promise<LedgerEnd | Refusal>;
  /** Entries in order of creation, after `cursor` (0 first), for the reconciliation with the inventory. */
  entries(cursor: number, limit: number): Promise<LedgerEntry[]>;
}

/** The answer to a request that cannot be met; never a fault of ours. */
export interface Refusal {
  readonly ok: false;
  readonly code: RefusalCode;
  readonly message: string;
}

export type RefusalCode =
  /** No CA was created here, or the subordinate still waits for its certificate. */
  | "ca_absent"
  /** The ledger already holds another CA. */
  | "ca_exists"
  /** Retiring, retired or expired: the CA no longer signs. */
  | "ca_not_active"
  /** Invalid import: chain, key, extensions or validity. */
  | "ca_invalid"
  /** The request id belongs to a different request. */
  | "request_conflict"
  /** Exceeds what this CA may sign (path length, name constraints, lifetime). */
  | "out_of_bounds"
  /** The lint failed; nothing was signed. */
  | "lint_failed"
  | "not_issued"
  | "expired"
  /** The present revocation reason cannot change to the one requested. */
  | "already_revoked"
  /** The ledger was restored to an earlier state: it takes back what it lacks before it answers anything. */
  | "recovering"
  | "not_on_hold";

export type CaState = "awaiting_certificate" | "active" | "retiring" | "retired";

export interface CaDescription {
  readonly ok: true;
  /** Of the ledger's last fact; the first is the CA's creation. */
  readonly mark: Mark;
  readonly ledger_id: string;
  /** The id in public URLs. */
  readonly ca_id: string;
  readonly state: CaState;
  readonly algorithm: string;
  /** DER: the CA's own certificate, then each issuer. Empty while it waits for its certificate. */
  readonly chain: readonly Bytes[];
  /** DER of the PKCS#10 request; null once the CA has its certificate. */
  readonly csr: Bytes | null;
  readonly spki: Bytes;
  readonly crl_shards: number;
  /**
   * Key of the tag that every serial of this CA carries (`hasTag`); null if some serials may lack it: use `serials`.
   */
  readonly serial_key: Bytes | null;
}

interface CreateCommon {
  readonly ledger_id: string;
  readonly ca_id: string;
  readonly crl_shards: number;
  /** RSA keys: sign with RSASSA-PSS instead of PKCS#1 v1.5. */
  readonly pss: boolean;
  /** Decimal digits: the first CRL number is higher. */
  readonly crl_number_floor?: string;
}

export interface CreateRoot extends CreateCommon {
  readonly subject: SubjectName;
  readonly algorithm: KeyAlgorithm;
  readonly ttl_seconds: number;
  readonly path_len: number | null;
}

export interface ImportCa extends CreateCommon {
  readonly chain: readonly Bytes[];
  readonly pkcs8: Bytes;
  readonly entries: readonly ImportedEntry[];
  /** DER of the CA's last CRL: its entries and its number are taken over. */
  readonly crl: Bytes | null;
}

/** A certificate that a CA issued before its import. */
export interface ImportedEntry {
  readonly serial: string;
  readonly not_before: string | null;
  /** Null: unknown, may be valid as long as the CA. */
  readonly not_after: string | null;
  /** The names that the old CA recorded, for display only. */
  readonly names: readonly string[];
  readonly subject: string | null;
  readonly revoked: { readonly at: string; readonly reason: RevocationReason } | null;
}

export interface ImportOutcome {
  readonly ok: true;
  /** Serials that were new. */
  readonly added: number;
  /** Known serials whose revocation is new. */
  readonly revoked: number;
  readonly known: number;
  /** Refused entries, by index in the batch. */
  readonly refused: readonly { readonly index: number; readonly message: string }[];
  /** Of the whole batch. */
  readonly mark: Mark;
}

export interface CreateSubordinate extends CreateCommon {
  readonly subject: SubjectName;
  readonly algorithm: KeyAlgorithm;
  readonly path_len: number | null;
}

export interface IssueRequest {
  /**
   * Same id, certificate, key and names: always the same certificate. Same id with any of these different:
   * `request_conflict`. Usages and lifetime are fixed by the first call.
   */
  readonly request_id: string;
  /** The certificate record that the version belongs to. */
  readonly certificate_id: string;
  /** Empty: no subject; the SAN is then critical. */
  readonly subject: SubjectName;
  readonly sans: readonly GeneralName[];
  /** DER SubjectPublicKeyInfo. */
  readonly spki: Bytes;
  /** Names as in a profile's `allowed_ekus`. */
  readonly ekus: readonly string[];
  readonly must_staple: boolean;
  /** Seconds from notBefore to notAfter, both inclusive (RFC 5280 section 4.1.2.5); cut to the CA's own end. */
  readonly ttl_seconds: number;
  /** Handed to the inventory unchanged if the caller dies before it writes its rows. */
  readonly settle: Readonly<Record<string, unknown>>;
}

export interface IssueCaRequest {
  readonly request_id: string;
  readonly certificate_id: string;
  readonly subject: SubjectName;
  readonly spki: Bytes;
  readonly ttl_seconds: number;
  /** Null: no limit. */
  readonly path_len: number | null;
  /** In the API's form: `DNS:example.com`, `IP:10.0.0.0/8`, `email:...`, `URI:...`. */
  readonly name_constraints: NameConstraintValues | null;
  /** OCSP URLs for the certificate in addition to our own. */
  readonly ocsp_urls: readonly string[];
}

export interface NameConstraintValues {
  readonly permitted: readonly string[];
  readonly excluded: readonly string[];
}

/** A change of an entry: signed, revoked or released. Numbered consecutively within its ledger. */
export interface Fact {
  readonly serial: string;
  readonly seq: number;
}

/** `ends_at` null: the ledger has ended. */
export interface LedgerEnd {
  readonly ok: true;
  readonly ends_at: string | null;
}

/**
 * Recorded by the inventory with a fact, so that each side can detect that the other was restored to an earlier state.
 */
export interface Mark {
  readonly seq: number;
  /** The inventory has confirmed recording every fact up to this number. */
  readonly known: number;
}

export interface Issued {
  readonly ok: true;
  readonly kind: LedgerEntry["kind"];
  /** Of the last fact about it. */
  readonly mark: Mark;
  readonly ledger_id: string;
  /** The id, in public URLs, of the CA that signed. */
  readonly ca_id: string;
  readonly request_id: string;
  readonly certificate_id: string;
  readonly serial: string;
  readonly not_before: string;
  readonly not_after: string;
  readonly shard: number;
  /** DER certificate. */
  readonly der: Bytes;
  readonly spki_sha256: string;
  readonly settle: Readonly<Record<string, unknown>>;
  /** Time of signing. */
  readonly issued_at: string;
  /** Set if the certificate was revoked before the inventory knew of it. */
  readonly revoked_at: string | null;
  readonly revocation_reason: RevocationReason | null;
}

export type IssueResult = Issued | (Refusal & { readonly request_id: string });

export const REVOCATION_REASONS = {
  unspecified: 0,
  keyCompromise: 1,
  caCompromise: 2,
  affiliationChanged: 3,
  superseded: 4,
  cessationOfOperation: 5,
  certificateHold: 6,
  privilegeWithdrawn: 9,
} as const;

/** RFC 5280 section 5.3.1 names. */
export type RevocationReason = keyof typeof REVOCATION_REASONS;

/** `unknown`: never issued, or reserved but not signed yet. */
export type SerialStatus = "good" | "unknown" | RevokedStatus;

export interface RevokedStatus {
  readonly revoked_at: string;
  readonly reason: RevocationReason;
}

export interface RevokedEntry {
  readonly serial: string;
  /** Empty for an imported entry. */
  readonly certificate_id: string;
  readonly not_after: string;
  readonly spki_sha256: string;
  /** Null once released. */
  readonly revoked_at: string | null;
  readonly reason: RevocationReason | null;
  /** False if an earlier call made the change. */
  readonly changed: boolean;
  /** Of the last fact about it. */
  readonly mark: Mark;
}

/** A revoked serial's entry, with the names that an imported one had at the old CA. */
export interface SerialRevoked {
  readonly ok: true;
  readonly entry: RevokedEntry;
  readonly names: readonly string[];
  readonly subject: string | null;
}

export type RevokeResult = { readonly ok: true; readonly entries: readonly RevokedEntry[] } | Refusal;

export interface ResponderMaterial {
  readonly ok: true;
  /** DER of the delegated responder certificate (id-kp-OCSPSigning, id-pkix-ocsp-nocheck). */
  readonly certificate: Bytes;
  /** PKCS#8 of the responder's P-256 key, sealed for `purpose`. */
  readonly sealed_key: string;
  readonly purpose: string;
  /** Ask again after this time: a successor exists by then. */
  readonly refresh_at: string;
  readonly not_after: string;
}

/**
 * Tells this CA's serials from others: by tag (`hasTag`), else by the filter (`SerialFilter`) of serials without a tag.
 */
export interface SerialKnowledge {
  readonly key: Bytes;
  /** The last entry in the filter; null: too many for a filter, look each up. */
  readonly up_to: number | null;
  /** The filter's bits; null if `up_to` is what the caller already has. */
  readonly filter: Bytes | null;
}

export interface CrlState {
  readonly shard: number;
  readonly url: string;
  /** Decimal digits. */
  readonly number: string | null;
  readonly this_update: string | null;
  readonly next_update: string | null;
  readonly entries: number;
  readonly bytes: number;
  /** Time of the oldest change that waits for publication; null: none. */
  readonly dirty_since: string | null;
  readonly last_error: string | null;
}

export interface LedgerEntry {
  readonly cursor: number;
  readonly serial: string;
  readonly request_id: string;
  readonly certificate_id: string;
  readonly kind: "leaf" | "ca" | "responder" | "imported";
  readonly not_after: string;
  readonly spki_sha256: string;
  readonly mark: Mark;
  readonly acknowledged: boolean;
  readonly revoked_at: string | null;
  readonly reason: RevocationReason | null;
}

/** The ledger with that id. Ids are random and never reused, so that a re-created CA never meets an old ledger. */
export function ledgerOf(ctx: Pick<Context, "bindings">, ledgerId: string): Ledger {
  return ctx.bindings.ISSUER.getByName(ledgerId) as unknown as Ledger;
}
