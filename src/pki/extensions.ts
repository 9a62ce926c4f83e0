import type { Bytes } from "./bytes.ts";
import {
  bitStringOf,
  boolean,
  booleanOf,
  Cursor,
  contentStart,
  context,
  type Element,
  integer,
  namedBits,
  octetString,
  octetStringOf,
  oid,
  oidFromContent,
  oidOf,
  Reader,
  sequence,
  smallInteger,
  TAG,
} from "./der.ts";
import { CertificateError, DerError } from "./errors.ts";
import { decodeGeneralName, decodeGeneralNames, encodeUri } from "./general-names.ts";

/** Extension values of RFC 5280 section 4.2, RFC 6960 and RFC 7633, with one encoder and one parser each. */

export const EXTENSION = {
  subjectKeyIdentifier: "2.5.29.14",
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  nameConstraints: "2.5.29.30",
  crlDistributionPoints: "2.5.29.31",
  certificatePolicies: "2.5.29.32",
  authorityKeyIdentifier: "2.5.29.35",
  extendedKeyUsage: "2.5.29.37",
  authorityInfoAccess: "1.3.6.1.5.5.7.1.1",
  tlsFeature: "1.3.6.1.5.5.7.1.24",
  ocspNoCheck: "1.3.6.1.5.5.7.48.1.5",
} as const;

const ACCESS_OCSP = "1.3.6.1.5.5.7.48.1";
const ACCESS_CA_ISSUERS = "1.3.6.1.5.5.7.48.2";

/** Extended key usages of a leaf, by name. */
export const LEAF_EKUS = ["serverAuth", "clientAuth", "codeSigning", "emailProtection", "timeStamping"] as const;

/** Extended key usages by name. */
const EKU_BY_NAME: ReadonlyMap<string, string> = new Map([
  ["serverAuth", "1.3.6.1.5.5.7.3.1"],
  ["clientAuth", "1.3.6.1.5.5.7.3.2"],
  ["codeSigning", "1.3.6.1.5.5.7.3.3"],
  ["emailProtection", "1.3.6.1.5.5.7.3.4"],
  ["timeStamping", "1.3.6.1.5.5.7.3.8"],
  ["OCSPSigning", "1.3.6.1.5.5.7.3.9"],
  ["anyExtendedKeyUsage", "2.5.29.37.0"],
]);
const EKU_BY_OID: ReadonlyMap<string, string> = new Map([...EKU_BY_NAME].map(([name, id]) => [id, name]));

/** The object identifier of an EKU, from its name or dotted numbers. */
export function ekuOid(nameOrOid: string): string {
  return EKU_BY_NAME.get(nameOrOid) ?? nameOrOid;
}

/** The name of an EKU if known here, else its dotted numbers. */
export function ekuName(id: string): string {
  return EKU_BY_OID.get(id) ?? id;
}

/** RFC 5280 section 4.2.1.3, bit 0 first. */
export const KEY_USAGES = [
  "digitalSignature",
  "nonRepudiation",
  "keyEncipherment",
  "dataEncipherment",
  "keyAgreement",
  "keyCertSign",
  "cRLSign",
  "encipherOnly",
  "decipherOnly",
] as const;

export type KeyUsage = (typeof KEY_USAGES)[number];

export interface BasicConstraints {
  readonly ca: boolean;
  /** Null: no limit. */
  readonly pathLen: number | null;
}

export interface AuthorityKeyIdentifier {
  readonly keyIdentifier: Bytes | null;
  /** Whether it also has authorityCertIssuer and serial. */
  readonly namesIssuer: boolean;
}

/** One Extension; `id` is its OBJECT IDENTIFIER, DER. */
export interface Extension {
  readonly oid: string;
  readonly critical: boolean;
  /** The content of extnValue. */
  readonly value: Bytes;
}

// --------------------------------------------------------------------------------------------------------------- building

/** Extension ::= SEQUENCE { extnID, critical DEFAULT FALSE, extnValue }. */
export function extension(id: string, critical: boolean, value: Bytes): Bytes {
  return critical ? sequence(oid(id), boolean(true), octetString(value)) : sequence(oid(id), octetString(value));
}

export function encodeBasicConstraints({ ca, pathLen }: BasicConstraints): Bytes {
  return sequence(...(ca ? [boolean(true)] : []), ...(ca && pathLen !== null ? [integer(pathLen)] : []));
}

export function encodeKeyUsage(usages: readonly KeyUsage[]): Bytes {
  return namedBits(usages.map((usage) => KEY_USAGES.indexOf(usage)));
}

/** ExtKeyUsageSyntax from names or dotted numbers. */
export function encodeExtendedKeyUsage(ekus: readonly string[]): Bytes {
  return sequence(...ekus.map((eku) => oid(ekuOid(eku))));
}

/** AuthorityKeyIdentifier with only the key identifier (RFC 5280 section 4.2.1.1). */
export function encodeAuthorityKeyIdentifier(keyIdentifier: Bytes): Bytes {
  return sequence(context(0, false, keyIdentifier));
}

/** One DistributionPoint whose fullName has the URLs: the value of the CDP extension. */
export function encodeCrlDistributionPoints(urls: readonly string[]): Bytes {
  return sequence(sequence(encodeDistributionPointName(urls)));
}

/** [0] DistributionPointName with [0] fullName: the octets that CDP and issuingDistributionPoint share. */
export function encodeDistributionPointName(urls: readonly string[]): Bytes {
  return context(0, true, context(0, true, ...urls.map(encodeUri)));
}

export function encodeAuthorityInfoAccess(ocspUrls: readonly string[], caIssuersUrls: readonly string[]): Bytes {
  return sequence(
    ...ocspUrls.map((url) => sequence(oid(ACCESS_OCSP), encodeUri(url))),
    ...caIssuersUrls.map((url) => sequence(oid(ACCESS_CA_ISSUERS), encodeUri(url))),
  );
}

/** TLS Feature with status_request (5): must-staple (RFC 7633 section 4). */
export function encodeMustStaple(): Bytes {
  return sequence(integer(5));
}

/** CertificatePolicies without qualifiers. */
export function encodeCertificatePolicies(policies: readonly string[]): Bytes {
  return sequence(...policies.map((policy) => sequence(oid(policy))));
}

// ---------------------------------------------------------------------------------------------------------------- reading

const MAX_EXTENSIONS = 100;

/** Whether a DEFAULT value may be written out: DER forbids this, but many CSRs do it. */
interface Leniency {
  readonly explicitDefaults?: boolean;
}

/** The offsets of one Extension's extnID (whole) and of its extnValue's content. */
interface ExtensionSpan {
  readonly idStart: number;
  readonly idEnd: number;
  readonly critical: boolean;
  readonly valueStart: number;
  readonly valueEnd: number;
}

/** Steps over one Extension (RFC 5280 section 4.1) that ends no later than `limit`. Throws DerError. */
export function readExtension(
  cursor: Cursor,
  limit: number,
  { explicitDefaults = false }: Leniency = {},
): ExtensionSpan {
  const end = cursor.enter(TAG.SEQUENCE, limit);
  const idStart = cursor.at;
  cursor.oid(end);
  const idEnd = cursor.at;
  const isWritten = cursor.sees(TAG.BOOLEAN, end);
  const critical = isWritten && cursor.boolean(end);
  if (isWritten && !critical && !explicitDefaults) {
    throw new DerError("an extension's default FALSE must be left out");
  }
  const valueEnd = cursor.enter(TAG.OCTET_STRING, end);
  const valueStart = cursor.at;
  cursor.at = valueEnd;
  cursor.close(end, "an extension");
  return { idStart, idEnd, critical, valueStart, valueEnd };
}

/** Extensions ::= SEQUENCE SIZE (1..MAX) OF Extension, each at most once. Throws DerError and CertificateError. */
export function parseExtensions({ tag, content }: Element, leniency: Leniency = {}): Extension[] {
  if (tag !== TAG.SEQUENCE) throw new DerError("Extensions must be a SEQUENCE");
  const found: Extension[] = [];
  const seen = new Set<string>();
  const cursor = new Cursor(content);
  do {
    const span = readExtension(cursor, content.length, leniency);
    const id = oidFromContent(content.subarray(contentStart(content, span.idStart), span.idEnd));
    found.push({ oid: id, critical: span.critical, value: content.subarray(span.valueStart, span.valueEnd) });
    if (seen.has(id)) throw new CertificateError(`extension ${id} stands more than once`);
    if (seen.add(id).size > MAX_EXTENSIONS) throw new CertificateError(`more than ${MAX_EXTENSIONS} extensions`);
  } while (cursor.at < content.length);
  return found;
}

export function parseBasicConstraints(element: Element, { explicitDefaults = false }: Leniency = {}): BasicConstraints {
  const reader = new Reader(expectSequence(element, "BasicConstraints"));
  const flag = reader.optional(TAG.BOOLEAN);
  const ca = flag !== null && booleanOf(flag);
  if (flag !== null && !ca && !explicitDefaults) throw new DerError("the default cA FALSE must be left out");
  const bound = reader.optional(TAG.INTEGER);
  reader.end();
  if (bound !== null && !ca) throw new CertificateError("pathLenConstraint without cA");
  return { ca, pathLen: bound === null ? null : smallInteger(bound) };
}

/** Named bits without trailing zeros (X.690 section 11.2.2), at least one set (RFC 5280 section 4.2.1.3). */
export function parseKeyUsage(element: Element): KeyUsage[] {
  const { bytes, unused } = bitStringOf(element);
  const last = bytes.at(-1) ?? 0;
  if (last === 0 || ((last >> unused) & 1) === 0) throw new DerError("KeyUsage with trailing zero bits");
  const usages: KeyUsage[] = [];
  for (let bit = 0; bit < bytes.length * 8 - unused; bit++) {
    if (((bytes[bit >> 3] as number) & (0x80 >> (bit & 7))) === 0) continue;
    const usage = KEY_USAGES[bit];
    if (usage === undefined) throw new CertificateError("KeyUsage with a bit that has no meaning");
    usages.push(usage);
  }
  return usages;
}

/** Names if known here, else dotted numbers. */
export function parseExtendedKeyUsage(element: Element): string[] {
  return listOf(expectSequence(element, "ExtKeyUsageSyntax"), (next) => ekuName(oidOf(next)));
}

export function parseSubjectKeyIdentifier(element: Element): Bytes {
  return octetStringOf(element);
}

export function parseAuthorityKeyIdentifier(element: Element): AuthorityKeyIdentifier {
  const reader = new Reader(expectSequence(element, "AuthorityKeyIdentifier"));
  const keyIdentifier = reader.optional(0x80)?.content ?? null;
  const issuer = reader.optional(0xa1);
  const serial = reader.optional(0x82);
  reader.end();
  if ((issuer === null) !== (serial === null)) throw new CertificateError("authorityCertIssuer and serial go together");
  return { keyIdentifier, namesIssuer: issuer !== null };
}

/** The URIs in the full names of all distribution points. */
export function parseCrlDistributionPoints(element: Element): string[] {
  return listOf(expectSequence(element, "CRLDistributionPoints"), (point) => {
    const parts = new Reader(expectSequence(point, "DistributionPoint"));
    const name = parts.optional(0xa0);
    parts.optional(0x81);
    parts.optional(0xa2);
    parts.end();
    if (name === null) return [];
    const choice = new Reader(name);
    const full = choice.next();
    choice.end();
    if (full.tag === 0xa1) return [];
    if (full.tag !== 0xa0) throw new DerError("unknown DistributionPointName");
    return decodeGeneralNames(full).names.flatMap(({ type, value }) => (type === "uri" ? [value] : []));
  }).flat();
}

export function parseAuthorityInfoAccess(element: Element): { ocspUrls: string[]; caIssuersUrls: string[] } {
  const ocspUrls: string[] = [];
  const caIssuersUrls: string[] = [];
  listOf(expectSequence(element, "AuthorityInfoAccessSyntax"), (access) => {
    const parts = new Reader(expectSequence(access, "AccessDescription"));
    const method = oidOf(parts.next(TAG.OID));
    const location = decodeGeneralName(parts.next());
    parts.end();
    if (location?.type !== "uri") return;
    if (method === ACCESS_OCSP) ocspUrls.push(location.value);
    if (method === ACCESS_CA_ISSUERS) caIssuersUrls.push(location.value);
  });
  return { ocspUrls, caIssuersUrls };
}

/** The TLS extension numbers of a TLS Feature (RFC 7633): 5 is must-staple. */
export function parseTlsFeature(element: Element): number[] {
  return listOf(expectSequence(element, "Features"), smallInteger);
}

export function parseCertificatePolicies(element: Element): string[] {
  return listOf(expectSequence(element, "CertificatePolicies"), (policy) =>
    oidOf(new Reader(expectSequence(policy, "PolicyInformation")).next(TAG.OID)),
  );
}

function expectSequence(element: Element, what: string): Element {
  if (element.tag !== TAG.SEQUENCE) throw new DerError(`${what} must be a SEQUENCE`);
  return element;
}

/** SEQUENCE SIZE (1..MAX) OF. */
function listOf<T>(element: Element, read: (next: Element) => T): T[] {
  const found: T[] = [];
  const reader = new Reader(element);
  do found.push(read(reader.next()));
  while (reader.more);
  return found;
}
