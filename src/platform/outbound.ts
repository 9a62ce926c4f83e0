import ipaddr from "ipaddr.js";
import { AppError, invalid } from "./errors.ts";
import type { IpRange, Settings } from "./settings.ts";
import { readUpTo } from "./text.ts";

/**
 * Requests to URLs configured by callers (webhooks, upstream CAs, identity providers). Reserved, loopback, link-local,
 * private and metadata addresses are refused unless OUTBOUND_ALLOW contains them (invariant 9). Address literals and
 * local names are checked here; the address a name resolves to is checked at connect time, by the start script's
 * outbound handler in local mode and by the platform on Cloudflare.
 */
export interface OutboundOptions {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array<ArrayBuffer>;
  /** Milliseconds for the whole exchange, including redirects and the body. */
  readonly timeoutMs?: number;
  /** Maximum bytes of the response body; more is an error. */
  readonly maxBytes?: number;
  readonly maxRedirects?: number;
}

export interface OutboundAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Uint8Array<ArrayBuffer>;
}

/** A metadata address in public address space. */
const AZURE_WIRE_SERVER = "168.63.129.16";

const DEFAULTS = { timeoutMs: 10_000, maxBytes: 1024 * 1024, maxRedirects: 3 };

/** Fetches `url` under the rules above. Throws AppError: 400 for a refused address, 502 for an upstream failure. */
export async function outboundFetch(
  settings: Settings,
  url: string,
  options: OutboundOptions = {},
  fetcher: typeof fetch = fetch,
): Promise<OutboundAnswer> {
  const { timeoutMs, maxBytes, maxRedirects } = { ...DEFAULTS, ...options };
  const signal = AbortSignal.timeout(timeoutMs);
  let target = checkOutboundUrl(url, settings.outboundAllow);
  for (let hop = 0; ; hop++) {
    const response = await send(fetcher, target, options, signal, hop > 0);
    const location = response.headers.get("Location");
    if (response.status >= 300 && response.status < 400 && location !== null) {
      await response.body?.cancel();
      if (hop >= maxRedirects) throw upstreamError(tooManyRedirects(target.host, maxRedirects));
      target = checkOutboundUrl(new URL(location, target).href, settings.outboundAllow);
      continue;
    }
    return {
      status: response.status,
      headers: response.headers,
      body: await readBounded(response, maxBytes, target.host),
    };
  }
}

function tooManyRedirects(host: string, most: number): string {
  return most === 0
    ? `${host} answered with a redirect, which is not followed here`
    : `${host} redirects more than ${most} times`;
}

/** Follows a redirect with a bare GET: neither body nor credentials go to a host that the caller did not name. */
async function send(
  fetcher: typeof fetch,
  target: URL,
  options: OutboundOptions,
  signal: AbortSignal,
  redirected: boolean,
): Promise<Response> {
  const init: RequestInit = redirected
    ? { method: "GET", redirect: "manual", signal }
    : {
        method: options.method ?? "GET",
        redirect: "manual",
        signal,
        ...(options.headers ? { headers: { ...options.headers } } : {}),
        ...(options.body === undefined ? {} : { body: options.body }),
      };
  try {
    return await fetcher(target.href, init);
  } catch (cause) {
    throw upstreamError(`${target.host} did not answer`, cause);
  }
}

async function readBounded(response: Response, maxBytes: number, host: string): Promise<Uint8Array<ArrayBuffer>> {
  let body: Uint8Array<ArrayBuffer> | null;
  try {
    body = response.body ? await readUpTo(response.body, maxBytes) : new Uint8Array(0);
  } catch (cause) {
    throw upstreamError(`${host} broke off its answer`, cause);
  }
  if (body === null) throw upstreamError(`${host} answered more than ${maxBytes} bytes`);
  return body;
}

/** The parsed URL. Throws 400 if it must not be fetched. */
export function checkOutboundUrl(url: string, allow: readonly IpRange[]): URL {
  const parsed = URL.parse(url);
  if (!parsed || !/^https?:$/.test(parsed.protocol)) throw refused(url, "must be an http or https URL");
  if (parsed.username || parsed.password) throw refused(url, "must not carry credentials");
  const host = hostOf(parsed);
  if (ipaddr.isValid(host)) {
    if (!isAllowedAddress(host, allow))
      throw refused(url, `${host} is a reserved address; an operator can allow it in OUTBOUND_ALLOW`);
  } else if (isLocalName(host)) {
    if (!allow.some(([range]) => range.range() === "loopback" || range.range() === "private")) {
      throw refused(url, `${host} is a local name; an operator can allow its address in OUTBOUND_ALLOW`);
    }
  }
  return parsed;
}

/**
 * Like checkOutboundUrl, for URLs that credentials or trust depend on: https, or plain http to an address in
 * OUTBOUND_ALLOW. A name does not reveal its address, so plain http is allowed only for local names.
 */
export function checkSecureUrl(url: string, allow: readonly IpRange[]): URL {
  const parsed = checkOutboundUrl(url, allow);
  if (parsed.protocol === "https:") return parsed;
  const host = hostOf(parsed);
  const opened = ipaddr.isValid(host) ? isInRanges(embeddedIpv4(ipaddr.process(host)), allow) : isLocalName(host);
  if (!opened)
    throw refused(url, "must be https; plain http only to an address that the operator has in OUTBOUND_ALLOW");
  return parsed;
}

function hostOf(url: URL): string {
  return url.hostname
    .replace(/^\[|\]$/g, "")
    .replace(/\.$/, "")
    .toLowerCase();
}

function isLocalName(host: string): boolean {
  return host === "localhost" || /\.(?:localhost|local|internal|home\.arpa)$/.test(host) || !host.includes(".");
}

function isInRanges(address: ipaddr.IPv4 | ipaddr.IPv6, ranges: readonly IpRange[]): boolean {
  return ranges.some((range) => range[0].kind() === address.kind() && address.match([range[0], range[1]]));
}

/**
 * Whether an address is public unicast or inside an allowed range. IPv4-mapped, NAT64 and 6to4 addresses are judged by
 * the IPv4 address they embed.
 */
export function isAllowedAddress(text: string, allow: readonly IpRange[]): boolean {
  const address = embeddedIpv4(ipaddr.process(text));
  if (isInRanges(address, allow)) return true;
  return address.range() === "unicast" && address.toString() !== AZURE_WIRE_SERVER;
}

function embeddedIpv4(address: ipaddr.IPv4 | ipaddr.IPv6): ipaddr.IPv4 | ipaddr.IPv6 {
  if (!("isIPv4MappedAddress" in address)) return address;
  const bytes = address.toByteArray();
  if (address.range() === "rfc6052") return ipaddr.fromByteArray(bytes.slice(12)) as ipaddr.IPv4;
  if (address.range() === "6to4") return ipaddr.fromByteArray(bytes.slice(2, 6)) as ipaddr.IPv4;
  return address;
}

function refused(url: string, why: string): AppError {
  return invalid("url", `${JSON.stringify(url.slice(0, 200))} ${why}`, "outbound_refused");
}

function upstreamError(message: string, cause?: unknown): AppError {
  return new AppError(502, "upstream_failed", message, { cause });
}
