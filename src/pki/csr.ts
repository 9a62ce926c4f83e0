import type { Bytes } from "./bytes.ts";
import { bitStringOf, decode, type Element, oidOf, Reader, smallInteger, stringOf, TAG } from "./der.ts";
import { CsrError, DerError } from "./errors.ts";
import {
  EXTENSION,
  type Extension,
  parseBasicConstraints,
  parseExtendedKeyUsage,
  parseExtensions,
  parseTlsFeature,
} from "./extensions.ts";
import { canonicalName, type GeneralName } from "./general-names.ts";
import { attributeLabel, type DistinguishedName, parseName } from "./names.ts";
import { parseSubjectAltName } from "./parse-certificate.ts";
import { decodePem } from "./pem.ts";
import { verify } from "./signing.ts";
import { type PublicKeyInfo, spkiOf } from "./spki.ts";

/** A parsed certification request: what the client asks for, not what will be certified. */
export interface Csr {
  readonly der: Bytes;
  /** Whole CertificationRequestInfo: the signed octets. */
  readonly info: Bytes;
  readonly signatureAlgorithm: Bytes;
  readonly signature: Bytes;
  readonly subject: DistinguishedName;
  /** The subject's only commonName, or null; several are refused. */
  readonly commonName: string | null;
  readonly publicKey: PublicKeyInfo;
  /** Canonical, without duplicates, in the request's order. Includes the CN only if the request lists it as a SAN. */
  readonly sans: readonly GeneralName[];
  /** Names of types that are never certified here, such as `otherName 1.3.6.1.4.1.311.20.2.3`. */
  readonly otherNames: readonly string[];
  /** Names such as `serverAuth`, else dotted numbers; empty if none were requested. */
  readonly requestedEkus: readonly string[];
  readonly isCa: boolean;
  readonly mustStaple: boolean;
  readonly extensionOids: readonly string[];
  readonly attributeOids: readonly string[];
  /**
   * Parts of the request that do not affect the certificate, in words: `extension sMIMECapabilities
   * (1.2.840.113549.1.9.15)`.
   */
  readonly ignored: readonly string[];
  /** RFC 2985 section 5.4.1, for SCEP and EST; null if absent. */
  readonly challengePassword: string | null;
}

const EXTENSION_REQUEST = "1.2.840.113549.1.9.14";
const MICROSOFT_EXTENSION_REQUEST = "1.3.6.1.4.1.311.2.1.14";
const CHALLENGE_PASSWORD = "1.2.840.113549.1.9.7";
const COMMON_NAME = "2.5.4.3";
const MAX_CSR_BYTES = 65_536;
const MAX_ATTRIBUTES = 32;
const LENIENT = { explicitDefaults: true };

/** Extensions that are checked against record and profile. */
const CHECKED: ReadonlySet<string> = new Set([
  EXTENSION.subjectAltName,
  EXTENSION.extendedKeyUsage,
  EXTENSION.basicConstraints,
  EXTENSION.tlsFeature,
]);

/** Common names of attributes and extensions that clients put into requests. */
const NAMES: ReadonlyMap<string, string> = new Map([
  [EXTENSION.keyUsage, "keyUsage"],
  [EXTENSION.subjectKeyIdentifier, "subjectKeyIdentifier"],
  [EXTENSION.authorityKeyIdentifier, "authorityKeyIdentifier"],
  [EXTENSION.certificatePolicies, "certificatePolicies"],
  ["1.2.840.113549.1.9.15", "sMIMECapabilities"],
  ["2.16.840.1.113730.1.1", "nsCertType"],
  ["2.16.840.1.113730.1.13", "nsComment"],
  ["1.3.6.1.4.1.311.20.2", "Microsoft certificate template name"],
  ["1.3.6.1.4.1.311.21.7", "Microsoft certificate template"],
  ["1.3.6.1.4.1.311.21.10", "Microsoft application policies"],
  ["1.3.6.1.4.1.311.25.2", "Microsoft NTDS security"],
  ["1.3.6.1.4.1.311.13.2.1", "Microsoft enrollment name value pair"],
  ["1.3.6.1.4.1.311.13.2.2", "Microsoft enrollment CSP"],
  ["1.3.6.1.4.1.311.13.2.3", "Microsoft OS version"],
  ["1.3.6.1.4.1.311.21.20", "Microsoft client information"],
  ["1.2.840.113549.1.9.2", "unstructuredName"],
  [CHALLENGE_PASSWORD, "challengePassword"],
]);

/**
 * Parses a PKCS#10 request (RFC 2986 section 4): PEM text (`CERTIFICATE REQUEST`, one) or DER, at most 64 KiB. Strict
 * DER, with two exceptions for real clients: attributes may be omitted, and a default FALSE may be written out. Throws
 * PkiError: DerError, EncodingError, CsrError, NameError for a SAN that is invalid for its type, UnsupportedError for
 * the key. Verifies nothing: see `verifyCsr` and `assertStrongKey`.
 */
export function parseCsr(pemOrDer: string | Bytes): Csr {
  const der = typeof pemOrDer === "string" ? csrFromPem(pemOrDer) : pemOrDer;
  const outer = new Reader(decode(der, { maxBytes: MAX_CSR_BYTES }));
  const infoElement = outer.next(TAG.SEQUENCE);
  const signatureAlgorithm = outer.next(TAG.SEQUENCE).bytes;
  const { bytes: signature, unused } = bitStringOf(outer.next(TAG.BIT_STRING));
  outer.end();
  if (unused !== 0) throw new DerError("signature must be whole octets");

  const info = new Reader(infoElement);
  if (smallInteger(info.next(TAG.INTEGER)) !== 0) throw new CsrError("unknown version of the request");
  const subject = parseName(info.next());
  const publicKey = spkiOf(info.next());
  const attributesElement = info.optional(0xa0);
  const attributes = attributesElement === null ? [] : readAttributes(attributesElement);
  info.end();

  const names = subject.attributes.filter(({ type }) => type === COMMON_NAME);
  if (names.length > 1) throw new CsrError("subject with more than one commonName");
  const asked = readExtensions(attributes);
  return {
    der,
    info: infoElement.bytes,
    signatureAlgorithm,
    signature,
    subject,
    commonName: subject.commonName,
    publicKey,
    ...asked,
    attributeOids: attributes.map(({ oid }) => oid),
    ignored: ignoredOf(subject, attributes, asked.extensionOids),
    challengePassword: challengeOf(attributes),
  };
}

function csrFromPem(text: string): Bytes {
  const [block, ...more] = decodePem(text, 2 * MAX_CSR_BYTES);
  if (block === undefined || more.length > 0) throw new CsrError("expected exactly one certificate request");
  if (block.label !== "CERTIFICATE REQUEST" && block.label !== "NEW CERTIFICATE REQUEST") {
    throw new CsrError(`expected CERTIFICATE REQUEST, found ${block.label}`);
  }
  return block.der;
}

/** Everything that no rule checks: it never enters a certificate, and the client is told. */
function ignoredOf(
  subject: DistinguishedName,
  attributes: readonly Attribute[],
  extensionOids: readonly string[],
): string[] {
  const named = (id: string) => (NAMES.has(id) ? `${NAMES.get(id)} (${id})` : id);
  const others = subject.attributes.filter(({ type }) => type !== COMMON_NAME);
  return [
    ...new Set(others.map(({ type }) => `subject attribute ${attributeLabel(type)}`)),
    ...extensionOids.filter((id) => !CHECKED.has(id)).map((id) => `extension ${named(id)}`),
    ...attributes.filter(({ oid }) => !isExtensionRequest(oid)).map(({ oid }) => `attribute ${named(oid)}`),
  ];
}

function isExtensionRequest(oid: string): boolean {
  return oid === EXTENSION_REQUEST || oid === MICROSOFT_EXTENSION_REQUEST;
}

interface Attribute {
  readonly oid: string;
  readonly values: readonly Element[];
}

function readAttributes(element: Element): Attribute[] {
  const attributes: Attribute[] = [];
  const reader = new Reader(element);
  while (reader.more) {
    const parts = new Reader(reader.next(TAG.SEQUENCE));
    const oid = oidOf(parts.next(TAG.OID));
    const set = new Reader(parts.next(TAG.SET));
    parts.end();
    const values: Element[] = [];
    do values.push(set.next());
    while (set.more);
    if (attributes.some((attribute) => attribute.oid === oid)) throw new CsrError(`attribute ${oid} stands twice`);
    if (attributes.push({ oid, values }) > MAX_ATTRIBUTES) throw new CsrError(`more than ${MAX_ATTRIBUTES} attributes`);
  }
  return attributes;
}

function readExtensions(attributes: readonly Attribute[]) {
  const asked = attributes.filter(({ oid }) => isExtensionRequest(oid));
  if (asked.length > 1 || (asked[0]?.values.length ?? 1) !== 1) throw new CsrError("more than one extension request");
  const value = asked[0]?.values[0];
  const extensions: Extension[] =
    value === undefined || value.content.length === 0 ? [] : parseExtensions(value, LENIENT);
  const read = <T>(id: string, parse: (element: Element) => T): T | null => {
    const extension = extensions.find(({ oid }) => oid === id);
    return extension === undefined ? null : parse(decode(extension.value));
  };
  const constraints = read(EXTENSION.basicConstraints, (element) => parseBasicConstraints(element, LENIENT));
  const alternative = read(EXTENSION.subjectAltName, parseSubjectAltName);
  return {
    sans: withoutDoubles((alternative?.names ?? []).map(canonicalName)),
    otherNames: alternative?.others ?? [],
    requestedEkus: read(EXTENSION.extendedKeyUsage, parseExtendedKeyUsage) ?? [],
    isCa: constraints?.ca ?? false,
    mustStaple: read(EXTENSION.tlsFeature, parseTlsFeature)?.includes(5) ?? false,
    extensionOids: extensions.map(({ oid }) => oid),
  };
}

function withoutDoubles(names: readonly GeneralName[]): GeneralName[] {
  return [...new Map(names.map((name) => [`${name.type}:${name.value}`, name])).values()];
}

function challengeOf(attributes: readonly Attribute[]): string | null {
  const found = attributes.find(({ oid }) => oid === CHALLENGE_PASSWORD);
  if (found === undefined) return null;
  const [value, ...more] = found.values;
  if (value === undefined || more.length > 0) throw new CsrError("challengePassword must have one value");
  return stringOf(value);
}

/**
 * Proof of possession (RFC 2986 section 3): whether the request is signed with the private half of its own key. Throws
 * UnsupportedError for an unsupported signature algorithm (including SHA-1 and MD5).
 */
export async function verifyCsr(csr: Csr): Promise<boolean> {
  return verify(csr.publicKey, csr.signatureAlgorithm, csr.signature, csr.info);
}
