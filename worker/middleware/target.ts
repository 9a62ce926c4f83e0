import { type AppError, invalid } from "../../src/platform/errors.ts";

/** RFC 3986 section 3.2 without userinfo: host and optional port. */
const AUTHORITY = /^(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::[0-9]{1,5})?$/;

/** The path of a URL exactly as sent, without the query. */
export function rawPath(url: string): string {
  const start = url.indexOf("/", url.indexOf("://") + 3);
  const end = url.indexOf("?", start);
  return start < 0 ? "/" : url.slice(start, end < 0 ? undefined : end);
}

/**
 * The URL of a request. With `asSent`, as under `npm start`, `request.url` is the request target as the client sent it,
 * and the URL is built here from a Host that cannot contain part of a path (RFC 9112 section 3.2). Otherwise the
 * runtime has built it. Throws 400 `invalid_host` or `invalid_request_target`.
 */
export function targetUrl(request: Request, asSent: boolean): string {
  const host = request.headers.get("Host");
  if (asSent || host !== null) checkHost(host ?? "");
  if (!asSent) return request.url;
  if (!request.url.startsWith("/")) throw badTarget("must be a path that begins with a slash; this server is no proxy");
  return `http://${host}${request.url}`;
}

/** Paths that a URL parser leaves unchanged. */
const PLAIN_PATH = /^(?:\/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*\/?$/;

/**
 * The request with `url` as its URL. Throws 400 for a path that a URL parser rewrites (`/a/../b`, `/a\\b`): it would
 * bypass a proxy that filters the path as sent.
 */
export function withUrl(url: string, request: Request): Request {
  if (url === request.url) return request;
  const made = new Request(url, request);
  const path = rawPath(url);
  if (!PLAIN_PATH.test(path) && rawPath(made.url) !== path)
    throw badTarget("must have no dot segments, and escapes for what is no part of a URL");
  return made;
}

function badTarget(message: string): AppError {
  return invalid("request target", message, "invalid_request_target");
}

/** Valid hosts, of which there are few; emptied when full. */
const known = new Set<string>();
const MAX_KNOWN = 64;

function checkHost(host: string): void {
  if (known.has(host)) return;
  const lower = host.toLowerCase();
  const name = AUTHORITY.exec(lower)?.[1];
  const parsed = name === undefined ? null : URL.parse(`http://${lower}/`)?.hostname;
  // URL parsers read `127.1` and `0x7f.1` as other addresses. IPv6 has more than one valid spelling.
  if (!parsed || (parsed !== name && !parsed.startsWith("["))) throw badHost();
  if (known.size >= MAX_KNOWN) known.clear();
  known.add(host);
}

function badHost(): AppError {
  return invalid("Host", "must be a name or an address, and a port where it is not the usual one", "invalid_host");
}
