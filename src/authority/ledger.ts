import type { Bytes } from "../pki/bytes.ts";
import type { GeneralName } from "../pki/general-names.ts";
import type { KeyAlgorithm } from "../pki/keys.ts";
import type { SubjectName } from "../pki/names.ts";
import type { Context } from "../platform/context.ts";

/**
 * The ledger of one CA, as the wings see it: serials, what was signed, what was revoked, CRL numbers and its sealed keys.
 * It is the only place that signs. One writer; whatever a method answers is durable before the answer leaves (invariant 1).
 * Every method may be repeated; none throws across RPC for what a caller can get wrong: that is a `Refusal`.
 * Times are RFC 3339 UTC strings, serials lower-case hex without a sign octet.
 */
export interface Ledger {
  /** Null while the ledger holds no CA. */
  describe(): Promise<CaDescription | null>;

  /** A root made inside: its key is generated here and never leaves. */
  createRoot(request: CreateRoot): Promise<CaDescription | Refusal>;
  /** A CA brought in: chain (issuing CA first, up to the root where it is known) and its key in PKCS#8. */
  importCa(request: ImportCa): Promise<CaDescription | Refusal>;
  /** What the CA had issued and revoked elsewhere; each batch is one step, and may be repeated. A few thousand at once. */
  importEntries(entries: readonly ImportedEntry[]): Promise<ImportOutcome | Refusal>;
  /** A subordinate whose key is made inside: it waits for its certificate and answers with its CSR. */
  createSubordinate(request: CreateSubordinate): Promise<CaDescription | Refusal>;
  /**
   * The certificate for a subordinate's CSR, or a successor of the present one (same key, name and key identifier), with its
   * chain (issuing CA first). One that ends before what was issued is refused unless `force`.
   */
  install(chain: readonly Bytes[], options?: { readonly force?: boolean }): Promise<CaDescription | Refusal>;
  /** Changes what later certificates get; certificates that exist keep what is baked into them. */
  configure(settings: { readonly crl_shards: number }): Promise<CaDescription | Refusal>;
  /** active -> retiring -> retired; a retiring CA signs no certificate but goes on answering for those that exist. */
  retire(to: "retiring" | "retired"): Promise<CaDescription | Refusal>;

  /** Leaves. Each request stands alone: one refusal does not touch the others. Answers in the order of the requests. */
  issue(requests: readonly IssueRequest[]): Promise<IssueResult[]>;
  /** The certificate of a CA below this one. */
  issueCa(request: IssueCaRequest): Promise<IssueResult>;
  /** The inventory has these: the outbox forgets them. */
  acknowledge(facts: readonly Fact[]): Promise<void>;
  /** The inventory lacks these although they were acknowledged: the outbox takes them up again. */
  handOverAgain(requestIds: readonly string[]): Promise<void>;

  /**
   * Compares its mark with the inventory's once more, and hands over what that lacks. Answers what is left to be handed over;
   * `recovering` while the ledger itself takes back what it lost.
   */
  attune(): Promise<{ readonly ok: true; readonly waiting: number } | Refusal>;

  /** A certificate's end changes nothing of it. Every OCSP answer that is signed asks: the usual answer is one word. */
  status(serial: string): Promise<SerialStatus | Refusal>;
  /**
   * Revokes these; no reason: unspecified, and no objection to the reason of an earlier revocation. What expired without
   * being revoked stays as it is.
   */
  revoke(serials: readonly string[], reason: RevocationReason | null): Promise<RevokeResult>;
  /**
   * Revokes by serial, also what is not known here where this CA may have issued it: it was brought in, or the serial carries its
   * tag. Refused for what is revoked otherwise: CAs below, and the OCSP responder.
   */
  revokeSerial(serial: string, reason: RevocationReason | null): Promise<SerialRevoked | Refusal>;
  /** Lifts certificateHold, and nothing else. */
  release(serials: readonly string[]): Promise<RevokeResult>;
  /** What was signed for a certificate and not acknowledged by the inventory. */
  unsettled(certificateId: string): Promise<string[] | Refusal>;

  /** What an isolate needs to sign OCSP responses for this CA. */
  responder(): Promise<ResponderMaterial | Refusal>;
  /**
   * What an isolate needs to tell this CA's serials from made-up ones without asking for each. `have`: the `up_to` of what
   * it holds already, or null.
   */
  serials(have: number | null): Promise<SerialKnowledge>;
  /** The state of each list of this CA. */
  crls(): Promise<CrlState[]>;
  /** Where nobody has its CA: signs no more, goes on until its last certificate has expired, then leaves nothing behind. */
  end(): Promise<LedgerEnd | Refusal>;
  /** Entries in the order in which they were made, after `cursor` (0 at first): for the reconciliation with the inventory. */
  entries(cursor: number, limit: number): Promise<LedgerEntry[]>;
}

/** What a caller asked for that cannot be: never a fault of ours. */
export interface Refusal {
  readonly ok: false;
  readonly code: RefusalCode;
  readonly message: string;
}

export type RefusalCode =
  /** Nothing was created here, or the subordinate still waits for its certificate. */
  | "ca_absent"
  /** The ledger holds another CA already. */
  | "ca_exists"
  /** Retiring, retired or expired: it signs no more. */
  | "ca_not_active"
  /** What was brought in does not fit: chain, key, extensions, validity. */
  | "ca_invalid"
  /** The request id was used for something else. */
  | "request_conflict"
  /** Beyond what this CA may sign (path length, name constraints, lifetime). */
  | "out_of_bounds"
  /** The lint found something: nothing was signed. */
  | "lint_failed"
  | "not_issued"
  | "expired"
  /** Revoked for a reason that cannot become the one asked for. */
  | "already_revoked"
  /** Restored to an earlier state: it takes back what it lacks before it does or answers anything. */
  | "recovering"
  | "not_on_hold";

export type CaState = "awaiting_certificate" | "active" | "retiring" | "retired";

export interface CaDescription {
  readonly ok: true;
  /** Of the ledger's last fact; the CA's own creation is the first. */
  readonly mark: Mark;
  readonly ledger_id: string;
  /** As the public URLs name it. */
  readonly ca_id: string;
  readonly state: CaState;
  readonly algorithm: string;
  /** DER; the CA's own certificate first, then each issuer. Empty while it waits for its certificate. */
  readonly chain: readonly Bytes[];
  /** DER of the PKCS#10 request while it waits for its certificate. */
  readonly csr: Bytes | null;
  readonly spki: Bytes;
  readonly crl_shards: number;
  /** Key of the tag that every serial of this CA carries (`hasTag`); null where some may carry none: `serials` tells those. */
  readonly serial_key: Bytes | null;
}

interface CreateCommon {
  readonly ledger_id: string;
  readonly ca_id: string;
  readonly crl_shards: number;
  /** RSA keys: sign with RSASSA-PSS instead of PKCS#1 v1.5. */
  readonly pss: boolean;
  /** Decimal digits: the first CRL number is above this one. */
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
  /** DER of the last CRL of the CA: its entries and its number count too. */
  readonly crl: Bytes | null;
}

/** What a CA had issued before it was brought in. */
export interface ImportedEntry {
  readonly serial: string;
  readonly not_before: string | null;
  /** Null: not known, it may be valid as long as the CA. */
  readonly not_after: string | null;
  /** What the old CA knew of it, as text: shown to people, and used for nothing. */
  readonly names: readonly string[];
  readonly subject: string | null;
  readonly revoked: { readonly at: string; readonly reason: RevocationReason } | null;
}

export interface ImportOutcome {
  readonly ok: true;
  /** Serials that were not known. */
  readonly added: number;
  /** Known ones whose revocation is new. */
  readonly revoked: number;
  readonly known: number;
  /** By their place in the batch. */
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
   * Same id, certificate, key and names: the same certificate, for ever. Same id and another of these: `request_conflict`.
   * Usages and lifetime are decided the first time.
   */
  readonly request_id: string;
  /** The certificate record that this is a version of. */
  readonly certificate_id: string;
  /** Empty: no subject, then the SAN is critical. */
  readonly subject: SubjectName;
  readonly sans: readonly GeneralName[];
  /** DER SubjectPublicKeyInfo. */
  readonly spki: Bytes;
  /** Names as in a profile's `allowed_ekus`. */
  readonly ekus: readonly string[];
  readonly must_staple: boolean;
  /** Seconds from notBefore to notAfter, both included (RFC 5280 section 4.1.2.5); cut to the CA's own end. */
  readonly ttl_seconds: number;
  /** Handed to the inventory as it is, should the caller die before it has written its rows. */
  readonly settle: Readonly<Record<string, unknown>>;
}

export interface IssueCaRequest {
  readonly request_id: string;
  readonly certificate_id: string;
  readonly subject: SubjectName;
  readonly spki: Bytes;
  readonly ttl_seconds: number;
  /** Null: no limit of its own. */
  readonly path_len: number | null;
  /** Values as the API has them: `DNS:example.com`, `IP:10.0.0.0/8`, `email:...`, `URI:...`. */
  readonly name_constraints: NameConstraintValues | null;
  /** OCSP URLs for its certificate besides our own. */
  readonly ocsp_urls: readonly string[];
}

export interface NameConstraintValues {
  readonly permitted: readonly string[];
  readonly excluded: readonly string[];
}

/** What happened to an entry: that it was signed, revoked, released. Each has the next number of its ledger. */
export interface Fact {
  readonly serial: string;
  readonly seq: number;
}

/** `ends_at` null: it has ended. */
export interface LedgerEnd {
  readonly ok: true;
  readonly ends_at: string | null;
}

/** What the inventory records with a fact, so that each side sees when the other was restored to an earlier state. */
export interface Mark {
  readonly seq: number;
  /** Up to here the inventory has said that it recorded what it was told. */
  readonly known: number;
}

export interface Issued {
  readonly ok: true;
  readonly kind: LedgerEntry["kind"];
  /** Of the last fact about it. */
  readonly mark: Mark;
  readonly ledger_id: string;
  /** The CA that signed, as its public URLs name it. */
  readonly ca_id: string;
  readonly request_id: string;
  readonly certificate_id: string;
  readonly serial: string;
  readonly not_before: string;
  readonly not_after: string;
  readonly shard: number;
  /** The certificate. */
  readonly der: Bytes;
  readonly spki_sha256: string;
  readonly settle: Readonly<Record<string, unknown>>;
  /** When it was signed. */
  readonly issued_at: string;
  /** It may be revoked before the inventory knows of it. */
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

/** RFC 5280 section 5.3.1, in its own words. */
export type RevocationReason = keyof typeof REVOCATION_REASONS;

/** `unknown`: never issued, or reserved and not signed yet. */
export type SerialStatus = "good" | "unknown" | RevokedStatus;

export interface RevokedStatus {
  readonly revoked_at: string;
  readonly reason: RevocationReason;
}

export interface RevokedEntry {
  readonly serial: string;
  /** Empty for what was brought in. */
  readonly certificate_id: string;
  readonly not_after: string;
  readonly spki_sha256: string;
  /** Null once released. */
  readonly revoked_at: string | null;
  readonly reason: RevocationReason | null;
  /** False where an earlier call had done it. */
  readonly changed: boolean;
  /** Of the last fact about it. */
  readonly mark: Mark;
}

/** The entry of a serial that is revoked, and what the old CA knew of one that was brought in. */
export interface SerialRevoked {
  readonly ok: true;
  readonly entry: RevokedEntry;
  readonly names: readonly string[];
  readonly subject: string | null;
}

export type RevokeResult = { readonly ok: true; readonly entries: readonly RevokedEntry[] } | Refusal;

export interface ResponderMaterial {
  readonly ok: true;
  /** DER of the delegated certificate (id-kp-OCSPSigning, id-pkix-ocsp-nocheck). */
  readonly certificate: Bytes;
  /** PKCS#8 of its P-256 key, sealed for `purpose`. */
  readonly sealed_key: string;
  readonly purpose: string;
  /** Ask again after this: a successor exists by then. */
  readonly refresh_at: string;
  readonly not_after: string;
}

/** Tells this CA's serials: by their tag (`hasTag`), else by the filter (`SerialFilter`) over those that carry none. */
export interface SerialKnowledge {
  readonly key: Bytes;
  /** How far the filter reaches; null: there are too many for one, each has to be looked up. */
  readonly up_to: number | null;
  /** The bits of the filter; null where `up_to` is what the caller has already. */
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
  /** Since when a change waits for publication. */
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

/** The ledger of that id. Ids are random and never used again, so that nothing re-created meets an old ledger. */
export function ledgerOf(ctx: Pick<Context, "bindings">, ledgerId: string): Ledger {
  return ctx.bindings.ISSUER.getByName(ledgerId) as unknown as Ledger;
}
