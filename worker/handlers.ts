import { withdrawalTopics } from "../src/authority/issuers/withdrawal.ts";
import { authorityTopics } from "../src/authority/revocation.ts";
import { breakglassTopics } from "../src/identity/breakglass/credentials.ts";
import { providerTopics } from "../src/identity/oidc/providers.ts";
import { userTopics } from "../src/identity/users.ts";
import type { OutboxHandlers } from "../src/platform/outbox.ts";
import { alertTopics } from "../src/record/alerts.ts";

/** What each outbox topic does. */
export const outboxHandlers: OutboxHandlers = {
  ...authorityTopics,
  ...withdrawalTopics,
  ...providerTopics,
  ...alertTopics,
  ...breakglassTopics,
  ...userTopics,
};
