import type { Context } from "../platform/context.ts";
import { outboundFetch } from "../platform/outbound.ts";
import { enqueue, type WorkKinds } from "../platform/work/work.ts";
import type { Reaction, RecordedEvent } from "./reactions.ts";

/** Posts urgent events to the configured webhook. */

const ALERT_KIND = "identity.alert";

/** The posted JSON; contains no secret. Delivered at least once; `id` identifies repetitions. */
interface Alert {
  readonly id: string;
  readonly event: string;
  /** The account concerned. */
  readonly actor: string;
  /** The actor who caused the event. At a sign-in nobody is authenticated yet. */
  readonly by: string;
  readonly address: string;
  readonly at: string;
  readonly request_id: string;
  readonly reason?: string;
}

/** Queues an alert for each event. Events recorded while no webhook is configured are skipped. */
export const alertReaction: Reaction = {
  name: "alerts",
  actions: [
    "auth.breakglass.locked",
    "auth.breakglass.login",
    "auth.breakglass.login_failed",
    "auth.breakglass.password_set",
    "auth.breakglass.removed",
    "auth.breakglass.unlocked",
  ],
  from: "now",
  react(ctx, events) {
    if (ctx.settings.auth.alertWebhook === null) return { statements: [], wakeups: [] };
    const queued = events.map((event) => enqueue(ctx, ALERT_KIND, { ...alertOf(event) }));
    return { statements: queued.map(({ statement }) => statement), wakeups: queued.map(({ id }) => id) };
  },
};

function alertOf({ id, action, resource_id, actor, timestamp, request_id, details }: RecordedEvent): Alert {
  return {
    id: id.replace(/^audit-/, "alert-"),
    event: action,
    actor: resource_id,
    by: actor,
    address: String(details.address),
    at: timestamp,
    request_id,
    ...(details.reason === undefined ? {} : { reason: String(details.reason) }),
  };
}

/**
 * Posts an alert as JSON to the configured webhook. Throws unless the webhook answers 2xx, so the work is retried;
 * without a configured webhook the alert is dropped. Redirects are not followed: alerts go only to the configured
 * address.
 */
export async function postAlert(
  ctx: Pick<Context, "settings">,
  alert: Readonly<Record<string, unknown>>,
  fetcher: typeof fetch = fetch,
): Promise<void> {
  const { alertWebhook } = ctx.settings.auth;
  if (alertWebhook === null) return;
  const request = {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(alert),
    maxRedirects: 0,
    maxBytes: 64 * 1024,
  };
  const { status } = await outboundFetch(ctx.settings, alertWebhook, request, fetcher);
  if (status < 200 || status > 299) throw new Error(`the alert webhook answered ${status}`);
}

export const alertWork: WorkKinds = {
  [ALERT_KIND]: {
    async run(ctx, payload) {
      await postAlert(ctx, payload);
    },
  },
};
