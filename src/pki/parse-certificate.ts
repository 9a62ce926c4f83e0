import { type Bytes, equal, toHex } from "./bytes.ts";
import { bitStringOf, decode, type Element, integerBytes, Reader, smallInteger, TAG, timeOf } from "./der.ts";
import { CertificateError, DerError } from "./errors.ts";
import {
  type AuthorityKeyIdentifier,
  type BasicConstraints,
  EXTENSION,
  type Extension,
  type KeyUsage,
  parseAuthorityInfoAccess,
  parseAuthorityKeyIdentifier,
  parseBasicConstraints,
  parseCertificatePolicies,
  parseCrlDistributionPoints,
  parseExtendedKeyUsage,
  parseExtensions,
  parseKeyUsage,
  parseSubjectKeyIdentifier,
  parseTlsFeature,
} from "./extensions.ts";
import { decodeGeneralNames, type GeneralNames } from "./general-names.ts";
import { decodeNameConstraints, type NameConstraints } from "./name-constraints.ts";
import { type DistinguishedName, parseName } from "./names.ts";
import { verify } from "./signing.ts";
import { type PublicKeyInfo, spkiOf } from "./spki.ts";

/** A parsed certificate. All octets are views of `der`; an absent extension is null or an empty list. */
export interface Certificate {
  readonly der: Bytes;
  /** Whole TBSCertificate: the signed octets. */
  readonly tbs: Bytes;
  /** 1 or 3. */
  readonly version: number;
  /** Lower-case hex without a sign octet. */
  readonly serial: string;
  /** DER of the inner and the outer AlgorithmIdentifier: equal in a valid certificate. */
  readonly tbsSignatureAlgorithm: Bytes;
  readonly signatureAlgorithm: Bytes;
  readonly signature: Bytes;
  readonly issuer: DistinguishedName;
  readonly subject: DistinguishedName;
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** DER Validity, for checking how its times are encoded. */
  readonly validity: Bytes;
  readonly publicKey: PublicKeyInfo;
  readonly extensions: readonly Extension[];
  readonly basicConstraints: BasicConstraints | null;
  readonly keyUsage: readonly KeyUsage[] | null;
  readonly extendedKeyUsage: readonly string[] | null;
  readonly subjectAltName: GeneralNames | null;
  readonly nameConstraints: NameConstraints | null;
  readonly subjectKeyIdentifier: Bytes | null;
  readonly authorityKeyIdentifier: AuthorityKeyIdentifier | null;
  readonly crlUrls: readonly string[];
  readonly ocspUrls: readonly string[];
  readonly caIssuersUrls: readonly string[];
  readonly certificatePolicies: readonly string[];
  /** TLS extension numbers of RFC 7633, or null. */
  readonly tlsFeatures: readonly number[] | null;
  readonly ocspNoCheck: boolean;
  /** Unsupported critical extensions: such a certificate must not be relied on. */
  readonly unknownCritical: readonly string[];
}

/** Maximum size of a certificate, in octets. */
export const MAX_CERTIFICATE_BYTES = 65_536;

/**
 * Parses a certificate of RFC 5280 section 4.1, strict DER, at most 64 KiB. Throws DerError, CertificateError and, for
 * its public key, UnsupportedError. Checks only the form: not the signature, validity or anything that
 * `lintCertificate` checks.
 */
export function parseCertificate(der: Bytes): Certificate {
  const outer = new Reader(expectSequence(decode(der, { maxBytes: MAX_CERTIFICATE_BYTES })));
  const tbsElement = outer.next(TAG.SEQUENCE);
  const signatureAlgorithm = outer.next(TAG.SEQUENCE).bytes;
  const { bytes: signature, unused } = bitStringOf(outer.next(TAG.BIT_STRING));
  outer.end();
  if (unused !== 0) throw new DerError("signatureValue must be whole octets");

  const tbs = new Reader(tbsElement);
  const version = parseVersion(tbs.optional(0xa0));
  const serialNumber = integerBytes(tbs.next(TAG.INTEGER));
  const tbsSignatureAlgorithm = tbs.next(TAG.SEQUENCE).bytes;
  const issuer = parseName(tbs.next());
  const validityElement = tbs.next(TAG.SEQUENCE);
  const validity = new Reader(validityElement);
  const notBefore = timeOf(validity.next());
  const notAfter = timeOf(validity.next());
  validity.end();
  const subject = parseName(tbs.next());
  const publicKey = spkiOf(tbs.next());
  if (
    tbs.optional(0x81) !== null ||
    tbs.optional(0xa1) !== null ||
    tbs.optional(0x82) !== null ||
    tbs.optional(0xa2) !== null
  ) {
    throw new CertificateError("unique identifiers are not used (RFC 5280 section 4.1.2.8)");
  }
  const extensionsElement = tbs.optional(0xa3);
  tbs.end();
  if (extensionsElement !== null && version !== 3) throw new CertificateError("extensions need version 3");
  return {
    der,
    tbs: tbsElement.bytes,
    version,
    serial: toHex(serialNumber),
    tbsSignatureAlgorithm,
    signatureAlgorithm,
    signature,
    issuer,
    subject,
    notBefore,
    notAfter,
    validity: validityElement.bytes,
    publicKey,
    ...readExtensions(extensionsElement),
  };
}

function expectSequence(element: Element): Element {
  if (element.tag !== TAG.SEQUENCE) throw new DerError("Certificate must be a SEQUENCE");
  return element;
}

function parseVersion(element: Element | null): number {
  if (element === null) return 1;
  const reader = new Reader(element);
  const version = smallInteger(reader.next(TAG.INTEGER));
  reader.end();
  if (version === 0) throw new DerError("the default version must be left out");
  if (version > 2) throw new CertificateError("unknown certificate version");
  return version + 1;
}

type Extended = Pick<
  Certificate,
  | "extensions"
  | "basicConstraints"
  | "keyUsage"
  | "extendedKeyUsage"
  | "subjectAltName"
  | "nameConstraints"
  | "subjectKeyIdentifier"
  | "authorityKeyIdentifier"
  | "crlUrls"
  | "ocspUrls"
  | "caIssuersUrls"
  | "certificatePolicies"
  | "tlsFeatures"
  | "ocspNoCheck"
  | "unknownCritical"
>;

const KNOWN: ReadonlySet<string> = new Set(Object.values(EXTENSION));

function readExtensions(wrapper: Element | null): Extended {
  let extensions: Extension[] = [];
  if (wrapper !== null) {
    const reader = new Reader(wrapper);
    extensions = parseExtensions(reader.next(TAG.SEQUENCE));
    reader.end();
  }
  const byOid = new Map(extensions.map((extension) => [extension.oid, extension]));
  const read = <T>(id: string, parse: (element: Element) => T): T | null => {
    const extension = byOid.get(id);
    return extension === undefined ? null : parse(decode(extension.value));
  };
  const access = read(EXTENSION.authorityInfoAccess, parseAuthorityInfoAccess);
  return {
    extensions,
    basicConstraints: read(EXTENSION.basicConstraints, parseBasicConstraints),
    keyUsage: read(EXTENSION.keyUsage, parseKeyUsage),
    extendedKeyUsage: read(EXTENSION.extendedKeyUsage, parseExtendedKeyUsage),
    subjectAltName: read(EXTENSION.subjectAltName, parseSubjectAltName),
    nameConstraints: read(EXTENSION.nameConstraints, decodeNameConstraints),
    subjectKeyIdentifier: read(EXTENSION.subjectKeyIdentifier, parseSubjectKeyIdentifier),
    authorityKeyIdentifier: read(EXTENSION.authorityKeyIdentifier, parseAuthorityKeyIdentifier),
    crlUrls: read(EXTENSION.crlDistributionPoints, parseCrlDistributionPoints) ?? [],
    ocspUrls: access?.ocspUrls ?? [],
    caIssuersUrls: access?.caIssuersUrls ?? [],
    certificatePolicies: read(EXTENSION.certificatePolicies, parseCertificatePolicies) ?? [],
    tlsFeatures: read(EXTENSION.tlsFeature, parseTlsFeature),
    ocspNoCheck: read(EXTENSION.ocspNoCheck, parseNull) ?? false,
    unknownCritical: extensions.flatMap(({ oid, critical }) => (critical && !KNOWN.has(oid) ? [oid] : [])),
  };
}

/** The value of a subjectAltName extension; throws DerError. */
export function parseSubjectAltName(element: Element): GeneralNames {
  return decodeGeneralNames(expectSequence(element));
}

function parseNull(element: Element): true {
  if (element.tag !== TAG.NULL) throw new DerError("id-pkix-ocsp-nocheck must be NULL");
  return true;
}

/**
 * Whether the parent issued the child (RFC 5280 section 6.1.3 a): names chain octet for octet, key identifiers agree if
 * both are present, both AlgorithmIdentifiers are equal, and the signature is valid. Does not check validity periods,
 * CA flags or path length. Throws UnsupportedError for an unsupported signature algorithm.
 */
export async function verifyIssued(child: Certificate, parent: Certificate): Promise<boolean> {
  if (!equal(child.issuer.der, parent.subject.der)) return false;
  if (!equal(child.signatureAlgorithm, child.tbsSignatureAlgorithm)) return false;
  const wanted = child.authorityKeyIdentifier?.keyIdentifier ?? null;
  const own = parent.subjectKeyIdentifier;
  if (wanted !== null && own !== null && !equal(wanted, own)) return false;
  return verify(parent.publicKey, child.signatureAlgorithm, child.signature, child.tbs);
}
