import type { Bytes } from "./bytes.ts";
import { asciiText, booleanOf, decode, integerBytes, octetStringOf, oidOf, Reader, smallInteger, TAG } from "./der.ts";
import { DerError } from "./errors.ts";

/** Reads the extensions of a CRL and of its entries (RFC 5280 sections 5.2 and 5.3). Everything here throws DerError. */

export interface CrlExtensions {
  /** cRLNumber. */
  readonly number: bigint | null;
  /** keyIdentifier of the authorityKeyIdentifier. */
  readonly authorityKeyId: Bytes | null;
  /** The URI of the issuingDistributionPoint's fullName; null when the list is complete. */
  readonly distributionPoint: string | null;
  readonly onlyContainsUserCerts: boolean;
  readonly onlyContainsCaCerts: boolean;
}

interface Extension {
  readonly oid: string;
  readonly critical: boolean;
  readonly value: Bytes;
}

const MAX_EXTENSIONS = 32;

/** The elements of a DER Extensions; each identifier once. */
function readExtensions(list: Reader): Extension[] {
  const found: Extension[] = [];
  do {
    const reader = new Reader(list.next(TAG.SEQUENCE));
    const oid = oidOf(reader.next(TAG.OID));
    const flag = reader.optional(TAG.BOOLEAN);
    if (flag !== null && !booleanOf(flag)) throw new DerError("FALSE is the default and never written");
    const value = octetStringOf(reader.next(TAG.OCTET_STRING));
    reader.end();
    if (found.some((other) => other.oid === oid)) throw new DerError(`extension ${oid} stands twice`);
    if (found.length === MAX_EXTENSIONS) throw new DerError("too many extensions");
    found.push({ oid, critical: flag !== null, value });
  } while (list.more);
  return found;
}

function readAuthorityKeyId(value: Bytes): Bytes | null {
  const element = decode(value);
  if (element.tag !== TAG.SEQUENCE) throw new DerError("authorityKeyIdentifier is not a SEQUENCE");
  return new Reader(element).optional(0x80)?.content ?? null;
}

function readNumber(value: Bytes): bigint {
  const octets = integerBytes(decode(value));
  if (octets.length > 20) throw new DerError("cRLNumber is longer than 20 octets");
  let number = 0n;
  for (const octet of octets) number = number * 256n + BigInt(octet);
  return number;
}

function readFlag(reader: Reader, tag: number): boolean {
  const element = reader.optional(tag);
  if (element === null) return false;
  if (element.content.length !== 1 || element.content[0] !== 0xff) throw new DerError("BOOLEAN that is not TRUE");
  return true;
}

function readFullName(reader: Reader): string | null {
  const point = reader.optional(0xa0);
  if (point === null) return null;
  const choice = new Reader(point);
  const names = new Reader(choice.next(0xa0));
  choice.end();
  const uri = asciiText(names.next(0x86).content);
  names.end();
  return uri;
}

function readDistributionPoint(value: Bytes): Omit<CrlExtensions, "number" | "authorityKeyId"> {
  const element = decode(value);
  if (element.tag !== TAG.SEQUENCE) throw new DerError("issuingDistributionPoint is not a SEQUENCE");
  const reader = new Reader(element);
  const distributionPoint = readFullName(reader);
  const onlyContainsUserCerts = readFlag(reader, 0x81);
  const onlyContainsCaCerts = readFlag(reader, 0x82);
  // Lists for some reasons only, indirect ones, and those for attribute certificates say less than they seem to.
  reader.end();
  return { distributionPoint, onlyContainsUserCerts, onlyContainsCaCerts };
}

const NONE: CrlExtensions = {
  number: null,
  authorityKeyId: null,
  distributionPoint: null,
  onlyContainsUserCerts: false,
  onlyContainsCaCerts: false,
};

/** The content of crlExtensions' explicit tag, or null when there is none. Refuses critical ones that are not understood. */
export function readCrlExtensions(tagged: Reader | null): CrlExtensions {
  if (tagged === null) return NONE;
  const list = new Reader(tagged.next(TAG.SEQUENCE));
  tagged.end();
  let result = NONE;
  for (const { oid, critical, value } of readExtensions(list)) {
    if (oid === "2.5.29.35") result = { ...result, authorityKeyId: readAuthorityKeyId(value) };
    else if (oid === "2.5.29.20") result = { ...result, number: readNumber(value) };
    else if (oid === "2.5.29.28") {
      if (!critical) throw new DerError("issuingDistributionPoint must be critical");
      result = { ...result, ...readDistributionPoint(value) };
    } else if (critical) throw new DerError(`critical extension ${oid} is not understood`);
  }
  return result;
}

/** The CRLReason in DER crlEntryExtensions, 0 when there is none. Refuses critical ones that are not understood. */
export function readEntryReason(der: Bytes): number {
  const element = decode(der);
  if (element.tag !== TAG.SEQUENCE) throw new DerError("crlEntryExtensions is not a SEQUENCE");
  let reason = 0;
  for (const { oid, critical, value } of readExtensions(new Reader(element))) {
    if (oid === "2.5.29.21") {
      const reasonElement = decode(value);
      if (reasonElement.tag !== TAG.ENUMERATED) throw new DerError("reasonCode is not ENUMERATED");
      reason = smallInteger(reasonElement);
      if (reason > 10 || reason === 7) throw new DerError("reasonCode that does not exist");
    } else if (critical) throw new DerError(`critical extension ${oid} of an entry is not understood`);
  }
  return reason;
}
