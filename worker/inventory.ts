import { WorkerEntrypoint } from "cloudflare:workers";
import type { CaDescription, Issued } from "../src/authority/ledger.ts";
import type { Inventory as InventoryOfLedgers, LedgerProblem } from "../src/authority/ledger-inventory.ts";
import * as inventory from "../src/authority/local/inventory.ts";
import { restoreCa } from "../src/authority/local/restored.ts";
import { settleOutbox } from "../src/lifecycle/issuance.ts";
import type { Context } from "../src/platform/context.ts";
import { makeContext } from "./context.ts";
import type { Env } from "./env.ts";

/**
 * The inventory's RPC interface for ledgers, so that their Durable Objects contain none of its code. Not reachable over
 * HTTP.
 */
export class Inventory extends WorkerEntrypoint<Env> implements InventoryOfLedgers {
  settle(_ledgerId: string, issued: readonly Issued[]) {
    return settleOutbox(this.#context(), issued);
  }

  heard(ledgerId: string) {
    return inventory.heard(this.#context(), ledgerId);
  }

  ca(ledgerId: string) {
    return inventory.caOfLedger(this.#context(), ledgerId);
  }

  facts(ledgerId: string, after: string) {
    return inventory.factsAfter(this.#context(), ledgerId, after);
  }

  certificates(ledgerId: string, serials: readonly string[]) {
    return inventory.certificatesOf(this.#context(), ledgerId, serials);
  }

  untagged(ledgerId: string) {
    return inventory.noteUntagged(this.#context(), ledgerId);
  }

  restoreCa(_ledgerId: string, ca: CaDescription) {
    return restoreCa(this.#context(), ca);
  }

  restoring(ledgerId: string) {
    return inventory.noteRestoring(this.#context(), ledgerId);
  }

  restored(ledgerId: string, counts: { readonly added: number; readonly revised: number }) {
    return inventory.noteRestored(this.#context(), ledgerId, counts);
  }

  report(ledgerId: string, problems: readonly LedgerProblem[]) {
    return inventory.noteProblems(this.#context(), ledgerId, problems);
  }

  #context(): Context {
    return makeContext(this.env, this.ctx);
  }
}
