import type { Bytes } from "./bytes.ts";
import {
  bitStringOf,
  children,
  DerError,
  decode,
  type Element,
  octetStringOf,
  oidOf,
  Reader,
  smallInteger,
  TAG,
  timeOf,
} from "./der.ts";
import { type Extension, parseExtensions } from "./extensions.ts";
import { asOcspError, type CertId, parseCertId } from "./ocsp-request.ts";
import type { OcspCertStatus } from "./ocsp-response.ts";

/** Strict parser of OCSP responses (RFC 6960 section 4.2), for checking our own and others' answers. */

export type OcspResponseStatus =
  | "successful"
  | "malformedRequest"
  | "internalError"
  | "tryLater"
  | "sigRequired"
  | "unauthorized";

const STATUSES: readonly (OcspResponseStatus | null)[] = [
  "successful",
  "malformedRequest",
  "internalError",
  "tryLater",
  null,
  "sigRequired",
  "unauthorized",
];

export interface ParsedSingleResponse {
  readonly certId: CertId;
  readonly status: OcspCertStatus;
  readonly thisUpdate: Date;
  readonly nextUpdate: Date | null;
  /** Dotted identifiers of singleExtensions. */
  readonly extensionOids: readonly string[];
}

export interface BasicOcspResponse {
  /** The signed octets. */
  readonly tbs: Bytes;
  readonly responderId: { readonly byKey: Bytes } | { readonly byName: Bytes };
  readonly producedAt: Date;
  readonly responses: readonly ParsedSingleResponse[];
  readonly nonce: Bytes | null;
  /** Dotted identifiers of responseExtensions. */
  readonly extensionOids: readonly string[];
  readonly algorithmIdentifier: Bytes;
  readonly signature: Bytes;
  readonly certificates: readonly Bytes[];
}

export interface ParsedOcspResponse {
  readonly status: OcspResponseStatus;
  /** Present only if the status is `successful`. */
  readonly basic: BasicOcspResponse | null;
}

/** The elements of an EXPLICIT tag's only child. */
function explicit(element: Element): Element {
  const reader = new Reader(element);
  const inner = reader.next();
  reader.end();
  return inner;
}

function expectSequence(element: Element): Reader {
  if (element.tag !== TAG.SEQUENCE) throw new DerError("expected SEQUENCE");
  return new Reader(element);
}

function readExtensions(tagged: Element | null): Extension[] {
  return tagged === null ? [] : parseExtensions(explicit(tagged));
}

function readStatus(element: Element): OcspCertStatus {
  if (element.tag === 0x80 || element.tag === 0x82) {
    if (element.content.length !== 0) throw new DerError("certStatus with content");
    return { type: element.tag === 0x80 ? "good" : "unknown" };
  }
  if (element.tag !== 0xa1) throw new DerError("certStatus is neither good, revoked nor unknown");
  const reader = new Reader(element);
  const at = timeOf(reader.next(TAG.GENERALIZED_TIME));
  const tagged = reader.optional(0xa0);
  reader.end();
  if (tagged === null) return { type: "revoked", at, reason: 0 };
  const reasonElement = explicit(tagged);
  if (reasonElement.tag !== TAG.ENUMERATED) throw new DerError("revocationReason is not ENUMERATED");
  const reason = smallInteger(reasonElement);
  if (reason > 10 || reason === 7) throw new DerError("revocationReason that does not exist");
  return { type: "revoked", at, reason };
}

function readGeneralizedTime(element: Element): Date {
  if (element.tag !== TAG.GENERALIZED_TIME) throw new DerError("expected GeneralizedTime");
  return timeOf(element);
}

function readSingle(element: Element): ParsedSingleResponse {
  const reader = expectSequence(element);
  const certId = parseCertId(reader.next(TAG.SEQUENCE).bytes);
  const status = readStatus(reader.next());
  const thisUpdate = readGeneralizedTime(reader.next());
  const nextTagged = reader.optional(0xa0);
  const nextUpdate = nextTagged === null ? null : readGeneralizedTime(explicit(nextTagged));
  const extensionOids = readExtensions(reader.optional(0xa1)).map((extension) => extension.oid);
  reader.end();
  return { certId, status, thisUpdate, nextUpdate, extensionOids };
}

function readNonce(extensions: readonly Extension[]): Bytes | null {
  const extension = extensions.find((candidate) => candidate.oid === "1.3.6.1.5.5.7.48.1.2");
  if (extension === undefined) return null;
  const nonce = octetStringOf(decode(extension.value));
  if (nonce.length < 1 || nonce.length > 128) throw new DerError("nonce must have 1 to 128 octets");
  return nonce;
}

function readResponderId(element: Element): BasicOcspResponse["responderId"] {
  if (element.tag === 0xa1) {
    const name = explicit(element);
    if (name.tag !== TAG.SEQUENCE) throw new DerError("byName is not a Name");
    return { byName: name.bytes };
  }
  if (element.tag !== 0xa2) throw new DerError("responderID is neither byName nor byKey");
  const byKey = octetStringOf(explicit(element));
  if (byKey.length !== 20) throw new DerError("byKey is not a SHA-1 hash");
  return { byKey };
}

function readBasic(der: Bytes): BasicOcspResponse {
  const reader = expectSequence(decode(der));
  const tbs = reader.next(TAG.SEQUENCE);
  const algorithmIdentifier = reader.next(TAG.SEQUENCE).bytes;
  const signature = bitStringOf(reader.next(TAG.BIT_STRING));
  if (signature.unused !== 0) throw new DerError("signature is not whole octets");
  const certsTagged = reader.optional(0xa0);
  reader.end();
  const data = new Reader(tbs);
  const responderId = readResponderId(data.next());
  const producedAt = readGeneralizedTime(data.next());
  const responses = children(data.next(TAG.SEQUENCE)).map(readSingle);
  const extensions = readExtensions(data.optional(0xa1));
  data.end();
  return {
    tbs: tbs.bytes,
    responderId,
    producedAt,
    responses,
    nonce: readNonce(extensions),
    extensionOids: extensions.map((extension) => extension.oid),
    algorithmIdentifier,
    signature: signature.bytes,
    certificates: certsTagged === null ? [] : children(explicit(certsTagged)).map((certificate) => certificate.bytes),
  };
}

function readResponse(der: Bytes): ParsedOcspResponse {
  const reader = expectSequence(decode(der));
  const code = smallInteger(reader.next(TAG.ENUMERATED));
  const status = STATUSES[code] ?? null;
  if (status === null) throw new DerError("responseStatus that does not exist");
  const tagged = reader.optional(0xa0);
  reader.end();
  if ((tagged === null) === (status === "successful")) throw new DerError("responseBytes do not go with the status");
  if (tagged === null) return { status, basic: null };
  const responseBytes = expectSequence(explicit(tagged));
  if (oidOf(responseBytes.next(TAG.OID)) !== "1.3.6.1.5.5.7.48.1.1") throw new DerError("not a basic response");
  const basic = readBasic(octetStringOf(responseBytes.next(TAG.OCTET_STRING)));
  responseBytes.end();
  return { status, basic };
}

/**
 * Parses a DER OCSPResponse of at most 64 KB. The signature is not verified. The result's octets are views into the
 * input. Throws OcspError. RFC 6960 section 4.2.1.
 */
export function parseOcspResponse(der: Bytes): ParsedOcspResponse {
  try {
    return readResponse(der);
  } catch (error) {
    throw asOcspError("an OCSP response", error);
  }
}
