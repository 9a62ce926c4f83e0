import { withdrawalWork } from "../src/authority/issuers/withdrawal.ts";
import { purgeWork } from "../src/authority/local/purge.ts";
import { breakglassWork } from "../src/identity/breakglass/credentials.ts";
import { providerWork } from "../src/identity/oidc/providers.ts";
import { userWork } from "../src/identity/users.ts";
import type { WorkKinds } from "../src/platform/work/work.ts";
import { alertWork } from "../src/record/alerts.ts";

/** What is done with each kind of work. */
export const workKinds: WorkKinds = {
  ...purgeWork,
  ...withdrawalWork,
  ...providerWork,
  ...alertWork,
  ...breakglassWork,
  ...userWork,
};
