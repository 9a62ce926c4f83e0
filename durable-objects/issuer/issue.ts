import type { IssueCaRequest, Issued, IssueRequest } from "../../src/authority/ledger.ts";
import { caUrls, wholeSecond } from "../../src/authority/ledger-places.ts";
import { type Bytes, digest, sha256Hex, toBase64, toHex, utf8 } from "../../src/pki/bytes.ts";
import {
  boundsOfSubordinate,
  buildSubordinateTbs,
  buildTbsCertificate,
  type Certificate,
  compileIssuerTemplate,
  endOfChain,
  type IssuerTemplate,
  parseCertificate,
  signTbs,
} from "../../src/pki/certificate.ts";
import { keyIdentifier, type PublicKeyInfo, parseSpki } from "../../src/pki/keys.ts";
import { lintTbs } from "../../src/pki/lint/throw-away.ts";
import { encodeName } from "../../src/pki/names.ts";
import { type Core, cached, caSigner, certifiedCa, commonTurn, nowOf, refuse, wakeAt } from "./core.ts";
import { addEntry, type EntryRow, issuedOf, nextSeq, SETTLE_AFTER_MS } from "./entries.ts";
import { currentShards, positionOf } from "./lists.ts";
import { newSerial } from "./serials.ts";
import { type CaRow, first } from "./storage.ts";

/**
 * Issuing. One synchronous step finds the request id or reserves a random serial with the exact octets to be signed;
 * only then is anything signed. So a request id has at most one certificate despite crashes and repeats: an unfinished
 * reservation is later signed unchanged.
 */

/** notBefore is this far in the past, for relying parties with a slow clock; at most a twelfth of the lifetime. */
export const BACKDATE_SECONDS = 300;

interface Asked {
  readonly request_id: string;
  readonly certificate_id: string;
  readonly spki: Bytes;
}

interface SubjectKey {
  readonly publicKey: PublicKeyInfo;
  readonly subjectKeyIdentifier: Bytes;
}

/** What is reserved for a request. */
interface Made {
  readonly kind: EntryRow["kind"];
  readonly serial: Bytes;
  readonly shard: number;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly tbs: Bytes;
}

export async function issueLeaf(core: Core, request: IssueRequest): Promise<Issued> {
  const subject = encodeName(request.subject);
  const key = await subjectKeyOf(request.spki);
  const asked = await identify(request, [subject, request.sans]);
  await commonTurn(core);
  return once(core, asked, request.settle, () => {
    const ca = activeCa(core);
    const serial = newSerial(core);
    const { template, shards } = leafTemplate(core, ca);
    const position = positionOf(core, serial);
    const own = { ...key, ...validityOf(core, ca, request.ttl_seconds, endOf(core)), serial, subject };
    const { sans, ekus, must_staple: mustStaple } = request;
    const tbs = buildTbsCertificate(template, { ...own, sans, ekus, mustStaple, shard: position });
    return { ...own, kind: "leaf", shard: shards[position] ?? 0, tbs };
  });
}

/** Issues the certificate of a CA below this one, within its path length, name constraints and lifetime. */
export async function issueCa(core: Core, request: IssueCaRequest): Promise<Issued> {
  const subject = encodeName(request.subject);
  const key = await subjectKeyOf(request.spki);
  const bounds = [subject, request.path_len, request.name_constraints, request.ocsp_urls];
  const asked = await identify(request, bounds);
  return once(core, asked, {}, () => {
    const ca = activeCa(core);
    const serial = newSerial(core);
    const { shard, url } = currentShards(core)[positionOf(core, serial)] ?? { shard: 0, url: "" };
    const urls = caUrls(core.publicUrl, ca.ca_id);
    const own = { ...key, ...validityOf(core, ca, request.ttl_seconds, endOf(core)), serial, subject };
    const tbs = buildSubordinateTbs({
      ...own,
      ...boundsOfSubordinate(ownChain(core), request.path_len, request.name_constraints),
      ...issuerOf(core, ca),
      crlUrls: [url],
      ocspUrls: [urls.ocsp, ...request.ocsp_urls],
      caIssuersUrls: [urls.caIssuers],
    });
    return { ...own, kind: "ca", shard, tbs };
  });
}

export async function subjectKeyOf(spki: Bytes): Promise<SubjectKey> {
  const publicKey = parseSpki(spki);
  return { publicKey, subjectKeyIdentifier: await keyIdentifier(publicKey) };
}

/** Distinguishes different requests under the same id. */
export async function identify(request: Asked, content: readonly unknown[]) {
  const { request_id, certificate_id, spki } = request;
  const plain = content.map((value) => (value instanceof Uint8Array ? toHex(value) : value));
  const text = JSON.stringify([certificate_id, toBase64(spki), ...plain]);
  const [spki_sha256, contentHash] = await Promise.all([sha256Hex(spki), digest("SHA-256", utf8(text))]);
  return { request_id, certificate_id, digest: toHex(contentHash), spki_sha256 };
}

type Identified = Awaited<ReturnType<typeof identify>>;

/**
 * The certificate of a request: existing, being signed, or newly made by `make`. No await before the reservation is
 * written.
 */
export function once(core: Core, asked: Identified, settle: object, make: () => Made): Promise<Issued> {
  const row = first<EntryRow>(core.sql, "select * from entries where request_id = ?", asked.request_id);
  // An entry taken back after a restore has no digest: its key identifies the request.
  const differs = row && (row.digest === "" ? row.spki_sha256 !== asked.spki_sha256 : row.digest !== asked.digest);
  if (differs) refuse("request_conflict", `request ${asked.request_id} was used for another key or other names`);
  const reserved = row ?? reserve(core, { ...asked, settle: JSON.stringify(settle) }, make());
  const ca = certifiedCa(core);
  if (reserved.state === 1) return Promise.resolve(issuedOf(core, ca, reserved));
  return signOnce(core, ca, reserved);
}

/** Writes down what will be signed. The unique index on serials proves that none is used twice (invariant 2). */
function reserve(core: Core, asked: Identified & { settle: string }, made: Made): EntryRow {
  wakeAt(core, nowOf(core) + SETTLE_AFTER_MS);
  return addEntry(core, {
    ...asked,
    serial: toHex(made.serial),
    kind: made.kind,
    state: 0,
    shard: made.shard,
    not_before: made.notBefore.getTime(),
    not_after: made.notAfter.getTime(),
    acknowledged: 0,
    tbs: made.tbs,
  });
}

/** One signature for a reserved row, however many callers wait for it. */
export function signOnce(core: Core, ca: CaRow, row: EntryRow): Promise<Issued> {
  const underWay = core.signing.get(row.request_id);
  if (underWay) return underWay;
  const signing = sign(core, ca, row).finally(() => core.signing.delete(row.request_id));
  core.signing.set(row.request_id, signing);
  return signing;
}

async function sign(core: Core, ca: CaRow, row: EntryRow): Promise<Issued> {
  const tbs = new Uint8Array(row.tbs ?? []);
  const flaw = await lintTbs(tbs, row.kind === "imported" ? "leaf" : row.kind, ownChain(core));
  if (flaw !== null) {
    // The serial is burnt; the request id is free, so that the corrected request can be repeated.
    core.sql.exec(
      "update entries set state = 2, acknowledged = 1, tbs = null, request_id = 'refused|' || serial || '|' || request_id where cursor = ?",
      row.cursor,
    );
    core.log.error("ledger.lint", { request_id: row.request_id, findings: flaw.slice(0, 500) });
    refuse("lint_failed", flaw);
  }
  const der = await signTbs(tbs, await caSigner(core, ca));
  const seq = nextSeq(core);
  core.sql.exec(
    "update entries set state = 1, der = ?, tbs = null, seq = ?, acknowledged = ? where cursor = ?",
    der,
    seq,
    row.kind === "leaf" ? 0 : 1,
    row.cursor,
  );
  return issuedOf(core, ca, { ...row, state: 1, seq, der: der.buffer });
}

/** The CA, if it may sign a certificate now. */
function activeCa(core: Core): CaRow {
  const ca = certifiedCa(core);
  if (ca.state !== "active") refuse("ca_not_active", `this CA is ${ca.state}: it signs no more certificates`);
  if (nowOf(core) >= endOf(core)) refuse("ca_not_active", "this CA or one above it has expired");
  return ca;
}

/** The earliest end among this CA and those above it. */
function endOf(core: Core): number {
  return cached(core, "end", () => endOfChain(ownChain(core)));
}

/**
 * A validity in whole seconds, within the CA's own start and `end`. From notBefore to notAfter, both inclusive, is the
 * requested lifetime.
 */
export function validityOf(core: Core, ca: Pick<CaRow, "not_before">, ttlSeconds: number, end: number) {
  const now = wholeSecond(nowOf(core));
  const backdate = Math.min(BACKDATE_SECONDS, Math.floor(ttlSeconds / 12)) * 1000;
  const notBefore = Math.max(now - backdate, ca.not_before);
  const notAfter = Math.min(notBefore + ttlSeconds * 1000 - 1000, end);
  return { notBefore: new Date(notBefore), notAfter: new Date(notAfter) };
}

/** DER of the chain, the CA's own certificate first. */
export function chainOf(core: Core): Bytes[] {
  const query = "select der from ca_chain order by position";
  return core.sql
    .exec<{ der: ArrayBuffer }>(query)
    .toArray()
    .map((row) => new Uint8Array(row.der));
}

/** This CA's certificate and those above it, parsed once. */
export function ownChain(core: Core): readonly Certificate[] {
  return cached(core, "own", () => chainOf(core).map(parseCertificate));
}

export function ownCertificate(core: Core): Certificate {
  const [own] = ownChain(core);
  if (!own) throw new Error("this CA has no certificate");
  return own;
}

/** What certificates contain about the CA that signs them. */
export function issuerOf(core: Core, ca: CaRow) {
  return {
    issuerCertificate: ownCertificate(core),
    signatureAlgorithmIdentifier: new Uint8Array(ca.signature_algorithm),
  };
}

function leafTemplate(core: Core, ca: CaRow): { template: IssuerTemplate; shards: readonly number[] } {
  return cached(core, "leaf", () => {
    const urls = caUrls(core.publicUrl, ca.ca_id);
    const shards = currentShards(core);
    const template = compileIssuerTemplate({
      ...issuerOf(core, ca),
      crlUrlsByShard: shards.map((shard) => [shard.url]),
      ocspUrls: [urls.ocsp],
      caIssuersUrls: [urls.caIssuers],
    });
    return { template, shards: shards.map((shard) => shard.shard) };
  });
}
