import { type Bytes, digest, fromHex, toHex } from "../../../pki/bytes.ts";
import { decodeOcspPath, MAX_OCSP_REQUEST, type OcspRequest, parseOcspRequest } from "../../../pki/ocsp.ts";
import { normalSerial } from "../../../pki/serials.ts";
import { AppError, invalid, notFound, unavailable, unsupportedMediaType } from "../../../platform/errors.ts";
import { readBody } from "../../../platform/route.ts";
import { crlKey } from "../../ledger-places.ts";
import { AnswerMemory, type OcspAnswer } from "./answers.ts";
import type { PublicContext } from "./context.ts";
import { findAuthority, matching, type PublicAuthority } from "./directory.ts";
import { type List, readList } from "./lists.ts";
import {
  answerOcsp,
  cacheHeaders,
  errorAnswer,
  errorStatusOf,
  type Question,
  questionOfCertId,
  questionOfSerial,
  repeatableKey,
} from "./ocsp.ts";

export const PUBLIC_PKI_PREFIX = "/.well-known/pki/";

/** Passes a canonical GET to the cached entrypoint; null without an edge cache. */
export type Edge = ((canonicalPath: string) => Promise<Response>) | null;

const CRL_MAX_AGE_SECONDS = 300;
const CA_MAX_AGE_SECONDS = 3_600;
/** A path of the canonical form only: a CertID in hex is too long to be a serial. */
const CANONICAL = /^certid\/([0-9a-f]{50,2048})$/;

/** Answers by raw path, so that a repeated GET is not even parsed; kept no longer than the answers themselves. */
const byPath = new AnswerMemory();

/**
 * Answers relying parties (wire.md "Public PKI endpoints"). `path` is the raw pathname, neither decoded nor normalised,
 * and starts with PUBLIC_PKI_PREFIX. Throws AppError for errors that use the API's envelope.
 */
export async function answerPublicPki(
  ctx: PublicContext,
  request: Request,
  path: string,
  edge: Edge = null,
): Promise<Response> {
  const before = request.method === "GET" ? byPath.recall(path, ctx.clock.now().getTime()) : null;
  if (before) return respond(ctx, request, before);
  const [kind, rest] = split(path.slice(PUBLIC_PKI_PREFIX.length));
  const [caId, tail] = split(rest);
  switch (kind) {
    case "ocsp":
      return ocsp(ctx, request, { path, caId, tail, hasTail: /[^/]/.test(tail) }, edge);
    case "crl":
      allow(request, ["GET", "HEAD"]);
      return throughEdge(ctx, request, edge, path) ?? crl(ctx, request, caId, tail);
    case "ca":
      allow(request, ["GET", "HEAD"]);
      if (tail !== "") break;
      return throughEdge(ctx, request, edge, path) ?? caCertificate(ctx, request, caId);
  }
  throw new AppError(
    404,
    "not_found",
    `${path.slice(0, 200)} does not exist; there are ca/, crl/ and ocsp/ below ${PUBLIC_PKI_PREFIX}`,
  );
}

/** The first segment, and the rest after its slash. */
function split(path: string): [string, string] {
  const slash = path.indexOf("/");
  return slash < 0 ? [path, ""] : [path.slice(0, slash), path.slice(slash + 1)];
}

function allow(request: Request, methods: readonly string[]): void {
  if (methods.includes(request.method)) return;
  const Allow = methods.join(", ");
  throw new AppError(405, "method_not_allowed", `${request.method} is not a method of this path; it has ${Allow}`, {
    headers: { Allow },
  });
}

async function mustFind(ctx: PublicContext, caId: string): Promise<PublicAuthority> {
  const authority = /^[a-z0-9][a-z0-9._-]{0,63}$/.test(caId) ? await findAuthority(ctx, caId) : null;
  if (!authority) throw notFound("CA", caId.slice(0, 80));
  return authority;
}

// ------------------------------------------------------------------------------------------------------------------ OCSP

interface OcspPath {
  readonly path: string;
  readonly caId: string;
  readonly tail: string;
  readonly hasTail: boolean;
}

async function ocsp(ctx: PublicContext, request: Request, at: OcspPath, edge: Edge): Promise<Response> {
  allow(request, at.hasTail ? ["GET", "HEAD"] : ["POST"]);
  const authority = await mustFind(ctx, at.caId);
  try {
    const asked = at.hasTail ? await askedByPath(ctx, authority, at) : await askedByBody(request);
    const key = repeatableKey(asked.request);
    if (edge && key !== null) {
      const answer = await edge(`${PUBLIC_PKI_PREFIX}ocsp/${at.caId}/certid/${key}`);
      return conditional(ctx, request, answer, null);
    }
    const answer = await answerOcsp(ctx, at.caId, authority, asked);
    if (at.hasTail && at.path.length < 1024) byPath.keep(at.path, answer);
    return respond(ctx, request, answer);
  } catch (error) {
    if (error instanceof AppError && error.status < 500) throw error;
    return errorAnswer(errorStatusOf(ctx, error));
  }
}

/** The request in a GET's path: a serial in hex, or the base64 form (RFC 6960 appendix A.1). */
async function askedByPath(
  ctx: PublicContext,
  authority: PublicAuthority,
  { caId, tail }: Pick<OcspPath, "caId" | "tail">,
): Promise<Question> {
  const canonical = CANONICAL.exec(tail)?.[1];
  if (canonical !== undefined && canonical.length % 2 === 0) return questionOfCertId(fromHex(canonical));
  const text = tail.replace(/^(?:\/|%2[fF]|%0[aAdD])+/, "");
  const serial = /^([0-9a-fA-F]+)\/*$/.exec(text)?.[1];
  if (serial !== undefined) return questionOfSerial(ctx, authority, caId, serialOf(serial));
  if (!/^(?:M|%4[dD])/.test(text)) {
    throw invalid(
      "path",
      "must end in a serial number in hex or in the base64 form of an OCSP request",
      "invalid_ocsp_path",
    );
  }
  const ours = (request: OcspRequest) => request.certIds.some((id) => matching(authority, id) !== null);
  return { request: parseOcspRequest(decodeOcspPath(tail, ours)), read: null };
}

/** The serial in the ledger's form. */
function serialOf(text: string): string {
  const serial = normalSerial(text);
  if (serial === null) throw invalid("path", "a serial number has at most 40 hex digits", "invalid_ocsp_path");
  return serial;
}

async function askedByBody(request: Request): Promise<Question> {
  const type = request.headers.get("Content-Type");
  if (type !== null && !/^application\/ocsp-request\s*(?:;|$)/i.test(type)) {
    throw unsupportedMediaType("application/ocsp-request");
  }
  return { request: parseOcspRequest(await readBody(request, MAX_OCSP_REQUEST)), read: null };
}

/**
 * If-Modified-Since is ignored: two answers signed in the same second in different places may differ, and the date of a
 * fetch says nothing about an answer that a cache had kept until then.
 */
function respond(ctx: PublicContext, request: Request, answer: OcspAnswer): Response {
  if (answer.repeatable && notModified(ctx, request, answer.repeatable.etag, null)) {
    return new Response(null, { status: 304, headers: answer.headers });
  }
  return new Response(request.method === "HEAD" ? null : answer.body, { headers: answer.headers });
}

// ------------------------------------------------------------------------------------------------------- CRL, certificate

async function crl(ctx: PublicContext, request: Request, caId: string, tail: string): Promise<Response> {
  if (tail !== "" && !/^(?:[1-9][0-9]{0,2})$/.test(tail)) throw notFound("CRL shard", tail.slice(0, 80));
  const { own } = await mustFind(ctx, caId);
  const shard = tail === "" ? 0 : Number(tail);
  const key = crlKey(own.ledger_id, shard);
  const tags = [`ledger-${own.ledger_id}`, crlTag(own.ledger_id, shard)];
  // A request that may end without a body is first answered from metadata, without opening one.
  if (request.method === "HEAD" || isConditional(request)) {
    const list = await readList(ctx, key, true);
    if (list && notModified(ctx, request, list.etag, shownModified(ctx, list))) {
      return new Response(null, { status: 304, headers: listHeaders(ctx, list, tags) });
    }
    if (list && request.method === "HEAD") return new Response(null, { headers: listHeaders(ctx, list, tags) });
  }
  const list = await readList(ctx, key, false);
  if (list) return new Response(list.body, { headers: listHeaders(ctx, list, tags) });
  if (shard > 0) throw notFound("CRL shard", tail);
  throw unavailable("crl_not_published", "the first list of this CA is being made", 2);
}

function listHeaders(ctx: PublicContext, list: List, tags: readonly string[]): Record<string, string> {
  const now = ctx.clock.now().getTime();
  const headers = cacheHeaders({
    etag: list.etag,
    now,
    lastModified: shownModified(ctx, list),
    nextUpdate: list.nextUpdate ?? now,
    maxAge: CRL_MAX_AGE_SECONDS,
    tags,
    type: "application/pkix-crl",
  });
  headers["Content-Length"] = String(list.size);
  return headers;
}

/**
 * Last-Modified, or null until that second has passed: before that, a date cannot tell the list from its predecessor.
 */
function shownModified(ctx: PublicContext, { modified }: List): number | null {
  return modified <= ctx.clock.now().getTime() ? modified : null;
}

/** The edge cache's tag of a list. */
export function crlTag(ledgerId: string, shard: number): string {
  return `crl-${ledgerId}-${shard}`;
}

async function caCertificate(ctx: PublicContext, request: Request, caId: string): Promise<Response> {
  const { own } = await mustFind(ctx, caId);
  const etag = `"${toHex(await digest("SHA-256", own.certificate))}"`;
  const headers = {
    "Content-Type": "application/pkix-cert",
    "Cache-Control": `max-age=${CA_MAX_AGE_SECONDS}, public, no-transform, must-revalidate`,
    ETag: etag,
    "Cache-Tag": `ledger-${own.ledger_id}`,
  };
  if (notModified(ctx, request, etag, null)) return new Response(null, { status: 304, headers });
  return new Response(request.method === "HEAD" ? null : (own.certificate as Bytes), { headers });
}

// ------------------------------------------------------------------------------------------------------------ conditional

function throughEdge(ctx: PublicContext, request: Request, edge: Edge, path: string): Promise<Response> | null {
  if (!edge) return null;
  return edge(path).then((response) => {
    const modified = Date.parse(response.headers.get("Last-Modified") ?? "");
    return conditional(ctx, request, response, Number.isNaN(modified) ? null : modified);
  });
}

/** The cached entrypoint answers an unconditional GET; the client's conditions are evaluated here. */
async function conditional(
  ctx: PublicContext,
  request: Request,
  response: Response,
  lastModified: number | null,
): Promise<Response> {
  const etag = response.headers.get("ETag");
  if (response.status === 200 && etag && notModified(ctx, request, etag, lastModified)) {
    await response.body?.cancel();
    return new Response(null, { status: 304, headers: response.headers });
  }
  if (request.method !== "HEAD") return response;
  await response.body?.cancel();
  return new Response(null, response);
}

function isConditional(request: Request): boolean {
  return request.headers.has("If-None-Match") || request.headers.has("If-Modified-Since");
}

/**
 * RFC 9110 section 13: If-None-Match takes precedence; If-Modified-Since counts only without it. For GET and HEAD. A
 * date in the future comes from a wrong clock and is ignored. `lastModified` null: every date is ignored.
 */
function notModified(ctx: PublicContext, request: Request, etag: string, lastModified: number | null): boolean {
  if (request.method !== "GET" && request.method !== "HEAD") return false;
  const tags = request.headers.get("If-None-Match");
  if (tags !== null) {
    return tags
      .split(",")
      .map((tag) => tag.trim().replace(/^W\//, ""))
      .some((tag) => tag === "*" || tag === etag);
  }
  if (lastModified === null) return false;
  const since = Date.parse(request.headers.get("If-Modified-Since") ?? "");
  return lastModified <= since && since <= ctx.clock.now().getTime();
}
