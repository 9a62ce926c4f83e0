import {
  caUrls,
  type IssueCaRequest,
  type Issued,
  type IssueRequest,
  type IssueResult,
  type Refusal,
  wholeSecond,
} from "../../src/authority/ledger.ts";
import { type Bytes, digest, sha256Hex, toBase64, toHex, utf8 } from "../../src/pki/bytes.ts";
import {
  buildSubordinateTbs,
  buildTbsCertificate,
  type Certificate,
  compileIssuerTemplate,
  endOfChain,
  type IssuerTemplate,
  parseCertificate,
  signTbs,
} from "../../src/pki/certificate.ts";
import { PkiError } from "../../src/pki/errors.ts";
import { keyIdentifier, type PublicKeyInfo, parseSpki } from "../../src/pki/keys.ts";
import { inheritNameConstraints, isSubset, parseNameConstraints } from "../../src/pki/name-constraints.ts";
import { encodeName, formatName } from "../../src/pki/names.ts";
import { type Core, cached, caOf, caSigner, chainOf, commonTurn, nowOf, refuse, wakeAt } from "./core.ts";
import { lintTbs } from "./lint.ts";
import { markOf, nextSeq, SETTLE_AFTER_MS } from "./mark.ts";
import { newSerial } from "./serials.ts";
import { currentShards } from "./shards.ts";
import { type CaRow, type EntryRow, iso, reasonName } from "./storage.ts";

/**
 * Issuing. In one synchronous step a request id is found again or a random serial is reserved with the very octets that will
 * be signed; only then is anything signed. So a request id has at most one certificate, whatever crashes or repeats: what was
 * left reserved is signed later as it stands.
 */

/** notBefore lies this far back, for relying parties whose clock is slow; a twelfth of the lifetime if that is less. */
export const BACKDATE_SECONDS = 300;

type Kind = EntryRow["kind"];

/** What is known of a request before the synchronous step: nothing of it depends on the ledger's state. */
interface Prepared {
  readonly request_id: string;
  readonly certificate_id: string;
  readonly digest: string;
  readonly key: PublicKeyInfo;
  readonly spki_sha256: string;
  readonly settle: string;
}

interface Reserving extends Prepared {
  readonly kind: Kind;
  readonly serial: Bytes;
  readonly shard: number;
  readonly notBefore: number;
  readonly notAfter: number;
  readonly tbs: Bytes;
}

/** Leaves; each request stands alone. */
export function issue(core: Core, requests: readonly IssueRequest[]): Promise<IssueResult[]> {
  return Promise.all(requests.map((request) => withRefusals(request.request_id, () => issueLeaf(core, request))));
}

async function issueLeaf(core: Core, request: IssueRequest): Promise<IssueResult> {
  const subject = encodeName(request.subject);
  const prepared = await prepare(request, [subject, request.sans], request.settle);
  const subjectKeyIdentifier = await keyIdentifier(prepared.key);
  await commonTurn(core);

  // From here to the insert nothing is awaited.
  const known = findRequest(core, prepared);
  if (known) return known;
  const ca = activeCa(core);
  if (!("ledger_id" in ca)) return { ...ca, request_id: request.request_id };
  const validity = validityOf(core, ca, request.ttl_seconds, ca.end);
  const serial = newSerial(core);
  const { template, shards } = leafTemplate(core, ca);
  const position = (serial[serial.length - 1] ?? 0) % shards.length;
  const tbs = buildTbsCertificate(template, {
    serial,
    notBefore: new Date(validity.notBefore),
    notAfter: new Date(validity.notAfter),
    subject,
    publicKey: prepared.key,
    subjectKeyIdentifier,
    sans: request.sans,
    ekus: request.ekus,
    mustStaple: request.must_staple,
    shard: position,
  });
  const row = reserve(core, { ...prepared, ...validity, kind: "leaf", serial, shard: shards[position] ?? 0, tbs });
  return signOnce(core, ca, row);
}

/** The certificate of a CA below this one, within its path length, name constraints and lifetime. */
export function issueCa(core: Core, request: IssueCaRequest): Promise<IssueResult> {
  return withRefusals(request.request_id, async () => {
    const subject = encodeName(request.subject);
    const bounds = [subject, request.path_len, request.name_constraints, request.ocsp_urls];
    const prepared = await prepare(request, bounds, {});
    const subjectKeyIdentifier = await keyIdentifier(prepared.key);

    // From here to the insert nothing is awaited.
    const known = findRequest(core, prepared);
    if (known) return known;
    const ca = activeCa(core);
    if (!("ledger_id" in ca)) return { ...ca, request_id: request.request_id };
    const own = ownCertificate(core);
    const bounded = boundsOfChild(own, ownChain(core), request);
    if (typeof bounded === "string") return { ...refuse("out_of_bounds", bounded), request_id: request.request_id };
    const validity = validityOf(core, ca, request.ttl_seconds, ca.end);
    const serial = newSerial(core);
    const shards = currentShards(core);
    const position = (serial[serial.length - 1] ?? 0) % shards.length;
    const shard = shards[position] ?? { shard: 0, url: "" };
    const urls = caUrls(core.publicUrl, ca.ca_id);
    const tbs = buildSubordinateTbs({
      serial,
      notBefore: new Date(validity.notBefore),
      notAfter: new Date(validity.notAfter),
      subject,
      publicKey: prepared.key,
      subjectKeyIdentifier,
      pathLen: bounded.pathLen,
      nameConstraints: bounded.nameConstraints,
      issuerCertificate: own,
      signatureAlgorithmIdentifier: new Uint8Array(ca.signature_algorithm),
      crlUrls: [shard.url],
      ocspUrls: [urls.ocsp, ...request.ocsp_urls],
      caIssuersUrls: [urls.caIssuers],
    });
    const row = reserve(core, { ...prepared, ...validity, kind: "ca", serial, shard: shard.shard, tbs });
    return signOnce(core, ca, row);
  });
}

/** Path length and name constraints of a child, or what is wrong with those asked for. */
function boundsOfChild(parent: Certificate, chain: readonly Certificate[], request: IssueCaRequest) {
  const limit = parent.basicConstraints?.pathLen ?? null;
  if (limit === 0) return "path_len_constraint: this CA may have no CA below it (its path length is 0)";
  if (limit !== null && request.path_len !== null && request.path_len >= limit) {
    return `path_len_constraint: must be below the parent's, which is ${limit}`;
  }
  const asked = request.name_constraints ? parseNameConstraints([request.name_constraints]) : null;
  const nameConstraints = chain.reduce((inner, above) => inheritNameConstraints(inner, above.nameConstraints), asked);
  const broken = chain.find((above) => !isSubset(nameConstraints, above.nameConstraints));
  if (broken) return `name_constraints: reach beyond those of ${formatName(broken.subject)}`;
  const pathLen = request.path_len ?? (limit === null ? null : limit - 1);
  return { pathLen, nameConstraints };
}

/** A certificate of any kind whose octets are made: reserved, linted, signed, recorded. */
export async function issuePrepared(
  core: Core,
  ca: CaRow,
  what: {
    request_id: string;
    certificate_id: string;
    kind: Kind;
    spki: Bytes;
    serial: Bytes;
    notBefore: number;
    notAfter: number;
    tbs: Bytes;
  },
): Promise<IssueResult> {
  const prepared = await prepare(what, [what.kind], {});
  const known = findRequest(core, prepared);
  if (known) return known;
  const row = reserve(core, { ...prepared, ...what, shard: 0 });
  return signOnce(core, ca, row);
}

async function prepare(
  request: { request_id: string; certificate_id: string; spki: Bytes },
  content: readonly unknown[],
  settle: Readonly<Record<string, unknown>>,
): Promise<Prepared> {
  const key = parseSpki(request.spki);
  const text = JSON.stringify([request.certificate_id, toBase64(request.spki), ...content.map(plain)]);
  const [spkiHash, contentHash] = await Promise.all([sha256Hex(request.spki), digest("SHA-256", utf8(text))]);
  return {
    request_id: request.request_id,
    certificate_id: request.certificate_id,
    digest: toHex(contentHash),
    key,
    spki_sha256: spkiHash,
    settle: JSON.stringify(settle),
  };
}

function plain(value: unknown): unknown {
  return value instanceof Uint8Array ? toHex(value) : value;
}

/** The answer that a request id has already, or that is on its way; null for a new one. */
function findRequest(core: Core, prepared: Prepared): Promise<IssueResult> | IssueResult | null {
  const { request_id } = prepared;
  const row = core.sql.exec<EntryRow>("select * from entries where request_id = ?", request_id).toArray()[0];
  if (!row) return null;
  // What was taken back after a restore has no digest: its key says whether it is the same request.
  const same = row.digest === "" ? row.spki_sha256 === prepared.spki_sha256 : row.digest === prepared.digest;
  if (!same) {
    return {
      ...refuse("request_conflict", `request ${request_id} was used for another key or other names`),
      request_id,
    };
  }
  const ca = caOf(core);
  if (row.state === 1 && ca) return issuedOf(core, ca, row);
  return core.signing.get(request_id) ?? (ca ? signOnce(core, ca, row) : null);
}

/** Writes down what will be signed. The unique index on serials is the proof that none is used twice (invariant 2). */
function reserve(core: Core, what: Reserving): EntryRow {
  const now = nowOf(core);
  const row = {
    serial: toHex(what.serial),
    request_id: what.request_id,
    digest: what.digest,
    kind: what.kind,
    certificate_id: what.certificate_id,
    shard: what.shard,
    not_before: what.notBefore,
    not_after: what.notAfter,
    created_at: now,
    spki_sha256: what.spki_sha256,
    settle: what.settle,
  };
  const { cursor } = core.sql
    .exec<{ cursor: number }>(
      `insert into entries (serial, request_id, digest, kind, certificate_id, shard, not_before, not_after, created_at,
         spki_sha256, settle, state, acknowledged, tagged, tbs) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 1, ?) returning cursor`,
      ...Object.values(row),
      what.tbs,
    )
    .one();
  wakeAt(core, now + SETTLE_AFTER_MS);
  const tbs = what.tbs.buffer.slice(what.tbs.byteOffset, what.tbs.byteOffset + what.tbs.length);
  return { ...row, cursor, state: 0, seq: 0, acknowledged: 0, tbs, der: null, revoked_at: null, reason: null };
}

/** One signature for a reserved row, however many wait for it. */
export function signOnce(core: Core, ca: CaRow, row: EntryRow): Promise<IssueResult> {
  const underWay = core.signing.get(row.request_id);
  if (underWay) return underWay;
  const signing = sign(core, ca, row).finally(() => core.signing.delete(row.request_id));
  core.signing.set(row.request_id, signing);
  return signing;
}

async function sign(core: Core, ca: CaRow, row: EntryRow): Promise<IssueResult> {
  const tbs = new Uint8Array(row.tbs ?? new ArrayBuffer(0));
  const kind = row.kind === "imported" ? "leaf" : row.kind;
  const flaw = await lintTbs(tbs, kind, ownChain(core));
  if (flaw !== null) {
    // The serial is burnt; the request id is free, so that the request can be made again once its fault is mended.
    core.sql.exec(
      "update entries set state = 2, acknowledged = 1, tbs = null, request_id = 'refused|' || serial || '|' || request_id where cursor = ?",
      row.cursor,
    );
    core.log.error("ledger.lint", { request_id: row.request_id, findings: flaw.slice(0, 500) });
    return { ...refuse("lint_failed", flaw), request_id: row.request_id };
  }
  const signer = await caSigner(core, ca);
  const der = await signTbs(tbs, signer);
  const quiet = row.kind === "leaf" ? 0 : 1;
  const seq = nextSeq(core);
  core.sql.exec(
    "update entries set state = 1, der = ?, tbs = null, seq = ?, acknowledged = ? where cursor = ?",
    der,
    seq,
    quiet,
    row.cursor,
  );
  return issuedOf(core, ca, { ...row, state: 1, seq, der: der.buffer });
}

export function issuedOf(core: Core, ca: CaRow, row: EntryRow): Issued {
  return {
    ok: true,
    ledger_id: ca.ledger_id,
    ca_id: ca.ca_id,
    request_id: row.request_id,
    kind: row.kind,
    mark: markOf(core, row.seq),
    certificate_id: row.certificate_id,
    serial: row.serial,
    not_before: iso(row.not_before),
    not_after: iso(row.not_after),
    shard: row.shard,
    der: new Uint8Array(row.der ?? new ArrayBuffer(0)),
    spki_sha256: row.spki_sha256,
    settle: JSON.parse(row.settle),
    issued_at: iso(row.created_at),
    revoked_at: row.revoked_at === null ? null : iso(row.revoked_at),
    revocation_reason: row.reason === null ? null : reasonName(row.reason),
  };
}

/** The CA, if it may sign a certificate now, and when the first of it and the CAs above it ends. */
function activeCa(core: Core): (CaRow & { readonly end: number }) | Refusal {
  const ca = caOf(core);
  if (!ca || ca.state === "awaiting_certificate") return refuse("ca_absent", "this CA has no certificate yet");
  if (ca.state !== "active") return refuse("ca_not_active", `this CA is ${ca.state}: it signs no more certificates`);
  const end = cached(core, "end", () => endOfChain(ownChain(core)));
  if (nowOf(core) >= end) return refuse("ca_not_active", "this CA or one above it has expired");
  return { ...ca, end };
}

/** Whole seconds, from the CA's own start to `end` at most. notAfter - notBefore, both included, is what was asked for. */
export function validityOf(core: Core, ca: CaRow, ttlSeconds: number, end: number) {
  const now = wholeSecond(nowOf(core));
  const backdate = Math.min(BACKDATE_SECONDS, Math.floor(ttlSeconds / 12)) * 1000;
  const notBefore = Math.max(now - backdate, ca.not_before);
  const notAfter = Math.min(notBefore + ttlSeconds * 1000 - 1000, end);
  return { notBefore, notAfter };
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

function leafTemplate(core: Core, ca: CaRow): { template: IssuerTemplate; shards: readonly number[] } {
  return cached(core, "leaf", () => {
    const urls = caUrls(core.publicUrl, ca.ca_id);
    const shards = currentShards(core);
    const template = compileIssuerTemplate({
      issuerCertificate: ownCertificate(core),
      signatureAlgorithmIdentifier: new Uint8Array(ca.signature_algorithm),
      crlUrlsByShard: shards.map((shard) => [shard.url]),
      ocspUrls: [urls.ocsp],
      caIssuersUrls: [urls.caIssuers],
    });
    return { template, shards: shards.map((shard) => shard.shard) };
  });
}

/** What our parsers and encoders refuse is the request's fault. */
async function withRefusals(requestId: string, work: () => Promise<IssueResult>): Promise<IssueResult> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof PkiError || error instanceof RangeError) {
      return { ...refuse("out_of_bounds", error.message), request_id: requestId };
    }
    throw error;
  }
}
