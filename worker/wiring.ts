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

/** The implementations injected into the wings. */
export const WIRING: Wiring = {
  /** CA connectors by issuer type; a new connector gets a line here. */
  cas: { GenericCA: genericCa },
  scopes: { profile: profileExists, issuer: issuerExists },
  agents: { retiredAt, mayEnrol },
  targetsOfAgent,
  orders: { casOf: orderedFrom, areRunning: isBeingSigned },
  issuances: { askedAt: newestOpenIssuance, lastFailed: lastIssuanceFailed },
  targetDeleted: forgetTarget,
  /** Reactions to events. To add one: a file in its wing and a line here. */
  reactions: [alertReaction],
};
