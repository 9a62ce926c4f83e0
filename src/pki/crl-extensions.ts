import type { Bytes } from "./bytes.ts";
import { asciiText, decode, integerBytes, Reader, smallInteger, TAG } from "./der.ts";
import { DerError } from "./errors.ts";
import { EXTENSION, parseAuthorityKeyIdentifier, parseExtensions } from "./extensions.ts";

/** Reads the extensions of a CRL and of its entries (RFC 5280 sections 5.2 and 5.3). Everything here throws PkiError. */

export const CRL_EXTENSION = {
  crlNumber: "2.5.29.20",
  reasonCode: "2.5.29.21",
  invalidityDate: "2.5.29.24",
  deltaCrlIndicator: "2.5.29.27",
  issuingDistributionPoint: "2.5.29.28",
} as const;

export interface CrlExtensions {
  /** cRLNumber. */
  readonly number: bigint | null;
  /** keyIdentifier of the authorityKeyIdentifier. */
  readonly authorityKeyId: Bytes | null;
  /** The URI of the issuingDistributionPoint's fullName; null if the list is complete. */
  readonly distributionPoint: string | null;
  readonly onlyContainsUserCerts: boolean;
  readonly onlyContainsCaCerts: boolean;
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
  // Refuses partial-reason, indirect and attribute-certificate lists: they cover less than they seem to.
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

/** Reads the content of crlExtensions' explicit tag; null: no extensions. Refuses unknown critical ones. */
export function readCrlExtensions(tagged: Reader | null): CrlExtensions {
  if (tagged === null) return NONE;
  const extensions = parseExtensions(tagged.next(TAG.SEQUENCE));
  tagged.end();
  let result = NONE;
  for (const { oid, critical, value } of extensions) {
    if (oid === EXTENSION.authorityKeyIdentifier) {
      result = { ...result, authorityKeyId: parseAuthorityKeyIdentifier(decode(value)).keyIdentifier };
    } else if (oid === CRL_EXTENSION.crlNumber) result = { ...result, number: readNumber(value) };
    else if (oid === CRL_EXTENSION.issuingDistributionPoint) {
      if (!critical) throw new DerError("issuingDistributionPoint must be critical");
      result = { ...result, ...readDistributionPoint(value) };
    } else if (critical) throw new DerError(`critical extension ${oid} is not understood`);
  }
  return result;
}

/** The CRLReason in DER crlEntryExtensions, 0 if absent. Refuses unknown critical extensions. */
export function readEntryReason(der: Bytes): number {
  let reason = 0;
  for (const { oid, critical, value } of parseExtensions(decode(der))) {
    if (oid === CRL_EXTENSION.reasonCode) {
      const reasonElement = decode(value);
      if (reasonElement.tag !== TAG.ENUMERATED) throw new DerError("reasonCode is not ENUMERATED");
      reason = smallInteger(reasonElement);
      if (reason > 10 || reason === 7) throw new DerError("reasonCode that does not exist");
    } else if (critical) throw new DerError(`critical extension ${oid} of an entry is not understood`);
  }
  return reason;
}
