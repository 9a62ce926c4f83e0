import { isOnCloudflare } from "../platform/caller.ts";
import type { Actor, Context } from "../platform/context.ts";
import { demoAcknowledged, isLoopback } from "../platform/demo.ts";
import { forbidden } from "../platform/errors.ts";
import { TENANT } from "./grants.ts";
import { BUILTIN_PERMISSIONS } from "./permissions.ts";

/** Everybody, in the demo mode: an administrator without a name. No grant makes or unmakes it. */
export const DEMO_ACTOR: Actor = {
  id: "actor-demo-anon",
  type: "Anonymous",
  tenant_id: TENANT,
  roles: ["r-admin"],
  permissions: BUILTIN_PERMISSIONS.get("r-admin") ?? [],
};

/** The log says it once in each isolate. */
let warned = false;

/**
 * The actor of a request without a credential in the demo mode. Throws 403 `demo_mode_refused` for what a page of another site
 * could have made a browser send: a Host that is no loopback name (DNS rebinding), an Origin elsewhere, a cross-site fetch. With
 * an acknowledgement that has not run out, CERTCTL_PUBLIC_URL's host and origin will do too.
 */
export function demoActor(ctx: Pick<Context, "clock" | "log" | "settings">, request: Request): Actor {
  if (!warned) ctx.log.warn("demo_mode", { auth_type: "none", warning: "whoever gets through is an administrator" });
  warned = true;
  const { settings } = ctx;
  const acknowledged = demoAcknowledged(settings.auth, ctx.clock.now().getTime());
  const url = new URL(request.url);
  const sent = request.headers.get("Host");
  const open = acknowledged ? URL.parse(settings.publicUrl) : null;
  if (isOnCloudflare(settings, request) && !acknowledged)
    throw refused("it answers on Cloudflare's network only while CERTCTL_DEMO_MODE_ACK holds (a day at most)");
  if ((sent !== null && sent.toLowerCase() !== url.host) || (!isLoopback(url.hostname) && url.host !== open?.host))
    throw refused(
      acknowledged
        ? "the Host must be a loopback name or CERTCTL_PUBLIC_URL's"
        : "the Host must be localhost, 127.0.0.0/8 or [::1]; another one needs CERTCTL_DEMO_MODE_ACK",
    );
  const origin = request.headers.get("Origin");
  if (origin !== null && !isLoopback(URL.parse(origin)?.hostname ?? "") && origin !== open?.origin)
    throw refused("the Origin must be a loopback one");
  if (request.headers.get("Sec-Fetch-Site") === "cross-site") throw refused("the request comes from another site");
  return DEMO_ACTOR;
}

function refused(why: string) {
  return forbidden(
    `CERTCTL_AUTH_TYPE=none, the demo mode, makes everybody an administrator: ${why}`,
    "demo_mode_refused",
  );
}
