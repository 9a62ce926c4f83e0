import { Issuer as Ledger } from "../durable-objects/issuer.ts";
import { inventoryOf } from "../src/authority/inventory.ts";
import type { Fact, Inventory, Issued } from "../src/authority/ledger.ts";
import { settleOutbox } from "../src/lifecycle/issuance.ts";
import { makeContext } from "./context.ts";

/** The ledger with its way to the inventory: what nobody acknowledged is written there by the rules of issuance. */
export class Issuer extends Ledger {
  protected override inventory(ledgerId: string): Inventory {
    return inventoryOf(makeContext(this.env, this.ctx), ledgerId);
  }

  protected override settle(issued: readonly Issued[]): Promise<readonly Fact[]> {
    return settleOutbox(makeContext(this.env, this.ctx), issued);
  }
}
