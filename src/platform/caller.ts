import ipaddr from "ipaddr.js";
import { type Caller, NO_CALLER } from "./context.ts";
import type { Settings } from "./settings.ts";
import { constantTimeEqual } from "./text.ts";

/** The header in which a trusted proxy sends TRUSTED_PROXY_SECRET along with X-Forwarded-For. */
export const PROXY_SECRET_HEADER = "X-Trusted-Proxy-Secret";

/** What is known of who sent a request, before anybody is authenticated. */
export async function callerOf(settings: Settings, request: Request): Promise<Caller> {
  return {
    address: await addressOf(settings, request),
    user_agent: (request.headers.get("User-Agent") ?? "").slice(0, 255),
    session_id: null,
  };
}

/**
 * The caller's address (wire.md "Settings"): CF-Connecting-IP on Cloudflare, which sets `request.cf`. Elsewhere every header
 * is the client's own and the address is `local`, unless a proxy proves itself by TRUSTED_PROXY_SECRET: then it is the last
 * entry of X-Forwarded-For, the one that this proxy added.
 */
async function addressOf(settings: Settings, request: Request): Promise<string> {
  if (request.cf !== undefined) return canonical(request.headers.get("CF-Connecting-IP"));
  const shown = request.headers.get(PROXY_SECRET_HEADER);
  if (shown === null || settings.trustedProxySecret === null) return NO_CALLER.address;
  if (!(await constantTimeEqual(shown, settings.trustedProxySecret))) return NO_CALLER.address;
  return canonical(request.headers.get("X-Forwarded-For")?.split(",").at(-1)?.trim() ?? null);
}

/** One spelling for each address; `local` for what is none. */
function canonical(text: string | null): string {
  if (text === null || !ipaddr.isValid(text)) return NO_CALLER.address;
  return ipaddr.process(text).toString();
}

/** What a limit counts: an IPv4 address, or the /64 that one IPv6 customer has. Null for `local`: nobody can tell callers apart. */
export function addressKey(address: string): string | null {
  if (!ipaddr.isValid(address)) return null;
  if (ipaddr.IPv4.isValid(address)) return address;
  return `${ipaddr.IPv6.networkAddressFromCIDR(`${address}/64`)}/64`;
}
