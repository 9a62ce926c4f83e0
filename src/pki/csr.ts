import type { Bytes } from "./bytes.ts";
import { bitStringOf, decode, type Element, oidOf, Reader, smallInteger, stringOf, TAG } from "./der.ts";
import { CsrError, DerError } from "./errors.ts";
import {
  EXTENSION,
  type Extension,
  type KeyUsage,
  parseBasicConstraints,
  parseExtendedKeyUsage,
  parseExtensions,
  parseKeyUsage,
  parseTlsFeature,
} from "./extensions.ts";
import { canonicalName, type GeneralName } from "./general-names.ts";
import { type DistinguishedName, parseName } from "./names.ts";
import { parseSubjectAltName } from "./parse-certificate.ts";
import { decodePem } from "./pem.ts";
import { verify } from "./signing.ts";
import { type PublicKeyInfo, spkiOf } from "./spki.ts";

/** A certification request, parsed: what somebody asks for, never what will be certified. */
export interface Csr {
  readonly der: Bytes;
  /** CertificationRequestInfo, whole: what the signature is over. */
  readonly info: Bytes;
  readonly signatureAlgorithm: Bytes;
  readonly signature: Bytes;
  readonly subject: DistinguishedName;
  /** The only commonName of the subject, or null; several are refused. */
  readonly commonName: string | null;
  readonly publicKey: PublicKeyInfo;
  /** Canonical, without doubles, in the order of the request. The CN is not among them unless it was asked for. */
  readonly sans: readonly GeneralName[];
  /** Names of the types that are never certified here, as `otherName 1.3.6.1.4.1.311.20.2.3`. */
  readonly otherNames: readonly string[];
  /** As `serverAuth`, else dotted numbers; empty where none were asked for. */
  readonly requestedEkus: readonly string[];
  readonly requestedKeyUsage: readonly KeyUsage[] | null;
  readonly isCa: boolean;
  readonly mustStaple: boolean;
  readonly extensionOids: readonly string[];
  /** Those of them with a meaning here: SAN, key usages, basicConstraints, TLS feature, SKI. All others are unknown. */
  readonly unknownExtensionOids: readonly string[];
  readonly attributeOids: readonly string[];
  /** RFC 2985 section 5.4.1, for SCEP and EST; null where there is none. */
  readonly challengePassword: string | null;
}

const EXTENSION_REQUEST = "1.2.840.113549.1.9.14";
const MICROSOFT_EXTENSION_REQUEST = "1.3.6.1.4.1.311.2.1.14";
const CHALLENGE_PASSWORD = "1.2.840.113549.1.9.7";
const COMMON_NAME = "2.5.4.3";
const MAX_CSR_BYTES = 65_536;
const MAX_ATTRIBUTES = 32;

const UNDERSTOOD: ReadonlySet<string> = new Set([
  EXTENSION.subjectAltName,
  EXTENSION.keyUsage,
  EXTENSION.extendedKeyUsage,
  EXTENSION.basicConstraints,
  EXTENSION.tlsFeature,
  EXTENSION.subjectKeyIdentifier,
]);

/**
 * A PKCS#10 request (RFC 2986 section 4) as PEM text (`CERTIFICATE REQUEST`, one) or DER, strict DER, at most 64 KiB. Throws
 * PkiError: DerError, EncodingError, CsrError, NameError for a SAN that is not valid for its type, UnsupportedError for the
 * key. Trusts nothing: see `verifyCsr` and `assertStrongKey`.
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
  const attributes = readAttributes(info.next(0xa0));
  info.end();

  const names = subject.attributes.filter(({ type }) => type === COMMON_NAME);
  if (names.length > 1) throw new CsrError("subject with more than one commonName");
  return {
    der,
    info: infoElement.bytes,
    signatureAlgorithm,
    signature,
    subject,
    commonName: subject.commonName,
    publicKey,
    ...readExtensions(attributes),
    attributeOids: attributes.map(({ oid }) => oid),
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
  const asked = attributes.filter(({ oid }) => oid === EXTENSION_REQUEST || oid === MICROSOFT_EXTENSION_REQUEST);
  if (asked.length > 1 || (asked[0]?.values.length ?? 1) !== 1) throw new CsrError("more than one extension request");
  const value = asked[0]?.values[0];
  const extensions: Extension[] = value === undefined || value.content.length === 0 ? [] : parseExtensions(value);
  const read = <T>(id: string, parse: (element: Element) => T): T | null => {
    const extension = extensions.find(({ oid }) => oid === id);
    return extension === undefined ? null : parse(decode(extension.value));
  };
  const alternative = read(EXTENSION.subjectAltName, parseSubjectAltName);
  const extensionOids = extensions.map(({ oid }) => oid);
  return {
    sans: withoutDoubles((alternative?.names ?? []).map(canonicalName)),
    otherNames: alternative?.others ?? [],
    requestedEkus: read(EXTENSION.extendedKeyUsage, parseExtendedKeyUsage) ?? [],
    requestedKeyUsage: read(EXTENSION.keyUsage, parseKeyUsage),
    isCa: read(EXTENSION.basicConstraints, parseBasicConstraints)?.ca ?? false,
    mustStaple: read(EXTENSION.tlsFeature, parseTlsFeature)?.includes(5) ?? false,
    extensionOids,
    unknownExtensionOids: extensionOids.filter((id) => !UNDERSTOOD.has(id)),
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
 * Proof of possession (RFC 2986 section 3): whether the request is signed by the private half of its own key. Throws
 * UnsupportedError for a signature algorithm that is not offered (SHA-1 and MD5 among them).
 */
export async function verifyCsr(csr: Csr): Promise<boolean> {
  return verify(csr.publicKey, csr.signatureAlgorithm, csr.signature, csr.info);
}
