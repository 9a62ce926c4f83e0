import { equal } from "../../src/pki/bytes.ts";
import { parseCertificate, verifyIssued } from "../../src/pki/certificate.ts";
import { parseCrl } from "../../src/pki/crl.ts";
import { children, decode } from "../../src/pki/der.ts";
import { verify } from "../../src/pki/keys.ts";
import { parseOcspResponse } from "../../src/pki/ocsp.ts";
import type { HttpAnswer } from "../support/connection.ts";
import { type Ca, REASON, type World } from "./world.ts";

/** What an OCSP answer must say. */
export interface Expected {
  readonly ca: Ca;
  readonly serial: string;
  /** The CertID as it was asked; null where a serial was asked alone. */
  readonly certId: Uint8Array<ArrayBuffer> | null;
  readonly nonce: Uint8Array<ArrayBuffer> | null;
  /** Any of these is right. */
  readonly statuses: readonly string[];
}

const OCSP_SIGNING = "OCSPSigning";
const CLOCK_SKEW_MS = 5_000;

function must(right: boolean, what: string): void {
  if (!right) throw new Error(what);
}

function mustBe(answer: HttpAnswer, status: number, type: string): Uint8Array<ArrayBuffer> {
  must(answer.status === status, `status ${answer.status}, not ${status}: ${shown(answer)}`);
  must(header(answer, "content-type") === type, `Content-Type ${header(answer, "content-type")}, not ${type}`);
  return new Uint8Array(answer.body);
}

function header({ head }: HttpAnswer, name: string): string | null {
  return new RegExp(`\\r\\n${name}: *([^\\r]*)`, "i").exec(head)?.[1] ?? null;
}

function shown({ body }: HttpAnswer): string {
  return body.subarray(0, 300).toString("latin1");
}

/** Looks at a signed OCSP answer and tells its status. Throws for what is wrong with it. */
export async function judgeOcsp(answer: HttpAnswer, expected: Expected): Promise<string> {
  const { status, basic } = parseOcspResponse(mustBe(answer, 200, "application/ocsp-response"));
  if (basic === null) throw new Error(`OCSP ${status}`);
  const [single, ...more] = basic.responses;
  if (!single || more.length > 0) throw new Error(`${basic.responses.length} single responses`);
  const { ca, serial, certId, nonce, statuses } = expected;
  must(single.certId.serial === serial, `about serial ${single.certId.serial}, not ${serial}`);
  const hashes = ca.hashes[single.certId.hash];
  must(equal(single.certId.issuerKeyHash, hashes.key), `about a certificate of another CA than ${ca.id}`);
  must(equal(single.certId.issuerNameHash, hashes.name), `about a CA of another name than ${ca.id}`);
  must(certId === null || equal(single.certId.der, certId), "the CertID is not the one that was asked about");
  must(nonce === null ? basic.nonce === null : basic.nonce !== null && equal(basic.nonce, nonce), "another nonce");
  const now = Date.now();
  must(single.thisUpdate.getTime() <= now + CLOCK_SKEW_MS, "thisUpdate lies in the future");
  must(single.nextUpdate !== null && single.nextUpdate.getTime() > now, "nextUpdate has passed");
  const [embedded] = basic.certificates;
  if (!embedded) throw new Error("no certificate of the responder");
  const responder = parseCertificate(embedded);
  must(await isResponderOf(responder.der, ca), `the responder is not one of ${ca.id}`);
  must(
    await verify(responder.publicKey, basic.algorithmIdentifier, basic.signature, basic.tbs),
    "the signature does not hold",
  );
  must(statuses.includes(single.status.type), `${single.status.type}, not ${statuses.join(" or ")}`);
  if (single.status.type === "revoked") must(single.status.reason === REASON.number, `reason ${single.status.reason}`);
  return single.status.type;
}

/** Responders by the hex of their certificate and the CA: few, and asked about all the time. */
const responders = new Map<string, boolean>();

async function isResponderOf(der: Uint8Array<ArrayBuffer>, ca: Ca): Promise<boolean> {
  const key = `${ca.id} ${Buffer.from(der).toString("base64")}`;
  const known = responders.get(key);
  if (known !== undefined) return known;
  const certificate = parseCertificate(der);
  const may = certificate.extendedKeyUsage?.includes(OCSP_SIGNING) ?? false;
  const is = may && (await verifyIssued(certificate, ca.certificate));
  responders.set(key, is);
  return is;
}

/** An OCSP error in its own form (RFC 6960 section 4.2.1). */
export function judgeOcspError(answer: HttpAnswer, wanted: string): void {
  const { status } = parseOcspResponse(mustBe(answer, 200, "application/ocsp-response"));
  must(status === wanted, `OCSP ${status}, not ${wanted}`);
}

/** What a list says. */
interface List {
  readonly number: bigint;
  readonly serials: ReadonlySet<string>;
}

/**
 * A list is the CA's own, signed, in time, never older than one that was seen before it was asked for, and names what was
 * revoked and nothing else.
 */
export async function judgeCrl(answer: HttpAnswer, world: World, ca: Ca, atLeast: bigint): Promise<List> {
  const der = mustBe(answer, 200, "application/pkix-crl");
  const list = parseCrl(der);
  must(equal(list.issuer, ca.certificate.subject.der), "the list of another CA");
  const tbs = tbsOf(der);
  must(
    await verify(ca.certificate.publicKey, list.algorithmIdentifier, list.signature, tbs),
    "the list's signature does not hold",
  );
  must(list.nextUpdate.getTime() > Date.now(), "nextUpdate has passed");
  const { number } = list;
  if (number === null || number < atLeast) throw new Error(`list ${number} after ${atLeast}`);
  const all = [...world.leaves, ...world.lives];
  const revoked = new Set(all.filter((leaf) => leaf.ca === ca && leaf.truth !== "good").map(({ serial }) => serial));
  const serials = new Set(list.entries.map(({ serial }) => serial));
  for (const serial of serials) must(revoked.has(serial), `${serial} is on the list and was never revoked`);
  return { number, serials };
}

/** The signed part of SEQUENCE { tbs, algorithm, signature }. */
function tbsOf(der: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const [signed] = children(decode(der));
  if (!signed) throw new Error("not a list");
  return signed.bytes;
}

/** The JSON of an answer, which is an object. */
export function judgeJson(answer: HttpAnswer, status: number): Record<string, unknown> {
  const text = Buffer.from(mustBe(answer, status, "application/json")).toString();
  const body: unknown = JSON.parse(text);
  must(typeof body === "object" && body !== null && !Array.isArray(body), "no JSON object");
  return body as Record<string, unknown>;
}

/** The one error envelope, with the code. */
export function judgeError(answer: HttpAnswer, status: number, code: string): void {
  const { error, message, request_id, ...more } = judgeJson(answer, status);
  must(error === code, `error ${error}, not ${code}`);
  must(typeof message === "string" && message !== "" && typeof request_id === "string", "an envelope without words");
  must(Object.keys(more).length === 0, `an envelope with ${Object.keys(more).join(", ")}`);
}

/** A page of a list: as many rows as it may have, each with an id, and a total that covers them. */
export function judgePage(answer: HttpAnswer, page: number, perPage: number, least: number): void {
  const body = judgeJson(answer, 200);
  const { data, total } = body;
  if (!Array.isArray(data) || typeof total !== "number") throw new Error(`no page: ${shown(answer)}`);
  must(body.page === page && body.per_page === perPage, `page ${body.page} of ${body.per_page}`);
  must(total >= least, `a total of ${total}, not ${least}`);
  must(
    data.length <= perPage && data.length >= Math.min(perPage, Math.max(0, least - (page - 1) * perPage)),
    `${data.length} rows`,
  );
  const ids = new Set(data.map((row: { id?: unknown }) => row.id));
  must(ids.size === data.length && !ids.has(undefined), "rows without an id, or one twice");
}

export function judgeDer(answer: HttpAnswer, type: string, der: Uint8Array): void {
  must(equal(mustBe(answer, 200, type), der), "other octets than before");
}
