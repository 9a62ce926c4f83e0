import { type Bytes, equal, fromHex, toHex } from "./bytes.ts";
import { Cursor, context, integer, octetString, oid, sequence, tlv } from "./der.ts";
import { DerError, PkiError } from "./errors.ts";
import { readExtension } from "./extensions.ts";

/** OCSP requests (RFC 6960 section 4.1, nonce RFC 9654), parsed directly from the octets: this runs once a request. */

/** Error statuses of an OCSPResponse (RFC 6960 section 4.2.1) that this responder uses. */
export type OcspErrorStatus = "malformedRequest" | "internalError" | "tryLater" | "unauthorized";

/** A request that cannot be answered. `status` is the status of the unsigned answer (`ocspError(status)`). */
export class OcspError extends PkiError {
  override readonly code: string = "ocsp_invalid";
  readonly status: OcspErrorStatus;

  constructor(message: string, status: OcspErrorStatus = "malformedRequest", options?: ErrorOptions) {
    super(message, options);
    this.status = status;
  }
}

export type CertIdHash = "sha1" | "sha256" | "sha384" | "sha512";

/** Identifies a certificate. All octets are views into the request. */
export interface CertId {
  readonly hash: CertIdHash;
  /** Hash of the issuer's DER name. */
  readonly issuerNameHash: Bytes;
  /** Hash of the content of the issuer's subjectPublicKey BIT STRING. */
  readonly issuerKeyHash: Bytes;
  /** Lower-case hex, two digits an octet, no sign octet, at most 20 octets. */
  readonly serial: string;
  /** The whole CertID as received, to be echoed. */
  readonly der: Bytes;
}

export interface OcspRequest {
  /** At least one, without duplicates, in the request's order. */
  readonly certIds: CertId[];
  /** The nonce's value, 1 to 128 octets. */
  readonly nonce: Bytes | null;
  /** The nonce had no OCTET STRING of its own, as RFC 2560 can be read: the echo has none either. */
  readonly bareNonce: boolean;
}

/** Maximum octets of a request, and maximum CertIDs in one. */
export const MAX_OCSP_REQUEST = 10_240;
export const MAX_CERT_IDS = 10;

const NONCE_OID = oid("1.3.6.1.5.5.7.48.1.2");
const ACCEPTABLE_RESPONSES_OID = oid("1.3.6.1.5.5.7.48.1.4");

const SHA1_OID = oid("1.3.14.3.2.26");
const SHA256_OID = oid("2.16.840.1.101.3.4.2.1");
const SHA384_OID = oid("2.16.840.1.101.3.4.2.2");
const SHA512_OID = oid("2.16.840.1.101.3.4.2.3");
/** `version [0] EXPLICIT INTEGER v1`: the default, which DER omits. */
const VERSION_1 = new Uint8Array([0xa0, 3, 2, 1, 0]);
const NULL_PARAMETERS = new Uint8Array([5, 0]);

interface HashForm {
  readonly hash: CertIdHash;
  readonly algorithm: Bytes;
  readonly size: number;
}

/** The supported AlgorithmIdentifiers, the most common first: parameters NULL or absent (RFC 5754 section 2). */
const HASH_FORMS: readonly HashForm[] = [
  { hash: "sha1", algorithm: sequence(SHA1_OID, NULL_PARAMETERS), size: 20 },
  { hash: "sha256", algorithm: sequence(SHA256_OID, NULL_PARAMETERS), size: 32 },
  { hash: "sha1", algorithm: sequence(SHA1_OID), size: 20 },
  { hash: "sha256", algorithm: sequence(SHA256_OID), size: 32 },
  { hash: "sha384", algorithm: sequence(SHA384_OID, NULL_PARAMETERS), size: 48 },
  { hash: "sha512", algorithm: sequence(SHA512_OID, NULL_PARAMETERS), size: 64 },
  { hash: "sha384", algorithm: sequence(SHA384_OID), size: 48 },
  { hash: "sha512", algorithm: sequence(SHA512_OID), size: 64 },
];

/** Turns a PkiError about the octets into an OcspError; returns other errors unchanged. */
export function asOcspError(what: string, error: unknown): unknown {
  if (!(error instanceof PkiError) || error instanceof OcspError) return error;
  return new OcspError(`not ${what}: ${error.message}`, "malformedRequest", { cause: error });
}

function readHash(cursor: Cursor, limit: number): HashForm {
  for (const form of HASH_FORMS) {
    if (cursor.matches(form.algorithm, limit)) {
      cursor.at += form.algorithm.length;
      return form;
    }
  }
  cursor.skip(0x30, limit);
  throw new OcspError("hash algorithm of a CertID is none of SHA-1, SHA-256, SHA-384 and SHA-512", "unauthorized");
}

function readOctets(cursor: Cursor, size: number, limit: number, what: string): Bytes {
  const end = cursor.enter(0x04, limit);
  const from = cursor.at;
  if (end - from !== size) throw new DerError(`${what} has not the length of its hash`);
  cursor.at = end;
  return cursor.bytes.subarray(from, end);
}

function readCertId(cursor: Cursor, limit: number): CertId {
  const from = cursor.at;
  const end = cursor.enter(0x30, limit);
  const form = readHash(cursor, end);
  const issuerNameHash = readOctets(cursor, form.size, end, "issuerNameHash");
  const issuerKeyHash = readOctets(cursor, form.size, end, "issuerKeyHash");
  const serial = toHex(cursor.bytes.subarray(cursor.unsigned(20, end), cursor.at));
  cursor.close(end, "CertID");
  return { hash: form.hash, issuerNameHash, issuerKeyHash, serial, der: cursor.bytes.subarray(from, end) };
}

interface Nonce {
  readonly octets: Bytes;
  readonly bare: boolean;
}

/**
 * The nonce in an extnValue (RFC 9654 section 2.1) from `from` to `limit`, with or without an OCTET STRING of its own.
 */
function readNonce(bytes: Bytes, from: number, limit: number): Nonce {
  // A length up to 127 takes one octet, 128 takes two; a longer value is not a valid nonce in either form.
  const header = bytes[from + 1] === 0x81 && bytes[from + 2] === 128 ? 3 : 2;
  const announced = header === 3 ? 128 : bytes[from + 1];
  const bare = bytes[from] !== 0x04 || limit - from - header !== announced;
  const octets = bytes.subarray(bare ? from : from + header, limit);
  if (octets.length < 1 || octets.length > 128) throw new DerError("nonce must have 1 to 128 octets");
  return { octets, bare };
}

/** FALSE is the default of `critical`, which DER omits but some clients write. */
const LENIENT = { explicitDefaults: true };

/** Reads the explicitly tagged Extensions; returns the nonce if `nonceHere` and there is one. */
function readExtensions(cursor: Cursor, tag: number, limit: number, nonceHere: boolean): Nonce | null {
  const taggedEnd = cursor.enter(tag, limit);
  const listEnd = cursor.enter(0x30, taggedEnd);
  if (listEnd !== taggedEnd) throw new DerError("octets after the extensions");
  let nonce: Nonce | null = null;
  do {
    const { idStart, idEnd, critical, valueStart, valueEnd } = readExtension(cursor, listEnd, LENIENT);
    const isNonce = nonceHere && cursor.matches(NONCE_OID, idEnd, idStart);
    const known = isNonce || (nonceHere && cursor.matches(ACCEPTABLE_RESPONSES_OID, idEnd, idStart));
    if (critical && !known) throw new DerError("unknown critical extension");
    if (!isNonce) continue;
    if (nonce !== null) throw new DerError("two nonces");
    nonce = readNonce(cursor.bytes, valueStart, valueEnd);
  } while (cursor.at < listEnd);
  return nonce;
}

/** Like `parseOcspRequest`, but throws PkiError, for callers that only test whether the octets are a request. */
export function readOcspRequest(der: Bytes): OcspRequest {
  if (der.length > MAX_OCSP_REQUEST) throw new DerError("request is longer than 10 KB");
  const cursor = new Cursor(der);
  const outerEnd = cursor.enter(0x30, der.length);
  if (outerEnd !== der.length) throw new DerError("octets after the request");
  const tbsEnd = cursor.enter(0x30, outerEnd);
  if (cursor.matches(VERSION_1, tbsEnd)) cursor.at += VERSION_1.length;
  else if (cursor.sees(0xa0, tbsEnd)) throw new DerError("version is not v1");
  if (cursor.sees(0xa1, tbsEnd)) cursor.skip(0xa1, tbsEnd);
  const listEnd = cursor.enter(0x30, tbsEnd);
  const certIds: CertId[] = [];
  for (let count = 1; cursor.at < listEnd; count++) {
    if (count > MAX_CERT_IDS) throw new DerError(`more than ${MAX_CERT_IDS} requests in one`);
    const requestEnd = cursor.enter(0x30, listEnd);
    const certId = readCertId(cursor, requestEnd);
    if (cursor.at < requestEnd) readExtensions(cursor, 0xa0, requestEnd, false);
    cursor.close(requestEnd, "Request");
    if (count === 1 || !certIds.some((other) => equal(other.der, certId.der))) certIds.push(certId);
  }
  if (certIds.length === 0) throw new DerError("requestList is empty");
  const nonce = cursor.at < tbsEnd ? readExtensions(cursor, 0xa2, tbsEnd, true) : null;
  cursor.close(tbsEnd, "TBSRequest");
  if (cursor.at < outerEnd) cursor.skip(0xa0, outerEnd);
  cursor.close(outerEnd, "OCSPRequest");
  return { certIds, nonce: nonce?.octets ?? null, bareNonce: nonce?.bare ?? false };
}

/**
 * Parses a DER OCSPRequest of at most 10 KB with 1 to 10 CertIDs. A repeated CertID is returned once. requestorName,
 * the optional signature and non-critical extensions are checked for strict DER where they are constructed and
 * otherwise ignored. Defaults may be written out. Throws OcspError: `malformedRequest`, or `unauthorized` for an
 * unsupported CertID hash. RFC 6960 section 4.1.1, RFC 9654 section 2.1.
 */
export function parseOcspRequest(der: Bytes): OcspRequest {
  try {
    return readOcspRequest(der);
  } catch (error) {
    throw asOcspError("an OCSP request", error);
  }
}

/** Parses one DER CertID, as in the text of `canonicalCertId`. Throws OcspError. */
export function parseCertId(der: Bytes): CertId {
  const cursor = new Cursor(der);
  try {
    const certId = readCertId(cursor, der.length);
    cursor.close(der.length, "CertID");
    return certId;
  } catch (error) {
    throw asOcspError("a CertID", error);
  }
}

/**
 * Cache key of a CertID: the lower-case hex of its DER. Two CertIDs have the same key exactly if the same octets answer
 * both, and `parseCertId(fromHex(text))` returns the CertID.
 */
export function canonicalCertId(certId: CertId): string {
  return toHex(certId.der);
}

/** DER CertID. `serial` is hex as in CertId; the hashes have the length of `hash`. RFC 6960 section 4.1.1. */
export function buildCertId(hash: CertIdHash, issuerNameHash: Bytes, issuerKeyHash: Bytes, serial: string): Bytes {
  const form = HASH_FORMS.find((candidate) => candidate.hash === hash);
  if (form === undefined || issuerNameHash.length !== form.size || issuerKeyHash.length !== form.size) {
    throw new RangeError("issuer hashes have not the length of their hash");
  }
  return sequence(form.algorithm, octetString(issuerNameHash), octetString(issuerKeyHash), integer(fromHex(serial)));
}

/** An unsigned DER OCSPRequest for these DER CertIDs. Used by tests, probes and the benchmark. */
export function buildOcspRequest(certIds: readonly Bytes[], nonce: Bytes | null = null): Bytes {
  const list = sequence(...certIds.map((certId) => sequence(certId)));
  if (nonce === null) return sequence(sequence(list));
  const extension = sequence(NONCE_OID, octetString(tlv(0x04, nonce)));
  return sequence(sequence(list, context(2, true, sequence(extension))));
}
