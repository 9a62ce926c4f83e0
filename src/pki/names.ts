import { type Bytes, toHex } from "./bytes.ts";
import {
  decode,
  type Element,
  oid,
  oidOf,
  printableString,
  Reader,
  sequence,
  set,
  stringOf,
  TAG,
  utf8String,
} from "./der.ts";
import { DerError, NameError } from "./errors.ts";

/** A subject in the form of the wire and the records. Absent and empty attributes are omitted from the name. */
export interface SubjectName {
  country?: string | null | undefined;
  state?: string | null | undefined;
  locality?: string | null | undefined;
  postal_code?: string | null | undefined;
  street_address?: string | null | undefined;
  organization?: string | null | undefined;
  organizational_unit?: string | null | undefined;
  serial_number?: string | null | undefined;
  common_name?: string | null | undefined;
}

/** One AttributeTypeAndValue; `rdn` is the index of its RDN, so attributes with equal numbers share one SET. */
export interface NameAttribute {
  readonly type: string;
  readonly value: string;
  readonly rdn: number;
}

export interface DistinguishedName {
  /** The whole Name, DER. */
  readonly der: Bytes;
  /** In encoding order. A non-string value is `#` and its DER in hex (RFC 4514 section 2.4). */
  readonly attributes: readonly NameAttribute[];
  /** The last (most specific) commonName, or null. */
  readonly commonName: string | null;
}

interface AttributeKind {
  readonly field: keyof SubjectName;
  readonly oid: string;
  /** The short name of RFC 4514 section 3, or the common one. */
  readonly label: string;
  /** Upper bound in characters: RFC 5280 appendix A.1. */
  readonly max: number;
  readonly printable?: true;
}

/** In encoding order (CA/B BR 7.1.4.2). */
const KINDS: readonly AttributeKind[] = [
  { field: "country", oid: "2.5.4.6", label: "C", max: 2, printable: true },
  { field: "state", oid: "2.5.4.8", label: "ST", max: 128 },
  { field: "locality", oid: "2.5.4.7", label: "L", max: 128 },
  { field: "postal_code", oid: "2.5.4.17", label: "postalCode", max: 40 },
  { field: "street_address", oid: "2.5.4.9", label: "STREET", max: 128 },
  { field: "organization", oid: "2.5.4.10", label: "O", max: 64 },
  { field: "organizational_unit", oid: "2.5.4.11", label: "OU", max: 64 },
  { field: "serial_number", oid: "2.5.4.5", label: "serialNumber", max: 64, printable: true },
  { field: "common_name", oid: "2.5.4.3", label: "CN", max: 64 },
];

const LABELS: ReadonlyMap<string, string> = new Map([
  ...KINDS.map((kind) => [kind.oid, kind.label] as const),
  ["0.9.2342.19200300.100.1.25", "DC"],
  ["0.9.2342.19200300.100.1.1", "UID"],
  ["1.2.840.113549.1.9.1", "emailAddress"],
]);

const TYPE_OIDS: ReadonlyMap<keyof SubjectName, Bytes> = new Map(KINDS.map((kind) => [kind.field, oid(kind.oid)]));
const COMMON_NAME = "2.5.4.3";
const MAX_ATTRIBUTES = 64;

/** Maximum length of a commonName: RFC 5280 appendix A.1, ub-common-name. */
export const MAX_COMMON_NAME = 64;

/** A Name without attributes. A constant: do not write to it. */
export const EMPTY_NAME: Bytes = sequence();

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not be in a name
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\ufffe\uffff]|\p{Surrogate}/u;

/**
 * The Name of a subject (RFC 5280 section 4.1.2.4): one attribute in each RDN, UTF8String except PrintableString for
 * country and serialNumber. Throws NameError: too long, leading or trailing blank, control characters, a country that
 * is not two capital letters.
 */
export function encodeName(subject: SubjectName): Bytes {
  const rdns: Bytes[] = [];
  for (const kind of KINDS) {
    const value = subject[kind.field];
    if (value === undefined || value === null || value === "") continue;
    rdns.push(set(sequence(TYPE_OIDS.get(kind.field) as Bytes, encodeValue(kind, value))));
  }
  return rdns.length === 0 ? EMPTY_NAME : sequence(...rdns);
}

/** Attributes that identify the subject itself, not its organization: serialNumber, commonName, UID, emailAddress. */
const OF_THE_BEARER: ReadonlySet<string> = new Set([
  "2.5.4.5",
  COMMON_NAME,
  "0.9.2342.19200300.100.1.1",
  "1.2.840.113549.1.9.1",
]);

/** The RDNs of a name's location and organization (country, organization, unit and the like), byte for byte. DER. */
export function organizationOf(name: DistinguishedName): Bytes {
  const own = new Set(name.attributes.filter(({ type }) => OF_THE_BEARER.has(type)).map(({ rdn }) => rdn));
  return sequence(...rdnsOf(name.der).filter((_, rdn) => !own.has(rdn)));
}

/**
 * The Name (DER) of `commonName` below `base` (DER), whose RDNs stay byte for byte. Throws NameError like `encodeName`.
 */
export function nameBelow(base: Bytes, commonName: string): Bytes {
  return sequence(...rdnsOf(base), ...rdnsOf(encodeName({ common_name: commonName })));
}

function rdnsOf(name: Bytes): Bytes[] {
  const reader = new Reader(decode(name));
  const rdns: Bytes[] = [];
  while (reader.more) rdns.push(reader.next(TAG.SET).bytes);
  return rdns;
}

function encodeValue(kind: AttributeKind, value: string): Bytes {
  if ([...value].length > kind.max) throw new NameError(`${kind.field} is longer than ${kind.max} characters`);
  if (CONTROL.test(value)) throw new NameError(`${kind.field} holds a control character`);
  if (value.trim() !== value) throw new NameError(`${kind.field} starts or ends with white space`);
  if (kind.field === "country" && !/^[A-Z]{2}$/.test(value)) throw new NameError("country must be two capital letters");
  if (kind.printable !== true) return utf8String(value);
  try {
    return printableString(value);
  } catch {
    throw new NameError(`${kind.field} may hold letters, digits and '()+,-./:=? only`);
  }
}

/** Parses a Name: an element of a decoded tree, or DER. Throws DerError. */
export function parseName(name: Element | Bytes): DistinguishedName {
  const element = name instanceof Uint8Array ? decode(name) : name;
  if (element.tag !== TAG.SEQUENCE) throw new DerError("Name must be a SEQUENCE");
  const attributes: NameAttribute[] = [];
  let commonName: string | null = null;
  const rdns = new Reader(element);
  for (let rdn = 0; rdns.more; rdn++) {
    const members = new Reader(rdns.next(TAG.SET));
    do {
      const pair = new Reader(members.next(TAG.SEQUENCE));
      const type = oidOf(pair.next(TAG.OID));
      const value = valueText(pair.next());
      pair.end();
      if (attributes.length === MAX_ATTRIBUTES) throw new DerError(`Name with more than ${MAX_ATTRIBUTES} attributes`);
      attributes.push({ type, value, rdn });
      if (type === COMMON_NAME) commonName = value;
    } while (members.more);
  }
  return { der: element.bytes, attributes, commonName };
}

function valueText(element: Element): string {
  switch (element.tag) {
    case TAG.UTF8_STRING:
    case TAG.PRINTABLE_STRING:
    case TAG.TELETEX_STRING:
    case TAG.UNIVERSAL_STRING:
    case TAG.BMP_STRING:
    case TAG.IA5_STRING:
    case TAG.NUMERIC_STRING:
      return stringOf(element);
    default:
      return `#${toHex(element.bytes)}`;
  }
}

/** The short name of an attribute type (`O`) if it has one, else its dotted numbers. */
export function attributeLabel(type: string): string {
  return LABELS.get(type) ?? type;
}

/** The string form of RFC 4514: most specific first, escaped; types without a short name as dotted numbers. */
export function formatName(name: DistinguishedName): string {
  const rdns: string[][] = [];
  for (const { type, value, rdn } of name.attributes) {
    const members = rdns[rdn] ?? [];
    rdns[rdn] = members;
    members.push(`${attributeLabel(type)}=${escapeValue(value)}`);
  }
  return rdns
    .reverse()
    .map((members) => members.join("+"))
    .join(",");
}

function escapeValue(value: string): string {
  return (
    value
      .replace(/[\\"+,;<>]/g, "\\$&")
      .replace(/^[ #]/, "\\$&")
      .replace(/ $/, "\\ ")
      // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is escaped
      .replace(/[\u0000-\u001f\u007f]/g, (octet) => `\\${octet.charCodeAt(0).toString(16).padStart(2, "0")}`)
  );
}

/** The SubjectName of a parsed name; attributes that SubjectName lacks are omitted. */
export function subjectOf(name: DistinguishedName): SubjectName {
  const subject: SubjectName = {};
  for (const kind of KINDS) {
    const found = name.attributes.filter((attribute) => attribute.type === kind.oid).at(-1);
    if (found !== undefined) subject[kind.field] = found.value;
  }
  return subject;
}
