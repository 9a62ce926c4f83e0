import { localCas } from "../src/authority/local/ca.ts";
import type { Wiring } from "../src/platform/context.ts";

/** What is plugged into the wings. */
export const WIRING: Wiring = {
  /** The CAs of each type of issuer: an outside one is a file in src/upstream and a line here. */
  cas: { GenericCA: localCas },
};
