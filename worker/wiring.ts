import { issuerExists } from "../src/authority/issuers/issuers.ts";
import { genericCa } from "../src/authority/local/issuer.ts";
import { retiredAt } from "../src/fleet/agents.ts";
import { mayEnrol } from "../src/fleet/credentials.ts";
import { targetsOfAgent } from "../src/fleet/mapping.ts";
import { profileExists } from "../src/inventory/profiles.ts";
import {
  forgetTarget,
  isBeingSigned,
  lastIssuanceFailed,
  newestOpenIssuance,
  orderedFrom,
} from "../src/lifecycle/wiring.ts";
import type { Wiring } from "../src/platform/context.ts";
import { alertReaction } from "../src/record/alerts.ts";

/** What is plugged into the wings. */
export const WIRING: Wiring = {
  /** The CAs of each type of issuer: an outside one is a file in src/upstream and a line here. */
  cas: { GenericCA: genericCa },
  scopes: { profile: profileExists, issuer: issuerExists },
  agents: { retiredAt, mayEnrol },
  targetsOfAgent,
  orders: { casOf: orderedFrom, areRunning: isBeingSigned },
  issuances: { askedAt: newestOpenIssuance, lastFailed: lastIssuanceFailed },
  targetDeleted: forgetTarget,
  /** What follows from events: a reaction is a file in its wing and a line here. */
  reactions: [alertReaction],
};
