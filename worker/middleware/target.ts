import { type AppError, invalid } from "../../src/platform/errors.ts";

/** RFC 3986 section 3.2 without userinfo: a name or an address, and perhaps a port. */
const AUTHORITY = /^(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::[0-9]{1,5})?$/;

/** The path of a URL as it was sent, without the query. */
export function rawPath(url: string): string {
  const start = url.indexOf("/", url.indexOf("://") + 3);
  const end = url.indexOf("?", start);
  return start < 0 ? "/" : url.slice(start, end < 0 ? undefined : end);
}

/**
 * The URL that a request asks for. `asSent` says that `request.url` is the request target as the client sent it, as under
 * `npm start`: there the URL is made here, of a Host that cannot hold a piece of a path (RFC 9112 section 3.2). Elsewhere it is
 * the runtime's. Throws 400 `invalid_host` and `invalid_request_target`.
 */
export function targetUrl(request: Request, asSent: boolean): string {
  const host = request.headers.get("Host");
  if (asSent || host !== null) checkHost(host ?? "");
  if (!asSent) return request.url;
  if (!request.url.startsWith("/")) throw badTarget("must be a path that begins with a slash; this server is no proxy");
  return `http://${host}${request.url}`;
}

/** A path that a URL parser leaves as it is. */
const PLAIN_PATH = /^(?:\/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*\/?$/;

/**
 * The request with its URL in place of the target. Throws 400 for a path that a URL parser makes another one of (`/a/../b`, `/a\\b`):
 * a front that looked at the path as it was sent would be walked around.
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

/** Hosts that were found right, which are few; emptied when full. */
const known = new Set<string>();
const MAX_KNOWN = 64;

function checkHost(host: string): void {
  if (known.has(host)) return;
  const lower = host.toLowerCase();
  const name = AUTHORITY.exec(lower)?.[1];
  const parsed = name === undefined ? null : URL.parse(`http://${lower}/`)?.hostname;
  // A parser reads `127.1` and `0x7f.1` as other addresses; IPv6 may be written in more than one way.
  if (!parsed || (parsed !== name && !parsed.startsWith("["))) throw badHost();
  if (known.size >= MAX_KNOWN) known.clear();
  known.add(host);
}

function badHost(): AppError {
  return invalid("Host", "must be a name or an address, and a port where it is not the usual one", "invalid_host");
}
