import { type Bytes, equal, toHex } from "./bytes.ts";
import { CRL_EXTENSION } from "./crl-extensions.ts";
import { type CrlEntry, CrlError } from "./crl-read.ts";
import { bitStringOf, decode, type Element, integerBytes, Reader, smallInteger, TAG, timeOf } from "./der.ts";
import { UnsupportedError } from "./errors.ts";
import { type Extension, parseExtensions } from "./extensions.ts";
import type { Certificate } from "./parse-certificate.ts";
import { verify } from "./signing.ts";

/**
 * Parses a CRL of another CA software, version 1 or 2, to import its entries. `CrlChecker` reads our own more strictly.
 */
export interface ForeignCrl {
  /** DER Name. */
  readonly issuer: Bytes;
  /** cRLNumber, or null. */
  readonly number: bigint | null;
  readonly entries: readonly CrlEntry[];
  /** Whole TBSCertList: the signed octets. */
  readonly tbs: Bytes;
  readonly algorithmIdentifier: Bytes;
  readonly signature: Bytes;
}

const MAX_BYTES = 32 * 1024 * 1024;
/** Extensions that may be critical without preventing an import of the entries. */
const HARMLESS: ReadonlySet<string> = new Set([
  CRL_EXTENSION.crlNumber,
  CRL_EXTENSION.reasonCode,
  CRL_EXTENSION.invalidityDate,
  CRL_EXTENSION.issuingDistributionPoint,
]);
const INDIRECT_CRL = 0x84;
const LENIENT = { explicitDefaults: true };

/**
 * Parses a CertificateList (RFC 5280 section 5.1) of at most 32 MiB. Throws DerError, CrlError, UnsupportedError; does
 * not check the signature.
 */
export function parseForeignCrl(der: Bytes): ForeignCrl {
  const outer = new Reader(decode(der, { maxBytes: MAX_BYTES }));
  const tbsElement = outer.next(TAG.SEQUENCE);
  const algorithmIdentifier = outer.next(TAG.SEQUENCE).bytes;
  const { bytes: signature } = bitStringOf(outer.next(TAG.BIT_STRING));
  outer.end();
  const tbs = new Reader(tbsElement);
  const version = tbs.optional(TAG.INTEGER);
  if (version !== null && smallInteger(version) !== 1) throw new CrlError("unknown version of the CRL");
  tbs.next(TAG.SEQUENCE);
  const issuer = tbs.next(TAG.SEQUENCE).bytes;
  timeOf(tbs.next());
  if (tbs.optional(TAG.UTC_TIME) === null) tbs.optional(TAG.GENERALIZED_TIME);
  const list = tbs.optional(TAG.SEQUENCE);
  const wrapper = tbs.optional(0xa0);
  tbs.end();
  return {
    issuer,
    number: wrapper === null ? null : readNumber(wrapper),
    entries: list === null ? [] : readEntries(new Reader(list)),
    tbs: tbsElement.bytes,
    algorithmIdentifier,
    signature,
  };
}

function readNumber(wrapper: Element): bigint | null {
  const reader = new Reader(wrapper);
  const extensions = understood(reader.next(TAG.SEQUENCE));
  reader.end();
  for (const { oid, value } of extensions) {
    if (oid === CRL_EXTENSION.deltaCrlIndicator)
      throw new CrlError("a delta CRL lacks most entries: give the complete one");
    if (oid === CRL_EXTENSION.issuingDistributionPoint && isIndirect(value)) {
      throw new CrlError("an indirect CRL has entries of several CAs: give a list of revocations instead");
    }
  }
  const number = extensions.find(({ oid }) => oid === CRL_EXTENSION.crlNumber);
  return number === undefined ? null : BigInt(`0x${toHex(integerBytes(decode(number.value)))}`);
}

function isIndirect(value: Bytes): boolean {
  const reader = new Reader(decode(value));
  while (reader.more) if (reader.next().tag === INDIRECT_CRL) return true;
  return false;
}

function understood(element: Element): Extension[] {
  const extensions = parseExtensions(element, LENIENT);
  const strange = extensions.find(
    ({ oid, critical }) => critical && oid !== CRL_EXTENSION.deltaCrlIndicator && !HARMLESS.has(oid),
  );
  if (strange) throw new UnsupportedError(`critical extension ${strange.oid} that is not known here`);
  return extensions;
}

function readEntries(list: Reader): CrlEntry[] {
  const entries: CrlEntry[] = [];
  while (list.more) {
    const reader = new Reader(list.next(TAG.SEQUENCE));
    const serial = toHex(integerBytes(reader.next(TAG.INTEGER)));
    if (serial.length > 40) throw new CrlError("serial is longer than 20 octets");
    const revokedAt = timeOf(reader.next());
    const extensions = reader.optional(TAG.SEQUENCE);
    reader.end();
    const code = extensions && understood(extensions).find(({ oid }) => oid === CRL_EXTENSION.reasonCode);
    entries.push({ serial, revokedAt, reason: code ? smallInteger(decode(code.value)) : 0 });
  }
  return entries;
}

/** Parses a CRL and verifies its signature against the CA's certificate. Throws like `parseForeignCrl`. */
export async function readCrlOf(ca: Pick<Certificate, "subject" | "publicKey">, der: Bytes): Promise<ForeignCrl> {
  const crl = parseForeignCrl(der);
  if (!equal(crl.issuer, ca.subject.der)) throw new CrlError("is of another CA: its issuer is not this CA's subject");
  if (!(await verify(ca.publicKey, crl.algorithmIdentifier, crl.signature, crl.tbs)))
    throw new CrlError("its signature is not by this CA's key");
  return crl;
}
