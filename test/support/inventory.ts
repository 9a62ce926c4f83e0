import type { Inventory } from "../../src/authority/ledger-inventory.ts";

/** An inventory that knows nothing and takes everything over at once. */
export const NO_INVENTORY: Inventory = {
  settle: async (_, issued) => issued.map(({ serial, mark }) => ({ serial, seq: mark.seq })),
  heard: async () => 0,
  ca: async () => null,
  facts: async () => ({ facts: [], next: null }),
  certificates: async () => [],
  untagged: async () => undefined,
  restoreCa: async () => undefined,
  restoring: async () => undefined,
  restored: async () => undefined,
  report: async () => undefined,
};
