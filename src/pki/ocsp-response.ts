import type { Bytes } from "./bytes.ts";
import { context, lengthOctets, octetString, oid, sequence, tlv, writeHeader } from "./der.ts";
import type { OcspErrorStatus } from "./ocsp-request.ts";
import { GENERALIZED_TIME_LENGTH, writeGeneralizedTime } from "./times.ts";

/** OCSP responses (RFC 6960 section 4.2) from byte templates: what a responder's answers share is encoded once. */

/** The signer of the answers and its algorithm. */
export interface OcspResponder {
  /** `byKey`: SHA-1 of the content of the responder's subjectPublicKey BIT STRING, 20 octets. `byName`: its DER Name. */
  readonly id: { readonly byKey: Bytes } | { readonly byName: Bytes };
  /** DER AlgorithmIdentifier of the signature. */
  readonly algorithmIdentifier: Bytes;
  /** DER certificates to embed: the delegated responder's; empty if the CA signs itself. */
  readonly certificates: readonly Bytes[];
}

/** The result of `compileOcspTemplate`. Opaque, without secrets; may be kept as long as the responder. */
export interface OcspTemplate {
  readonly responderId: Bytes;
  readonly algorithmIdentifier: Bytes;
  readonly certs: Bytes;
}

export type OcspCertStatus =
  | { readonly type: "good" }
  | { readonly type: "unknown" }
  /** `reason` is the CRLReason number; 0 (unspecified) is omitted from the answer. */
  | { readonly type: "revoked"; readonly at: Date; readonly reason: number };

export interface OcspSingleResponse {
  /** DER CertID as requested. */
  readonly certId: Bytes;
  readonly status: OcspCertStatus;
  readonly thisUpdate: Date;
  readonly nextUpdate: Date | null;
}

export interface OcspResponseData {
  readonly producedAt: Date;
  readonly responses: readonly OcspSingleResponse[];
  /** The request's nonce, echoed in responseExtensions (RFC 9654 section 2.1). */
  readonly nonce: Bytes | null;
  /** Echoes the nonce without an OCTET STRING of its own, as received. */
  readonly bareNonce?: boolean;
}

const BASIC_OID = oid("1.3.6.1.5.5.7.48.1.1");
const NONCE_OID = oid("1.3.6.1.5.5.7.48.1.2");
/** responseStatus successful (0). */
const SUCCESSFUL = new Uint8Array([0x0a, 1, 0]);

/** Encodes a responder's constant octets. */
export function compileOcspTemplate(responder: OcspResponder): OcspTemplate {
  const { id, certificates } = responder;
  if ("byKey" in id && id.byKey.length !== 20) throw new RangeError("byKey is a SHA-1 hash of 20 octets");
  return {
    responderId: "byKey" in id ? context(2, true, octetString(id.byKey)) : context(1, true, id.byName),
    algorithmIdentifier: responder.algorithmIdentifier,
    certs: certificates.length === 0 ? new Uint8Array(0) : context(0, true, sequence(...certificates)),
  };
}

/** Total octets of an element with this many octets of content. */
function sized(content: number): number {
  return 1 + lengthOctets(content) + content;
}

/** A revokedInfo is one time and, with a reason, `[0] ENUMERATED`. */
function revokedLength(reason: number): number {
  return GENERALIZED_TIME_LENGTH + (reason === 0 ? 0 : 5);
}

function singleLength(single: OcspSingleResponse): number {
  const status = single.status.type === "revoked" ? 2 + revokedLength(single.status.reason) : 2;
  const nextUpdate = single.nextUpdate === null ? 0 : 2 + GENERALIZED_TIME_LENGTH;
  return single.certId.length + status + GENERALIZED_TIME_LENGTH + nextUpdate;
}

function writeStatus(out: Uint8Array, at: number, status: OcspCertStatus): number {
  switch (status.type) {
    case "good":
      out[at] = 0x80;
      out[at + 1] = 0;
      return at + 2;
    case "unknown":
      out[at] = 0x82;
      out[at + 1] = 0;
      return at + 2;
    case "revoked": {
      const { reason } = status;
      if (!(Number.isInteger(reason) && reason >= 0 && reason <= 10 && reason !== 7)) {
        throw new RangeError("reason is a CRLReason of RFC 5280: 0 to 6 or 8 to 10");
      }
      out[at] = 0xa1;
      out[at + 1] = revokedLength(reason);
      const next = writeGeneralizedTime(out, at + 2, status.at.getTime());
      if (reason === 0) return next;
      out[next] = 0xa0;
      out[next + 1] = 3;
      out[next + 2] = 0x0a;
      out[next + 3] = 1;
      out[next + 4] = reason;
      return next + 5;
    }
  }
}

function writeSingle(out: Uint8Array, from: number, single: OcspSingleResponse): number {
  let at = writeHeader(out, from, 0x30, singleLength(single));
  out.set(single.certId, at);
  at = writeStatus(out, at + single.certId.length, single.status);
  at = writeGeneralizedTime(out, at, single.thisUpdate.getTime());
  if (single.nextUpdate === null) return at;
  out[at] = 0xa0;
  out[at + 1] = GENERALIZED_TIME_LENGTH;
  return writeGeneralizedTime(out, at + 2, single.nextUpdate.getTime());
}

function nonceExtension(value: Bytes): Bytes {
  return context(1, true, sequence(sequence(NONCE_OID, octetString(value))));
}

/**
 * DER ResponseData to be signed. Times are rounded down to seconds. Throws RangeError without a response, on a nonce
 * that is not 1 to 128 octets, or on an invalid reason. RFC 6960 section 4.2.1.
 */
export function buildOcspTbs(template: OcspTemplate, data: OcspResponseData): Bytes {
  const { responses, nonce } = data;
  if (responses.length === 0) throw new RangeError("at least one response");
  if (nonce !== null && (nonce.length < 1 || nonce.length > 128)) throw new RangeError("nonce of 1 to 128 octets");
  let list = 0;
  for (const single of responses) list += sized(singleLength(single));
  const extensions = nonce === null ? null : nonceExtension(data.bareNonce ? nonce : octetString(nonce));
  const content = template.responderId.length + GENERALIZED_TIME_LENGTH + sized(list) + (extensions?.length ?? 0);
  const out = new Uint8Array(sized(content));
  let at = writeHeader(out, 0, 0x30, content);
  out.set(template.responderId, at);
  at = writeGeneralizedTime(out, at + template.responderId.length, data.producedAt.getTime());
  at = writeHeader(out, at, 0x30, list);
  for (const single of responses) at = writeSingle(out, at, single);
  if (extensions !== null) out.set(extensions, at);
  return out;
}

/**
 * DER OCSPResponse `successful` from ResponseData and the value of its signature BIT STRING, with the template's
 * certificates. RFC 6960 section 4.2.1.
 */
export function assembleOcspResponse(template: OcspTemplate, tbs: Bytes, signature: Bytes): Bytes {
  const { algorithmIdentifier, certs } = template;
  const basic = tbs.length + algorithmIdentifier.length + sized(1 + signature.length) + certs.length;
  const octets = sized(basic);
  const responseBytes = BASIC_OID.length + sized(octets);
  const explicit = sized(responseBytes);
  const content = SUCCESSFUL.length + sized(explicit);
  const out = new Uint8Array(sized(content));
  let at = writeHeader(out, 0, 0x30, content);
  out.set(SUCCESSFUL, at);
  at = writeHeader(out, at + SUCCESSFUL.length, 0xa0, explicit);
  at = writeHeader(out, at, 0x30, responseBytes);
  out.set(BASIC_OID, at);
  at = writeHeader(out, at + BASIC_OID.length, 0x04, octets);
  at = writeHeader(out, at, 0x30, basic);
  out.set(tbs, at);
  at += tbs.length;
  out.set(algorithmIdentifier, at);
  at = writeHeader(out, at + algorithmIdentifier.length, 0x03, 1 + signature.length) + 1;
  out.set(signature, at);
  out.set(certs, at + signature.length);
  return out;
}

const ERROR_NUMBERS: Readonly<Record<OcspErrorStatus, number>> = {
  malformedRequest: 1,
  internalError: 2,
  tryLater: 3,
  unauthorized: 6,
};

/** The unsigned DER OCSPResponse of an error status: five octets, fresh memory. RFC 6960 section 4.2.1. */
export function ocspError(status: OcspErrorStatus): Bytes {
  return tlv(0x30, new Uint8Array([0x0a, 1, ERROR_NUMBERS[status]]));
}
