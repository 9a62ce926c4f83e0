import { promises as dns, type LookupAddress } from "node:dns";
import http from "node:http";
import https from "node:https";
import { Readable } from "node:stream";
import type { ReadableStream as NodeStream } from "node:stream/web";
import ipaddr from "ipaddr.js";
import { isAllowedAddress } from "../../src/platform/outbound.ts";
import type { IpRange } from "../../src/platform/settings.ts";

/** The part of a request used here: both Miniflare's and Node's fit. */
export interface OutboundRequest {
  readonly url: string;
  readonly method: string;
  readonly headers: Iterable<[string, string]>;
  readonly body: unknown;
}

export interface OutboundOptions {
  readonly allow: readonly IpRange[];
  /** Resolves every address of a name; by default the operating system's resolver. */
  readonly resolve?: (host: string) => Promise<readonly LookupAddress[]>;
  /** Limit for the whole exchange, body included. */
  readonly timeoutMs?: number;
  readonly maxRequestBytes?: number;
  readonly maxResponseBytes?: number;
}

/** The answer for the Worker. `body` is null for a status without a body. */
export interface OutboundAnswer {
  readonly status: number;
  readonly headers: [string, string][];
  readonly body: Readable | string | null;
}

class Refused extends Error {}

const MEBIBYTE = 1024 * 1024;
const DEFAULTS = { timeoutMs: 60_000, maxRequestBytes: 32 * MEBIBYTE, maxResponseBytes: 64 * MEBIBYTE };

/** Headers of a single connection (RFC 9110 section 7.6.1), or added by the runtime on the way out. */
const DROPPED =
  /^(?:connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|expect|host|content-length|cf-.*|mf-.*|x-miniflare-.*)$/i;

/**
 * Makes the handler of every request that leaves the Worker in local mode (invariant 9). A name is resolved once; each
 * of its addresses must be public or inside `allow`, and the connection goes only to a checked address, so DNS
 * rebinding between check and use has no effect. Redirects are returned, never followed. Only fetches pass through
 * here, not sockets: a caller of `connect()` must connect to an address that it has checked itself. A refusal is a 403
 * with `x-certctl-outbound: refused`; a failed target is a 502 with `failed`.
 */
export function makeOutbound(options: OutboundOptions): (request: OutboundRequest) => Promise<OutboundAnswer> {
  const limits = { ...DEFAULTS, ...options };
  const resolve = options.resolve ?? ((host: string) => dns.lookup(host, { all: true, verbatim: true }));
  return async (request) => {
    try {
      const url = new URL(request.url);
      if (!/^https?:$/.test(url.protocol)) throw new Refused(`${url.protocol} is not http or https`);
      if ([...request.headers].some(([name]) => name.toLowerCase() === "upgrade")) {
        throw new Refused("no upgrade of the connection goes out");
      }
      const addresses = await checkedAddresses(url, options.allow, resolve);
      const signal = AbortSignal.timeout(limits.timeoutMs);
      const body = await bodyOf(request, limits.maxRequestBytes, url.host, signal);
      return await exchange(url, request, body, addresses, limits, signal);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      if (error instanceof Refused) return ownAnswer(403, "refused", "outbound_refused", why);
      return ownAnswer(502, "failed", "outbound_failed", why);
    }
  };
}

async function checkedAddresses(
  url: URL,
  allow: readonly IpRange[],
  resolve: (host: string) => Promise<readonly LookupAddress[]>,
): Promise<readonly LookupAddress[]> {
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const literal = ipaddr.isValid(host);
  const addresses = literal ? [{ address: host, family: host.includes(":") ? 6 : 4 }] : await resolve(host);
  if (addresses.length === 0) throw new Error(`${host} has no address`);
  for (const { address } of addresses) {
    if (ipaddr.isValid(address) && isAllowedAddress(address, allow)) continue;
    const what = literal ? address : `${host} resolves to ${address}, which`;
    throw new Refused(`${what} is a reserved address; an operator can allow it in OUTBOUND_ALLOW`);
  }
  return addresses;
}

/** Reads the whole body to send its length, because some servers reject chunked requests (Entra ID answers 404). */
async function bodyOf(
  { body }: OutboundRequest,
  maxBytes: number,
  host: string,
  signal: AbortSignal,
): Promise<Buffer | null> {
  if (body === null || body === undefined) return null;
  const chunks: Uint8Array[] = [];
  const source = Readable.fromWeb(body as NodeStream, { signal });
  for await (const chunk of bounded(source, maxBytes, host)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function exchange(
  url: URL,
  request: OutboundRequest,
  body: Buffer | null,
  addresses: readonly LookupAddress[],
  limits: typeof DEFAULTS,
  signal: AbortSignal,
): Promise<OutboundAnswer> {
  const headers: Record<string, string | string[]> = {};
  for (const [name, value] of request.headers) {
    if (DROPPED.test(name)) continue;
    const before = headers[name];
    headers[name] = before === undefined ? value : [before, value].flat();
  }
  if (body !== null) headers["Content-Length"] = String(body.length);
  const client = url.protocol === "https:" ? https : http;
  return new Promise((resolve, reject) => {
    const outgoing = client.request(url, {
      method: request.method,
      headers,
      signal,
      agent: false,
      // Returns only checked addresses. Called for names only; an address literal was checked itself.
      lookup: (_host, lookup, callback) => {
        const [first] = addresses;
        if (lookup.all || !first) callback(null, [...addresses]);
        else callback(null, first.address, first.family);
      },
    });
    outgoing.on("response", (incoming) => {
      const status = incoming.statusCode ?? 502;
      const bodyless = status === 204 || status === 205 || status === 304 || request.method === "HEAD";
      if (bodyless) incoming.resume();
      const answered = bodyless
        ? null
        : Readable.from(bounded(incoming, limits.maxResponseBytes, url.host), { objectMode: false });
      resolve({ status, headers: headerPairs(incoming.rawHeaders), body: answered });
    });
    outgoing.on("error", (cause) => {
      const why = signal.aborted ? `no answer within ${limits.timeoutMs} ms` : cause.message;
      reject(cause instanceof Refused ? cause : new Error(`${url.host}: ${why}`, { cause }));
    });
    outgoing.end(body ?? undefined);
  });
}

async function* bounded(source: AsyncIterable<Uint8Array>, maxBytes: number, host: string): AsyncGenerator<Uint8Array> {
  let total = 0;
  for await (const chunk of source) {
    total += chunk.length;
    if (total > maxBytes) throw new Error(`more than ${maxBytes} bytes to or from ${host}`);
    yield chunk;
  }
}

function headerPairs(raw: readonly string[]): [string, string][] {
  const pairs: [string, string][] = [];
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = raw[at] ?? "";
    if (!/^(?:connection|keep-alive|transfer-encoding|x-certctl-outbound)$/i.test(name))
      pairs.push([name, raw[at + 1] ?? ""]);
  }
  return pairs;
}

function ownAnswer(status: number, mark: string, error: string, message: string): OutboundAnswer {
  const headers: [string, string][] = [
    ["content-type", "application/json"],
    ["x-certctl-outbound", mark],
  ];
  return { status, headers, body: JSON.stringify({ error, message }) };
}
