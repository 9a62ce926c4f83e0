import { type Bytes, digest, toHex } from "../../../pki/bytes.ts";
import {
  assembleOcspResponse,
  buildCertId,
  buildOcspTbs,
  type CertId,
  canonicalCertId,
  OcspError,
  type OcspErrorStatus,
  type OcspRequest,
  type OcspSingleResponse,
  ocspError,
  parseCertId,
} from "../../../pki/ocsp.ts";
import { isTemporary } from "../../../platform/errors.ts";
import { describeError } from "../../../platform/log.ts";
import { REVOCATION_REASONS, type SerialStatus } from "../../ledger.ts";
import { wholeSecond } from "../../ledger-places.ts";
import { AnswerMemory, type Asked, askedAt, type OcspAnswer } from "./answers.ts";
import type { PublicContext } from "./context.ts";
import { findByCertId, type PublicAuthority, type PublicCa, reloaded } from "./directory.ts";
import { NoResponder, responderOf } from "./responders.ts";
import { statusOf } from "./statuses.ts";

/** Validity of an answer, and how long a cache may keep it: the limit on how late a revocation shows there. */
const VALIDITY_MS = 3_600_000;
const MAX_AGE_SECONDS = 300;

/** Answers to single questions without a nonce, by CA and CertID, shared by GET and POST. */
const answers = new AnswerMemory();

/** A client's question. `read`: the status of its only serial if finding the CA already read it, else null. */
export interface Question {
  readonly request: OcspRequest;
  readonly read: { readonly status: SerialStatus; readonly asked: Asked } | null;
}

export const OCSP_TYPE = "application/ocsp-response";

/** For errors and answers to a single request: never cached (RFC 9919 section 6). */
const UNCACHED = { "Content-Type": OCSP_TYPE, "Cache-Control": "no-store, no-cache, max-age=0" };

/** The unsigned answer of an error status. */
export function errorAnswer(status: OcspErrorStatus): Response {
  return new Response(ocspError(status), { headers: UNCACHED });
}

/** The error status for the client; our own unexpected errors are logged. */
export function errorStatusOf(ctx: PublicContext, error: unknown): OcspErrorStatus {
  if (error instanceof OcspError) return error.status;
  if (error instanceof NoResponder) return "unauthorized";
  if (isTemporary(error)) return "tryLater";
  ctx.log.error("ocsp.failed", { error: describeError(error) });
  return "tryLater";
}

/** The key under which an answer may be repeated, or null if it must be signed for this request. */
export function repeatableKey(request: OcspRequest): string | null {
  const [only] = request.certIds;
  return request.nonce === null && request.certIds.length === 1 && only ? canonicalCertId(only) : null;
}

/** Answers a question. Throws OcspError or NoResponder. */
export async function answerOcsp(
  ctx: PublicContext,
  caId: string,
  authority: PublicAuthority,
  { request, read }: Question,
): Promise<OcspAnswer> {
  const certId = repeatableKey(request);
  const key = certId === null ? null : `${caId}/${certId}`;
  const repeated = key === null || read ? null : answers.recall(key, ctx.clock.now().getTime());
  if (repeated) return repeated;
  const cas = await Promise.all(request.certIds.map((id) => findByCertId(ctx, authority, caId, id)));
  const signing = cas.find((ca) => ca !== null);
  // None of the certificates is ours: no CA here could sign for them.
  if (!signing) throw new OcspError("no CertID names a CA of this responder", "unauthorized");
  const asked = read?.asked ?? askedAt(ctx.clock.now().getTime());
  const ask = ({ serial }: CertId, i: number) => (cas[i] ? statusOf(ctx, cas[i], serial) : "unknown");
  const statuses = read ? [read.status] : await Promise.all(request.certIds.map(ask));
  const answer = await sign(ctx, signing, request, statuses, { asked, repeatable: key !== null });
  if (key !== null) answers.keep(key, answer);
  return answer;
}

/** The question of a canonical CertID (hex of its DER). */
export function questionOfCertId(der: Bytes): Question {
  return { request: { certIds: [parseCertId(der)], nonce: null, bareNonce: false }, read: null };
}

/**
 * The question for a serial without issuer hashes (the contract's GET form): from the CA with that name, or from the
 * issuer's intermediate that issued it.
 */
export async function questionOfSerial(
  ctx: PublicContext,
  authority: PublicAuthority,
  caId: string,
  serial: string,
): Promise<Question> {
  const asked = askedAt(ctx.clock.now().getTime());
  const { ca, status } = await issuerOf(ctx, authority, caId, serial);
  const { name, key } = ca.hashes("sha1");
  return { ...questionOfCertId(buildCertId("sha1", name, key, serial)), read: { status, asked } };
}

interface Holder {
  readonly ca: PublicCa;
  readonly status: SerialStatus;
}

/** An unknown serial may belong to an intermediate that is newer than the loaded CAs of the issuer. */
async function issuerOf(ctx: PublicContext, authority: PublicAuthority, caId: string, serial: string): Promise<Holder> {
  const found = await holderOf(ctx, authority, serial);
  if (found) return found;
  const fresh = await reloaded(ctx, authority, caId);
  return (fresh && (await holderOf(ctx, fresh, serial))) ?? { ca: authority.own, status: "unknown" };
}

/** The CA whose ledger has the serial, trying the CA with that name first; null if none has. */
async function holderOf(ctx: PublicContext, { own, all }: PublicAuthority, serial: string): Promise<Holder | null> {
  const ask = async (ca: PublicCa): Promise<Holder> => ({ ca, status: await statusOf(ctx, ca, serial) });
  const first = await ask(own);
  if (first.status !== "unknown") return first;
  const others = await Promise.all(all.filter((other) => other !== own).map(ask));
  return others.find(({ status }) => status !== "unknown") ?? null;
}

/**
 * Signs the status at the time when the ledger was asked: thisUpdate, producedAt and Last-Modified are that second,
 * because RFC 9919 (sections 5 and 6.2) has one value for all three. Nothing is backdated: a cache would take a newer
 * answer for an older one.
 */
async function sign(
  ctx: PublicContext,
  ca: PublicCa,
  request: OcspRequest,
  statuses: readonly SerialStatus[],
  { asked, repeatable }: { asked: Asked; repeatable: boolean },
): Promise<OcspAnswer> {
  const { template, signer, notAfter } = await responderOf(ctx, ca.ledger_id);
  // An answer that shows a revocation cannot be older than the revocation.
  const revoked = statuses.map((status) => (typeof status === "object" ? Date.parse(status.revoked_at) : 0));
  const thisUpdate = wholeSecond(Math.max(asked.at, ...revoked));
  const nextUpdate = Math.min(thisUpdate + VALIDITY_MS, wholeSecond(notAfter));
  const [from, until] = [new Date(thisUpdate), new Date(nextUpdate)];
  const responses = request.certIds.map((id, i) => single(id, statuses[i] ?? "unknown", from, until));
  const { nonce, bareNonce } = request;
  const tbs = buildOcspTbs(template, { producedAt: from, responses, nonce, bareNonce });
  const body = assembleOcspResponse(template, tbs, await signer.sign(tbs));
  if (!repeatable) return { body, headers: UNCACHED, repeatable: null };
  const etag = `"${toHex(await digest("SHA-256", body))}"`;
  const tags = [`ledger-${ca.ledger_id}`, ...request.certIds.map((id) => ocspTag(ca.ledger_id, id.serial))];
  const headers = cacheHeaders({
    etag,
    now: ctx.clock.now().getTime(),
    lastModified: thisUpdate,
    nextUpdate,
    maxAge: MAX_AGE_SECONDS,
    tags,
    type: OCSP_TYPE,
  });
  return { body, headers, repeatable: { asked, etag } };
}

function single({ der: certId }: CertId, status: SerialStatus, thisUpdate: Date, nextUpdate: Date): OcspSingleResponse {
  if (typeof status === "string") return { certId, status: { type: status }, thisUpdate, nextUpdate };
  const reason = REVOCATION_REASONS[status.reason];
  return { certId, status: { type: "revoked", at: new Date(status.revoked_at), reason }, thisUpdate, nextUpdate };
}

/** The edge cache's tag of the answers about a certificate. */
export function ocspTag(ledgerId: string, serial: string): string {
  return `ocsp-${ledgerId}-${serial}`;
}

/**
 * Cache headers of a signed object (RFC 9919 section 6): a cache keeps it for less than its validity, then asks again.
 * `lastModified`: Unix milliseconds; null: no date distinguishes it from another answer.
 */
export function cacheHeaders(object: {
  etag: string;
  now: number;
  lastModified: number | null;
  nextUpdate: number;
  maxAge: number;
  tags: readonly string[];
  type: string;
}): Record<string, string> {
  const left = Math.max(0, Math.floor((object.nextUpdate - object.now) / 1000));
  return {
    "Content-Type": object.type,
    "Cache-Control": `max-age=${Math.min(object.maxAge, left)}, public, no-transform, must-revalidate`,
    ETag: object.etag,
    ...(object.lastModified === null ? {} : { "Last-Modified": new Date(object.lastModified).toUTCString() }),
    Expires: new Date(object.nextUpdate).toUTCString(),
    "Cache-Tag": object.tags.join(","),
  };
}
