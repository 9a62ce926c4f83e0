import { withdrawalTopics } from "../src/authority/issuers/withdrawal.ts";
import { authorityTopics } from "../src/authority/revocation.ts";
import type { OutboxHandlers } from "../src/platform/outbox.ts";

/** What each outbox topic does. */
export const outboxHandlers: OutboxHandlers = { ...authorityTopics, ...withdrawalTopics };
