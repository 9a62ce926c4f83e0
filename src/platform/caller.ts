import ipaddr from "ipaddr.js";
import { type Caller, NO_CALLER } from "./context.ts";
import type { Settings } from "./settings.ts";
import { constantTimeEqual } from "./text.ts";

/** The header in which a trusted proxy sends TRUSTED_PROXY_SECRET along with X-Forwarded-For. */
export const PROXY_SECRET_HEADER = "X-Trusted-Proxy-Secret";

/** How a request came in. */
export interface Arrival {
  readonly caller: Caller;
  /** Over https, as far as can be known: to this Worker, or to a proxy that has proven itself. */
  readonly secure: boolean;
}

/**
 * What is known of who sent a request, before anybody is authenticated. The caller's address (wire.md "Settings") is
 * CF-Connecting-IP on Cloudflare, which sets `request.cf` and that header itself. On one machine (`settings.local`; there
 * `wrangler dev` sets a made-up `request.cf`) every header is the client's own and the address is `local`, unless a proxy proves
 * itself by TRUSTED_PROXY_SECRET: then it is the last entry of X-Forwarded-For, the one that this proxy added.
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

/** Whether Cloudflare's network hands over the request: then its own headers are true. */
export function isOnCloudflare(settings: Pick<Settings, "local">, request: Request): boolean {
  return settings.local === null && request.cf !== undefined;
}

function isTrustedProxy(settings: Settings, shown: string | null): boolean {
  if (shown === null || settings.trustedProxySecret === null) return false;
  return constantTimeEqual(shown, settings.trustedProxySecret);
}

/** The entry that the nearest proxy added. */
function lastOf(list: string | null): string | null {
  return list?.split(",").at(-1)?.trim() ?? null;
}

/** What some proxies write: `198.51.100.4:50112`, `[2001:db8::1]:50112`, `[2001:db8::1]`. */
const WITH_PORT = /^(?:([0-9.]+):[0-9]+|\[([^\]]+)\](?::[0-9]+)?)$/;

/** One spelling for each address, without a zone or port; `local` for what is none. */
function canonical(text: string | null): string {
  if (text === null) return NO_CALLER.address;
  const [, ipv4, ipv6] = WITH_PORT.exec(text) ?? [];
  const address = ipv4 ?? ipv6 ?? text;
  if (!ipaddr.isValid(address)) return NO_CALLER.address;
  return ipaddr.fromByteArray(ipaddr.process(address).toByteArray()).toString();
}

/** What a limit counts: an IPv4 address, or the /64 that one IPv6 customer has. Null for `local`: nobody can tell callers apart. */
export function addressKey(address: string): string | null {
  if (address === NO_CALLER.address || !ipaddr.isValid(address)) return null;
  if (ipaddr.IPv4.isValid(address)) return address;
  return `${ipaddr.IPv6.networkAddressFromCIDR(`${address}/64`)}/64`;
}
