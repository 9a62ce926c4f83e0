import { isOnCloudflare } from "../platform/caller.ts";
import type { Actor, Context } from "../platform/context.ts";
import { demoAcknowledged, isLoopback } from "../platform/demo.ts";
import { forbidden } from "../platform/errors.ts";
import { TENANT } from "./grants.ts";
import { BUILTIN_PERMISSIONS } from "./permissions.ts";

/** The actor of every demo mode request: an anonymous administrator. Grants do not affect it. */
export const DEMO_ACTOR: Actor = {
  id: "actor-demo-anon",
  type: "Anonymous",
  tenant_id: TENANT,
  roles: ["r-admin"],
  permissions: BUILTIN_PERMISSIONS.get("r-admin") ?? [],
};

/** Limits the warning to one per isolate. */
let warned = false;

/**
 * The actor of a demo mode request without a credential. Throws 403 `demo_mode_refused` for requests that may come from
 * another machine (Cloudflare, a proxy, a non-loopback address) and for requests that another site's page may have
 * caused: a non-loopback Host (DNS rebinding), a foreign Origin, a cross-site fetch, or a change from another port of
 * this machine. While an acknowledgement is valid, the host and origin of CERTCTL_PUBLIC_URL are accepted too.
 */
export function demoActor(ctx: Pick<Context, "clock" | "log" | "settings">, request: Request): Actor {
  if (!warned) ctx.log.warn("demo_mode", { auth_type: "none", warning: "whoever gets through is an administrator" });
  warned = true;
  const { settings } = ctx;
  const acknowledged = demoAcknowledged(settings.auth, ctx.clock.now().getTime());
  const url = new URL(request.url);
  const sent = request.headers.get("Host");
  const open = acknowledged ? URL.parse(settings.publicUrl) : null;
  // The client chooses the Host header, so checking it stops browsers but not other clients on the network.
  const reach = acknowledged ? null : beyondThisMachine(settings, request);
  if (reach !== null) throw refused(`${reach} only while CERTCTL_DEMO_MODE_ACK holds (a day at most)`);
  // A proxy may build the URL from something other than Host. If they differ, trust neither.
  const sameHost = sent === null || URL.parse(`${url.protocol}//${sent}`)?.host === url.host;
  if (!sameHost || (!isLoopback(url.hostname) && url.host !== open?.host))
    throw refused(
      acknowledged
        ? "the Host must be a loopback name or CERTCTL_PUBLIC_URL's"
        : "the Host must be localhost, 127.0.0.0/8 or [::1]; another one needs CERTCTL_DEMO_MODE_ACK",
    );
  const origin = request.headers.get("Origin");
  if (origin !== null && !isLoopback(URL.parse(origin)?.hostname ?? "") && origin !== open?.origin)
    throw refused("the Origin must be a loopback one");
  const site = request.headers.get("Sec-Fetch-Site");
  if (site === "cross-site") throw refused("the request comes from another site");
  // Reads from another loopback port are harmless, since CORS hides the answer. A POST without a body takes effect
  // without its answer being read.
  if (!SAFE_METHODS.has(request.method)) {
    if (origin !== null && URL.parse(origin)?.host !== url.host && origin !== open?.origin)
      throw refused("the Origin of a change must be the very host that it goes to");
    if (site === "same-site") throw refused("the change comes from another host or port");
  }
  return DEMO_ACTOR;
}

const SAFE_METHODS: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS"]);

const PROXY_HEADERS = ["X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Forwarded", "Via"];

/** Why the request may come from another machine; null if it cannot. */
function beyondThisMachine(settings: Context["settings"], request: Request): string | null {
  if (isOnCloudflare(settings, request)) return "it answers on Cloudflare's network";
  if (settings.local === "network") return "it answers on addresses that are no loopback ones";
  return PROXY_HEADERS.some((name) => request.headers.has(name)) ? "it answers behind a proxy" : null;
}

function refused(why: string) {
  return forbidden(
    `CERTCTL_AUTH_TYPE=none, the demo mode, makes everybody an administrator: ${why}`,
    "demo_mode_refused",
  );
}
