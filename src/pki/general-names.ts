import ipaddr from "ipaddr.js";
import { ascii, type Bytes, toHex } from "./bytes.ts";
import { asciiText, type Element, oidFromContent, oidOf, Reader, sequence, TAG, tlv } from "./der.ts";
import { DerError, NameError } from "./errors.ts";
import { decodePunycode } from "./punycode.ts";

/** A subject alternative name of one of the four types certified here, with its canonical value. */
export interface GeneralName {
  readonly type: "dns" | "ip" | "email" | "uri";
  readonly value: string;
}

/** The content of a GeneralNames: names of the four types, and a description of each other name. */
export interface GeneralNames {
  readonly names: readonly GeneralName[];
  /** Such as `otherName 1.3.6.1.4.1.311.20.2.3`, `directoryName`, `registeredID 1.2.3`. */
  readonly others: readonly string[];
}

const TAG_EMAIL = 0x81;
const TAG_DNS = 0x82;
const TAG_URI = 0x86;
const TAG_IP = 0x87;
const MAX_NAMES = 1000;

/**
 * Parses a record's text: an IP address; else a URI if it has `://` or is a URN; else an email address if it has `@`;
 * else a DNS name (wildcard as the leftmost label only). Returns the canonical form: A-labels in lower case, RFC 5952
 * addresses. Throws NameError.
 */
export function parseSan(text: string): GeneralName {
  const value = text.trim();
  if (ipText(value) !== null) return canonicalName({ type: "ip", value });
  if (value.includes("://") || URN.test(value)) return canonicalName({ type: "uri", value });
  if (value.includes("@")) return canonicalName({ type: "email", value });
  return canonicalName({ type: "dns", value });
}

/** The canonical form of a name of known type; throws NameError if it is invalid for the type. */
export function canonicalName(name: GeneralName): GeneralName {
  return { type: name.type, value: canonicalValue(name) };
}

function canonicalValue({ type, value }: GeneralName): string {
  switch (type) {
    case "dns":
      return value.startsWith("*.") ? `*.${dnsName(value.slice(2))}` : dnsName(value);
    case "ip": {
      const address = ipText(value);
      if (address === null) throw new NameError(`not an IP address: ${quote(value)}`);
      return address;
    }
    case "email":
      return emailAddress(value);
    case "uri":
      return uriText(value);
  }
}

/** Whether types and canonical values are equal. */
export function sameName(a: GeneralName, b: GeneralName): boolean {
  return a.type === b.type && a.value === b.value;
}

function quote(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}...` : text);
}

function ipText(text: string): string | null {
  if (ipaddr.IPv4.isValidFourPartDecimal(text)) return ipaddr.IPv4.parse(text).toString();
  if (!text.includes(":") || text.includes("%") || !ipaddr.IPv6.isValid(text)) return null;
  return ipaddr.IPv6.parse(text).toRFC5952String();
}

const LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

/**
 * A DNS name in A-label form: LDH labels of RFC 5890 section 2.3.1 in lower case, `xn--` labels that decode, at most 63 and
 * 253 octets, no trailing dot, last label not all digits. A name with other letters is converted (UTS 46). Throws NameError.
 */
export function dnsName(text: string): string {
  const wrong = (why: string): NameError => new NameError(`not a DNS name: ${quote(text)} ${why}`);
  if (text === "") throw new NameError("a DNS name is empty");
  if (text.length > 253) throw wrong("is longer than 253 octets");
  const foreign = /[\u{80}-\u{10ffff}]/u.test(text);
  if (/[^A-Za-z0-9.\u{80}-\u{10ffff}-]/u.test(text)) {
    throw wrong("may hold letters, digits, hyphens and dots only, and a wildcard only as its whole leftmost label");
  }
  const name = foreign ? toAscii(text) : text.toLowerCase();
  if (name === null) throw wrong("has no A-label form");
  if (name.length > 253) throw wrong("is longer than 253 octets");
  const labels = name.split(".");
  for (const label of labels) {
    if (!LABEL.test(label)) throw wrong(label === "" ? "has an empty label" : `has the label ${quote(label)}`);
    if (label.startsWith("xn--")) {
      if (!isEncodedLabel(label)) throw wrong(`has the label ${quote(label)} that does not decode`);
    } else if (label.slice(2, 4) === "--") {
      throw wrong(`has the reserved label ${quote(label)}`);
    }
  }
  if (/^[0-9]+$/.test(labels.at(-1) ?? "")) throw wrong("ends in a number");
  return name;
}

/** An A-label: decodes to non-ASCII letters that encode to the same label again. */
function isEncodedLabel(label: string): boolean {
  const decoded = decodePunycode(label.slice(4));
  return decoded !== null && /[\u{80}-\u{10ffff}]/u.test(decoded) && toAscii(decoded) === label;
}

/** UTS 46 ToASCII by way of the URL parser: the same in workerd and Node. */
function toAscii(host: string): string | null {
  try {
    return new URL(`http://${host}`).hostname;
  } catch {
    return null;
  }
}

/** RFC 5321 Mailbox with a dot-string local part; the domain in A-label form. The local part keeps its case. */
function emailAddress(text: string): string {
  const at = text.lastIndexOf("@");
  const local = text.slice(0, Math.max(at, 0));
  if (
    at < 1 ||
    local.length > 64 ||
    !/^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*$/.test(local)
  ) {
    throw new NameError(`not an email address: ${quote(text)}`);
  }
  return `${local}@${dnsName(text.slice(at + 1))}`;
}

/** RFC 8141 section 2: `urn:`, the namespace identifier, and the namespace-specific string. */
const URN = /^urn:([A-Za-z0-9][A-Za-z0-9-]{0,30}[A-Za-z0-9]):([A-Za-z0-9\-._~!$&'()*+,;=:@%].*)$/i;
/** The trust domain of a SPIFFE ID (SPIFFE-ID section 2.1): underscores are allowed, user and port are not. */
const TRUST_DOMAIN = /^[a-z0-9._-]{1,255}$/;

/**
 * RFC 3986 URI, ASCII: a URN, or a URI with scheme and authority; scheme, namespace and host in lower case, the rest
 * unchanged.
 */
function uriText(text: string): string {
  const match = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/([^/?#]*)([/?#].*)?$/.exec(text);
  const legal =
    text.length <= 2048 && /^[A-Za-z0-9\-._~:/?#[\]@!$&'()*+,;=%]+$/.test(text) && !/%(?![0-9A-Fa-f]{2})/.test(text);
  const urn = URN.exec(text);
  if (urn !== null && legal) return `urn:${urn[1]?.toLowerCase()}:${urn[2]}`;
  if (match === null || !legal || !URL.canParse(text)) throw new NameError(`not an absolute URI: ${quote(text)}`);
  const [, scheme = "", authority = "", rest = ""] = match;
  if (scheme.toLowerCase() === "spiffe" && TRUST_DOMAIN.test(authority.toLowerCase())) {
    return `spiffe://${authority.toLowerCase()}${rest}`;
  }
  const userEnd = authority.lastIndexOf("@") + 1;
  const hostPort = authority.slice(userEnd);
  const port = /:[0-9]*$/.exec(hostPort)?.[0] ?? "";
  const host = hostPort.slice(0, hostPort.length - port.length);
  return `${scheme.toLowerCase()}://${authority.slice(0, userEnd)}${uriHost(host, text)}${port}${rest}`;
}

function uriHost(host: string, text: string): string {
  if (host.startsWith("[") && host.endsWith("]")) {
    const address = ipText(host.slice(1, -1));
    if (address !== null) return `[${address}]`;
  }
  const address = ipText(host);
  if (address !== null) return address;
  if (host === "") throw new NameError(`URI without a host: ${quote(text)}`);
  return dnsName(host);
}

/** The host of a canonical URI, IPv6 without brackets; empty for a URN. */
export function hostOfUri(uri: string): string {
  const authority = /^[a-z][a-z0-9+.-]*:\/\/([^/?#]*)/i.exec(uri)?.[1] ?? "";
  const hostPort = authority.slice(authority.lastIndexOf("@") + 1);
  return hostPort
    .replace(/:[0-9]*$/, "")
    .replace(/^\[(.*)\]$/, "$1")
    .toLowerCase();
}

/** The 4 or 16 octets of an IP address. */
export function ipOctets(value: string): Bytes {
  return new Uint8Array(ipaddr.parse(value).toByteArray());
}

/** The canonical text of 4 or 16 octets; DerError for another length. */
export function ipFromOctets(octets: Uint8Array): string {
  if (octets.length !== 4 && octets.length !== 16) throw new DerError("iPAddress must be 4 or 16 octets");
  const address = ipaddr.fromByteArray([...octets]);
  return address instanceof ipaddr.IPv6 ? address.toRFC5952String() : address.toString();
}

/** One GeneralName (RFC 5280 section 4.2.1.6), with its value unchanged. */
export function encodeGeneralName(name: GeneralName): Bytes {
  switch (name.type) {
    case "dns":
      return tlv(TAG_DNS, ascii(name.value));
    case "email":
      return tlv(TAG_EMAIL, ascii(name.value));
    case "uri":
      return tlv(TAG_URI, ascii(name.value));
    case "ip":
      return tlv(TAG_IP, ipOctets(name.value));
  }
}

/** GeneralNames: the content of a subjectAltName extension. */
export function encodeGeneralNames(names: readonly GeneralName[]): Bytes {
  return sequence(...names.map(encodeGeneralName));
}

/** A fullName or accessLocation URI. */
export function encodeUri(uri: string): Bytes {
  return tlv(TAG_URI, ascii(uri));
}

/** Reads GeneralNames, 1 to 1,000; values are not made canonical. Throws DerError. */
export function decodeGeneralNames(element: Element): GeneralNames {
  const reader = new Reader(element);
  const names: GeneralName[] = [];
  const others: string[] = [];
  do {
    const next = reader.next();
    const name = decodeGeneralName(next);
    if (name !== null) names.push(name);
    else others.push(otherKind(next));
    if (names.length + others.length > MAX_NAMES) throw new DerError(`more than ${MAX_NAMES} general names`);
  } while (reader.more);
  return { names, others };
}

/** The name if it is one of the four types, else null. */
export function decodeGeneralName({ tag, content }: Element): GeneralName | null {
  switch (tag) {
    case TAG_DNS:
      return { type: "dns", value: plainText(content) };
    case TAG_EMAIL:
      return { type: "email", value: plainText(content) };
    case TAG_URI:
      return { type: "uri", value: plainText(content) };
    case TAG_IP:
      return { type: "ip", value: ipFromOctets(content) };
    default:
      return null;
  }
}

function plainText(content: Bytes): string {
  const text = asciiText(content);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not be in a name
  if (/[\u0000-\u001f\u007f]/.test(text)) throw new DerError("general name holds a control character");
  return text;
}

function otherKind(element: Element): string {
  switch (element.tag) {
    case 0xa0:
      return `otherName ${oidOf(new Reader(element).next(TAG.OID))}`;
    case 0xa3:
      return "x400Address";
    case 0xa4:
      return "directoryName";
    case 0xa5:
      return "ediPartyName";
    case 0x88:
      return `registeredID ${oidFromContent(element.content)}`;
    default:
      throw new DerError(`GeneralName with tag 0x${element.tag.toString(16)} ${toHex(element.content.subarray(0, 8))}`);
  }
}
