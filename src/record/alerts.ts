import { ALERT_KIND } from "../identity/breakglass/events.ts";
import type { Context } from "../platform/context.ts";
import { outboundFetch } from "../platform/outbound.ts";
import type { WorkKinds } from "../platform/work/work.ts";

/**
 * Posts an alert as JSON to the webhook of the settings. Throws unless it answers 2xx, and the outbox tries again; a setting
 * that was taken away meanwhile ends it. A redirect is no answer: what was configured is what is told.
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
