import { Issuer as Ledger } from "../durable-objects/issuer.ts";
import type { Issued } from "../src/authority/ledger.ts";
import { settleOutbox } from "../src/lifecycle/issuance.ts";
import { makeContext } from "./context.ts";

/** The ledger of a CA, which hands over to the inventory what nobody has acknowledged. */
export class Issuer extends Ledger {
  protected override async settle(issued: readonly Issued[]): Promise<readonly string[]> {
    return settleOutbox(makeContext(this.env, this.ctx), issued);
  }
}
