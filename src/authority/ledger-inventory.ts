import type { Bytes } from "../pki/bytes.ts";
import type { CaDescription, CaState, Fact, Issued, RevocationReason } from "./ledger.ts";

/**
 * What ledgers ask of the inventory: that it takes over what they signed and revoked, and what tells either side that the other
 * was restored to an earlier state. Each call names its ledger. It crosses RPC, and every call may be repeated.
 */
export interface Inventory {
  /** Takes facts over that nobody acknowledged. Answers those that it has now; the others come again. */
  settle(ledgerId: string, issued: readonly Issued[]): Promise<readonly Fact[]>;
  /** The highest number of a fact that it has recorded; 0 where it never heard of the ledger. */
  heard(ledgerId: string): Promise<number>;
  /** Null where it does not know the CA. */
  ca(ledgerId: string): Promise<{ readonly state: CaState; readonly chain: readonly Bytes[] } | null>;
  /** Every serial of this ledger that it has recorded, in pages; `after` is "" at first, then the last page's `next`. */
  facts(
    ledgerId: string,
    after: string,
  ): Promise<{ readonly facts: readonly InventoryFact[]; readonly next: string | null }>;
  certificates(ledgerId: string, serials: readonly string[]): Promise<readonly InventoryCertificate[]>;
  /** From now on serials of this ledger may come without its tag. */
  untagged(ledgerId: string): Promise<void>;
  /** The inventory lost the CA: it takes its rows from this. */
  restoreCa(ledgerId: string, ca: CaDescription): Promise<void>;
  /** The ledger begins to take back what it lacks, and has it. */
  restoring(ledgerId: string): Promise<void>;
  restored(ledgerId: string, counts: { readonly added: number; readonly revised: number }): Promise<void>;
  /** What the ledger has failed to do for a while; none: all is well again. */
  report(ledgerId: string, problems: readonly LedgerProblem[]): Promise<void>;
}

/** Something that a ledger goes on trying in vain. */
export interface LedgerProblem {
  /** `list:<shard>`, `ocsp_responder`, `inventory` (does not answer) or `outbox` (does not take over what it is told). */
  readonly task: string;
  readonly since: string;
  readonly error: string;
}

export interface InventoryFact {
  readonly serial: string;
  readonly revoked_at: string | null;
  readonly reason: RevocationReason | null;
}

export interface InventoryCertificate {
  readonly serial: string;
  readonly kind: "leaf" | "ca";
  readonly certificate_id: string;
  /** The request that it was issued for; null where that is not known. */
  readonly request_id: string | null;
  readonly issued_at: string;
  readonly der: Bytes;
  /** As the request had it. */
  readonly settle: Readonly<Record<string, unknown>>;
}
