import type { Bytes } from "../pki/bytes.ts";
import type { CaDescription, CaState, Fact, Issued, RevocationReason } from "./ledger.ts";

/**
 * The inventory as a ledger sees it: it takes over what the ledger signed and revoked, and lets each side detect that
 * the other was restored to an earlier state. Each call names its ledger, crosses RPC and is idempotent.
 */
export interface Inventory {
  /** Takes over unacknowledged facts. Returns those that are recorded; the ledger sends the others again. */
  settle(ledgerId: string, issued: readonly Issued[]): Promise<readonly Fact[]>;
  /** The number of the highest fact recorded for the ledger; 0 for an unknown ledger. */
  heard(ledgerId: string): Promise<number>;
  /** Null for an unknown CA. */
  ca(ledgerId: string): Promise<{ readonly state: CaState; readonly chain: readonly Bytes[] } | null>;
  /** Every recorded serial of this ledger, in pages; `after` is "" first, then the previous page's `next`. */
  facts(
    ledgerId: string,
    after: string,
  ): Promise<{ readonly facts: readonly InventoryFact[]; readonly next: string | null }>;
  certificates(ledgerId: string, serials: readonly string[]): Promise<readonly InventoryCertificate[]>;
  /** From now on, serials of this ledger may lack its tag. */
  untagged(ledgerId: string): Promise<void>;
  /** Rebuilds the CA's rows after the inventory lost them. */
  restoreCa(ledgerId: string, ca: CaDescription): Promise<void>;
  /** Marks that the ledger has begun, or finished, taking back what it lost. */
  restoring(ledgerId: string): Promise<void>;
  restored(ledgerId: string, counts: { readonly added: number; readonly revised: number }): Promise<void>;
  /** Tasks that the ledger has failed at for a while; empty: all is well again. */
  report(ledgerId: string, problems: readonly LedgerProblem[]): Promise<void>;
}

/** A task that a ledger keeps failing at. */
export interface LedgerProblem {
  /** `list:<shard>`, `ocsp_responder`, `inventory` (no answer) or `outbox` (facts are not taken over). */
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
  /** The request that the certificate was issued for; null if unknown. */
  readonly request_id: string | null;
  readonly issued_at: string;
  readonly der: Bytes;
  /** Copied from the request. */
  readonly settle: Readonly<Record<string, unknown>>;
}
