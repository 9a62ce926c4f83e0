import ipaddr from "ipaddr.js";
import { type Caller, NO_CALLER } from "./context.ts";
import type { Settings } from "./settings.ts";
import { constantTimeEqual } from "./text.ts";

/** Header in which a trusted proxy sends TRUSTED_PROXY_SECRET along with X-Forwarded-For. */
export const PROXY_SECRET_HEADER = "X-Trusted-Proxy-Secret";

/** How a request arrived. */
export interface Arrival {
  readonly caller: Caller;
  /** Whether the request came over https, to this Worker or to an authenticated proxy. */
  readonly secure: boolean;
}

/**
 * Address, User-Agent and scheme of a request, before authentication (wire.md "Settings").
 * On Cloudflare the address is CF-Connecting-IP: Cloudflare sets that header and `request.cf` itself. On a single
 * machine (`settings.local`; `wrangler dev` fakes `request.cf` there) the client controls every header, so the address
 * is `local`, unless a proxy authenticates with TRUSTED_PROXY_SECRET: then it is the last entry of X-Forwarded-For, the
 * one added by that proxy.
 */
export function arrivalOf(settings: Settings, request: Request): Arrival {
  const { headers } = request;
  const user_agent = (headers.get("User-Agent") ?? "").slice(0, 255);
  const secure = request.url.startsWith("https:");
  const from = (address: string | null) => ({ address: canonical(address), user_agent, session_id: null });
  if (isOnCloudflare(settings, request)) return { caller: from(headers.get("CF-Connecting-IP")), secure };
  if (!isTrustedProxy(settings, headers.get(PROXY_SECRET_HEADER))) return { caller: from(null), secure };
  return {
    caller: from(lastOf(headers.get("X-Forwarded-For"))),
    secure: secure || lastOf(headers.get("X-Forwarded-Proto"))?.toLowerCase() === "https",
  };
}

/** Whether the request came through Cloudflare's network, so that Cloudflare's own headers can be trusted. */
export function isOnCloudflare(settings: Pick<Settings, "local">, request: Request): boolean {
  return settings.local === null && request.cf !== undefined;
}

function isTrustedProxy(settings: Settings, shown: string | null): boolean {
  if (shown === null || settings.trustedProxySecret === null) return false;
  return constantTimeEqual(shown, settings.trustedProxySecret);
}

/** The entry added by the nearest proxy. */
function lastOf(list: string | null): string | null {
  return list?.split(",").at(-1)?.trim() ?? null;
}

/** Forms that some proxies write: `198.51.100.4:50112`, `[2001:db8::1]:50112`, `[2001:db8::1]`. */
const WITH_PORT = /^(?:([0-9.]+):[0-9]+|\[([^\]]+)\](?::[0-9]+)?)$/;

/** One spelling per address, without zone or port; `local` for anything that is not an address. */
function canonical(text: string | null): string {
  if (text === null) return NO_CALLER.address;
  const [, ipv4, ipv6] = WITH_PORT.exec(text) ?? [];
  const address = ipv4 ?? ipv6 ?? text;
  if (!ipaddr.isValid(address)) return NO_CALLER.address;
  return ipaddr.fromByteArray(ipaddr.process(address).toByteArray()).toString();
}

/**
 * The key for rate limits: an IPv4 address, or the /64 of an IPv6 address. Null for `local`, where callers cannot be
 * told apart.
 */
export function addressKey(address: string): string | null {
  if (address === NO_CALLER.address || !ipaddr.isValid(address)) return null;
  if (ipaddr.IPv4.isValid(address)) return address;
  return `${ipaddr.IPv6.networkAddressFromCIDR(`${address}/64`)}/64`;
}
