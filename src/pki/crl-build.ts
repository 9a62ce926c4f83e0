import { type Bytes, concat } from "./bytes.ts";
import { CRL_EXTENSION } from "./crl-extensions.ts";
import { bitString, context, integer, lengthOctets, sequence, time, writeHeader } from "./der.ts";
import { EXTENSION, encodeAuthorityKeyIdentifier, encodeDistributionPointName, extension } from "./extensions.ts";
import type { StreamSigner } from "./stream-signer.ts";

/**
 * Builds CRLs (RFC 5280 section 5) of any size in constant memory. `planCrl` encodes everything except the entries,
 * whose total length is known beforehand. The entries are read twice: once by the signer (`signCrl`) and once for
 * output (`crlChunks`), because the length of an ECDSA signature affects the header before the entries but is known
 * only after signing.
 */

export interface CrlParameters {
  /** DER Name of the issuer, octet for octet as in its certificate. */
  readonly issuer: Bytes;
  /** DER AlgorithmIdentifier of the signer. */
  readonly algorithmIdentifier: Bytes;
  readonly thisUpdate: Date;
  readonly nextUpdate: Date;
  /** cRLNumber: not negative, less than 2^159. */
  readonly number: number | bigint;
  /** The issuer's subject key identifier. */
  readonly authorityKeyId: Bytes;
  /** For one of several shards: the URI in the CDP of its certificates, octet for octet. Null: the list is complete. */
  readonly distributionPoint: string | null;
  /** Only with a distribution point: the list excludes CA certificates. Default false. */
  readonly onlyContainsUserCerts?: boolean;
  /** Total octets of all entries. */
  readonly entriesLength: number;
}

/** A CRL without its entries and signature. */
export interface CrlPlan {
  /** The TBSCertList before the entries. */
  readonly prefix: Bytes;
  readonly entriesLength: number;
  /** The TBSCertList after the entries. */
  readonly suffix: Bytes;
  /** Octets of the whole TBSCertList. */
  readonly tbsLength: number;
  readonly algorithmIdentifier: Bytes;
}

/** Consecutive entries, split anywhere. */
export type CrlEntries = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/** Leaves more numbers above it than a CA can use. */
export const HIGHEST_CRL_FLOOR = 2n ** 159n - 2n ** 64n;

const VERSION_2 = integer(1);

function numberOctets(value: number | bigint): Bytes {
  const number = BigInt(value);
  if (number < 0n || number >= 1n << 159n) throw new RangeError("cRLNumber is from 0 to 2^159 - 1");
  const out = new Uint8Array(20);
  for (let i = 19, rest = number; i >= 0; i--, rest >>= 8n) out[i] = Number(rest & 0xffn);
  return out;
}

/** IssuingDistributionPoint (RFC 5280 section 5.2.5). */
function issuingDistributionPoint(uri: string, onlyContainsUserCerts: boolean): Bytes {
  const onlyUserCerts = onlyContainsUserCerts ? [context(1, false, new Uint8Array([0xff]))] : [];
  return sequence(encodeDistributionPointName([uri]), ...onlyUserCerts);
}

function crlExtensions(parameters: CrlParameters): Bytes {
  const { distributionPoint, onlyContainsUserCerts = false } = parameters;
  if (onlyContainsUserCerts && distributionPoint === null) throw new RangeError("scope without distribution point");
  const point =
    distributionPoint === null
      ? []
      : [
          extension(
            CRL_EXTENSION.issuingDistributionPoint,
            true,
            issuingDistributionPoint(distributionPoint, onlyContainsUserCerts),
          ),
        ];
  return context(
    0,
    true,
    sequence(
      extension(EXTENSION.authorityKeyIdentifier, false, encodeAuthorityKeyIdentifier(parameters.authorityKeyId)),
      extension(CRL_EXTENSION.crlNumber, false, integer(numberOctets(parameters.number))),
      ...point,
    ),
  );
}

/** Tag and length of a SEQUENCE with this many octets of content. */
function sequenceHeader(length: number): Bytes {
  const out = new Uint8Array(1 + lengthOctets(length));
  writeHeader(out, 0, 0x30, length);
  return out;
}

/**
 * Encodes everything of a version 2 CRL before and after its entries: authorityKeyIdentifier, cRLNumber and, for a
 * shard, a critical issuingDistributionPoint; omits revokedCertificates if there are no entries. Throws RangeError on
 * values that cannot be encoded.
 */
export function planCrl(parameters: CrlParameters): CrlPlan {
  const { entriesLength, algorithmIdentifier } = parameters;
  if (!Number.isSafeInteger(entriesLength) || entriesLength < 0 || entriesLength > 0xf000_0000) {
    throw new RangeError("entriesLength is from 0 to about 4 GB");
  }
  if (!(parameters.nextUpdate > parameters.thisUpdate)) throw new RangeError("nextUpdate comes after thisUpdate");
  const head = concat(
    VERSION_2,
    algorithmIdentifier,
    parameters.issuer,
    time(parameters.thisUpdate),
    time(parameters.nextUpdate),
    entriesLength === 0 ? new Uint8Array(0) : sequenceHeader(entriesLength),
  );
  const suffix = crlExtensions(parameters);
  const content = head.length + entriesLength + suffix.length;
  const prefix = concat(sequenceHeader(content), head);
  return {
    prefix,
    entriesLength,
    suffix,
    tbsLength: prefix.length + entriesLength + suffix.length,
    algorithmIdentifier,
  };
}

function signatureElement(length: number): number {
  return 1 + lengthOctets(1 + length) + 1 + length;
}

function contentLength(plan: CrlPlan, signatureLength: number): number {
  return plan.tbsLength + plan.algorithmIdentifier.length + signatureElement(signatureLength);
}

/** Octets of the finished CRL. `signatureLength`: octets of the signature BIT STRING's value. */
export function crlLength(plan: CrlPlan, signatureLength: number): number {
  const content = contentLength(plan, signatureLength);
  return 1 + lengthOctets(content) + content;
}

/** Everything before the TBSCertList. */
export function crlHeader(plan: CrlPlan, signatureLength: number): Bytes {
  return sequenceHeader(contentLength(plan, signatureLength));
}

/** Everything after the TBSCertList. */
export function crlTrailer(plan: CrlPlan, signature: Bytes): Bytes {
  return concat(plan.algorithmIdentifier, bitString(signature));
}

/** Passes the entries through; throws RangeError as soon as their total length differs from the plan. */
async function* measured(plan: CrlPlan, entries: CrlEntries): AsyncGenerator<Uint8Array> {
  let left = plan.entriesLength;
  for await (const chunk of entries) {
    left -= chunk.length;
    if (left < 0) break;
    yield chunk;
  }
  if (left !== 0) throw new RangeError("entries are not as long together as planned");
}

/** First pass: signs the TBSCertList, consuming each chunk before requesting the next. */
export async function signCrl(
  plan: CrlPlan,
  signer: Pick<StreamSigner, "update" | "finish">,
  entries: CrlEntries,
): Promise<Bytes> {
  signer.update(plan.prefix);
  for await (const chunk of measured(plan, entries)) signer.update(chunk);
  signer.update(plan.suffix);
  return signer.finish();
}

/** Second pass: the finished CRL of `crlLength` octets in pieces, from the same entries. */
export async function* crlChunks(plan: CrlPlan, signature: Bytes, entries: CrlEntries): AsyncGenerator<Uint8Array> {
  yield concat(crlHeader(plan, signature.length), plan.prefix);
  yield* measured(plan, entries);
  yield concat(plan.suffix, crlTrailer(plan, signature));
}
