import ipaddr from "ipaddr.js";
import { ascii, type Bytes, concat } from "./bytes.ts";
import { asciiText, context, type Element, Reader, sequence, TAG, tlv } from "./der.ts";
import { CertificateError, DerError, NameError } from "./errors.ts";
import { dnsName, type GeneralName, hostOfUri, ipFromOctets, ipOctets, parseSan } from "./general-names.ts";
import { type DistinguishedName, formatName, parseName } from "./names.ts";

/** The base of one GeneralSubtree (RFC 5280 section 4.2.1.10). Values lack the text form's prefix, such as `DNS:`. */
export type Subtree =
  | { readonly type: "dns" | "email" | "uri"; readonly value: string }
  | { readonly type: "ip"; readonly value: string }
  | { readonly type: "directory"; readonly value: string; readonly name: DistinguishedName };

export interface NameConstraints {
  readonly permitted: readonly Subtree[];
  readonly excluded: readonly Subtree[];
}

/**
 * The form on the wire and in rows: lists of `DNS:corp.example`, `IP:10.0.0.0/8`, `email:corp.example`,
 * `URI:.corp.example`.
 */
export interface NameConstraintsText {
  permitted?: readonly string[] | null | undefined;
  excluded?: readonly string[] | null | undefined;
}

const MAX_SUBTREES = 500;

// ------------------------------------------------------------------------------------------------------------------- text

/** Parses the wire's list; null if it constrains nothing. Throws NameError that names the value. */
export function parseNameConstraints(entries: readonly NameConstraintsText[]): NameConstraints | null {
  const permitted = entries.flatMap((entry) => (entry.permitted ?? []).map(parseSubtree));
  const excluded = entries.flatMap((entry) => (entry.excluded ?? []).map(parseSubtree));
  if (permitted.length + excluded.length > MAX_SUBTREES)
    throw new NameError(`more than ${MAX_SUBTREES} name constraints`);
  return permitted.length + excluded.length === 0 ? null : { permitted, excluded };
}

/** The wire's list of parsed constraints; empty for null. */
export function formatNameConstraints(
  constraints: NameConstraints | null,
): { permitted: string[]; excluded: string[] }[] {
  if (constraints === null) return [];
  return [{ permitted: constraints.permitted.map(formatSubtree), excluded: constraints.excluded.map(formatSubtree) }];
}

const PREFIX = { dns: "DNS", ip: "IP", email: "email", uri: "URI", directory: "dirName" } as const;

/** One constraint as text, such as `IP:10.0.0.0/8`. */
export function formatSubtree(subtree: Subtree): string {
  return `${PREFIX[subtree.type]}:${subtree.value}`;
}

/** Parses one constraint. An empty value (`DNS:`) means every name of the type. Throws NameError. */
export function parseSubtree(text: string): Subtree {
  const colon = text.indexOf(":");
  const kind = text.slice(0, Math.max(colon, 0)).toLowerCase();
  const value = text.slice(colon + 1).trim();
  switch (kind) {
    case "dns":
      if (value.startsWith(".") || value.startsWith("*")) {
        throw new NameError(
          `${text}: write DNS:${value.replace(/^[*.]+/, "")}, which covers the name and all below it`,
        );
      }
      return { type: "dns", value: value === "" ? "" : dnsName(value) };
    case "ip":
      return { type: "ip", value: ipRange(value) };
    case "email":
      return { type: "email", value: value.includes("@") ? parseSan(value).value : hostOrDomain(value) };
    case "uri":
      return { type: "uri", value: hostOrDomain(value) };
    default:
      throw new NameError(
        `name constraint ${JSON.stringify(text.slice(0, 80))} must start with DNS:, IP:, email: or URI:`,
      );
  }
}

function hostOrDomain(value: string): string {
  if (value === "") return "";
  return value.startsWith(".") ? `.${dnsName(value.slice(1))}` : dnsName(value);
}

/** `10.0.0.0/8`: a single address is a range of one; bits after the prefix must be zero. */
function ipRange(text: string): string {
  const [addressText = "", lengthText, ...rest] = text.split("/");
  const wrong = new NameError(`IP:${text.slice(0, 80)} is not an address range such as 10.0.0.0/8 or 2001:db8::/32`);
  let address: string;
  try {
    const name = parseSan(addressText);
    if (name.type !== "ip") throw wrong;
    address = name.value;
  } catch {
    throw wrong;
  }
  const octets = ipOctets(address);
  if (rest.length > 0 || (lengthText !== undefined && !/^(0|[1-9][0-9]{0,2})$/.test(lengthText))) throw wrong;
  const length = lengthText === undefined ? octets.length * 8 : Number(lengthText);
  if (length > octets.length * 8) throw wrong;
  const mask = maskOf(octets.length, length);
  if (octets.some((octet, i) => (octet & ~(mask[i] as number)) !== 0)) {
    throw new NameError(`IP:${text} has bits set behind its prefix`);
  }
  return `${address}/${length}`;
}

function maskOf(octets: number, length: number): Bytes {
  const mask = new Uint8Array(octets);
  for (let i = 0; i < length; i++) mask[i >> 3] = (mask[i >> 3] as number) | (0x80 >> (i & 7));
  return mask;
}

// -------------------------------------------------------------------------------------------------------------------- DER

/** The value of a nameConstraints extension. */
export function encodeNameConstraints(constraints: NameConstraints): Bytes {
  const list = (n: number, subtrees: readonly Subtree[]): Bytes[] =>
    subtrees.length === 0 ? [] : [context(n, true, ...subtrees.map((subtree) => sequence(encodeBase(subtree))))];
  return sequence(...list(0, constraints.permitted), ...list(1, constraints.excluded));
}

function encodeBase(subtree: Subtree): Bytes {
  switch (subtree.type) {
    case "dns":
      return tlv(0x82, ascii(subtree.value));
    case "email":
      return tlv(0x81, ascii(subtree.value));
    case "uri":
      return tlv(0x86, ascii(subtree.value));
    case "directory":
      return tlv(0xa4, subtree.name.der);
    case "ip": {
      const [address = "", length = ""] = subtree.value.split("/");
      const octets = ipOctets(address);
      return tlv(0x87, concat(octets, maskOf(octets.length, Number(length))));
    }
  }
}

/**
 * Parses a nameConstraints extension's value. Throws DerError, and CertificateError for constraints that RFC 5280
 * forbids.
 */
export function decodeNameConstraints(element: Element): NameConstraints {
  if (element.tag !== TAG.SEQUENCE) throw new DerError("NameConstraints must be a SEQUENCE");
  const reader = new Reader(element);
  const permitted = decodeSubtrees(reader.optional(0xa0));
  const excluded = decodeSubtrees(reader.optional(0xa1));
  reader.end();
  if (permitted.length + excluded.length === 0) throw new CertificateError("empty nameConstraints");
  return { permitted, excluded };
}

function decodeSubtrees(element: Element | null): Subtree[] {
  if (element === null) return [];
  const subtrees: Subtree[] = [];
  const reader = new Reader(element);
  do {
    const subtree = new Reader(reader.next(TAG.SEQUENCE));
    subtrees.push(decodeBase(subtree.next()));
    if (subtree.more) throw new CertificateError("name constraint with minimum or maximum");
    if (subtrees.length > MAX_SUBTREES) throw new CertificateError(`more than ${MAX_SUBTREES} name constraints`);
  } while (reader.more);
  return subtrees;
}

function decodeBase({ tag, content }: Element): Subtree {
  switch (tag) {
    case 0x81: {
      const [local, host] = splitMailbox(asciiText(content));
      return { type: "email", value: local === null ? host : `${local}@${host}` };
    }
    case 0x82:
      return { type: "dns", value: asciiText(content).toLowerCase() };
    case 0x86:
      return { type: "uri", value: asciiText(content).toLowerCase() };
    case 0x87:
      return { type: "ip", value: decodeRange(content) };
    case 0xa4: {
      const inner = new Reader({ tag, bytes: content, content });
      const name = parseName(inner.next(TAG.SEQUENCE));
      inner.end();
      return { type: "directory", value: formatName(name), name };
    }
    default:
      throw new CertificateError(`name constraint of a type that is not checked here (tag 0x${tag.toString(16)})`);
  }
}

function decodeRange(content: Bytes): string {
  if (content.length !== 8 && content.length !== 32) throw new DerError("iPAddress constraint must be 8 or 32 octets");
  const half = content.length / 2;
  const address = content.subarray(0, half);
  const mask = content.subarray(half);
  let length = 0;
  while (length < half * 8 && ((mask[length >> 3] as number) & (0x80 >> (length & 7))) !== 0) length++;
  const wanted = maskOf(half, length);
  if (mask.some((octet, i) => octet !== wanted[i]))
    throw new CertificateError("iPAddress constraint whose mask has gaps");
  if (address.some((octet, i) => (octet & ~(mask[i] as number)) !== 0)) {
    throw new CertificateError("iPAddress constraint with bits set behind its mask");
  }
  return `${ipFromOctets(address)}/${length}`;
}

// ---------------------------------------------------------------------------------------------------------------- subsets

/** Whether every name inside `inner` is inside `outer`; both have the same type. */
function covers(outer: Subtree, inner: Subtree): boolean {
  if (outer.type === "directory") return inner.type === "directory" && startsWithRdns(inner.name, outer.name);
  if (outer.type !== inner.type) return false;
  if (outer.type === "ip") return rangeContains(outer.value, inner.value);
  if (outer.value === "" || outer.value === inner.value) return true;
  if (outer.type === "dns") return coversDomain(outer.value, inner.value);
  const [outerLocal, outerHost] = splitMailbox(outer.value);
  const [innerLocal, innerHost] = splitMailbox(inner.value);
  if (outerLocal !== null) return innerLocal === outerLocal && innerHost === outerHost;
  if (innerHost === "") return false;
  return outerHost.startsWith(".") ? innerHost.endsWith(outerHost) : innerHost === outerHost;
}

function coversDomain(outer: string, inner: string): boolean {
  if (outer.startsWith(".")) return inner.endsWith(outer);
  return inner === `.${outer}` || inner.endsWith(`.${outer}`);
}

function rangeContains(outer: string, inner: string): boolean {
  const [outerAddress, outerLength] = ipaddr.parseCIDR(outer);
  const [innerAddress, innerLength] = ipaddr.parseCIDR(inner);
  if (outerAddress.kind() !== innerAddress.kind() || innerLength < outerLength) return false;
  return innerAddress.match(outerAddress, outerLength);
}

function splitMailbox(value: string): [local: string | null, host: string] {
  const at = value.lastIndexOf("@");
  return at < 0 ? [null, value.toLowerCase()] : [value.slice(0, at), value.slice(at + 1).toLowerCase()];
}

/** A simplified RFC 5280 section 7.1: values compare ignoring case, with white space folded. */
function startsWithRdns(name: DistinguishedName, prefix: DistinguishedName): boolean {
  const key = (wanted: DistinguishedName): string[] => {
    const rdns: string[][] = [];
    for (const { type, value, rdn } of wanted.attributes) {
      const members = rdns[rdn] ?? [];
      rdns[rdn] = members;
      members.push(`${type}=${value.trim().replace(/\s+/g, " ").toLowerCase()}`);
    }
    return rdns.map((members) => JSON.stringify(members.sort()));
  };
  const rdns = key(name);
  return key(prefix).every((rdn, i) => rdns[i] === rdn);
}

/**
 * The child's first permitted subtree that exceeds what the parent permits for its type, or null. The parent's
 * exclusions need no repetition: every certificate below inherits them (RFC 5280 section 6.1.4 g).
 */
export function wideningOf(child: NameConstraints | null, parent: NameConstraints | null): Subtree | null {
  if (child === null || parent === null) return null;
  for (const subtree of child.permitted) {
    const allowed = parent.permitted.filter((candidate) => candidate.type === subtree.type);
    if (allowed.length > 0 && !allowed.some((candidate) => covers(candidate, subtree))) return subtree;
    if (parent.excluded.some((candidate) => covers(candidate, subtree))) return subtree;
  }
  return null;
}

/**
 * Self-contained constraints for a child's certificate: its own, plus the parent's permitted subtrees for each type of
 * which the child permits nothing, plus the parent's exclusions. Null if neither constrains.
 */
export function inheritNameConstraints(
  child: NameConstraints | null,
  parent: NameConstraints | null,
): NameConstraints | null {
  if (child === null || parent === null) return child ?? parent;
  const own = new Set(child.permitted.map((subtree) => subtree.type));
  const excluded = child.excluded.filter((subtree) => !parent.excluded.some((candidate) => covers(candidate, subtree)));
  return {
    permitted: [...child.permitted, ...parent.permitted.filter((subtree) => !own.has(subtree.type))],
    excluded: [...parent.excluded, ...excluded],
  };
}

/** Whether the child on its own allows no name that the parent forbids. */
export function isSubset(child: NameConstraints | null, parent: NameConstraints | null): boolean {
  if (parent === null) return true;
  if (child === null) return false;
  if (wideningOf(child, parent) !== null) return false;
  const own = new Set(child.permitted.map((subtree) => subtree.type));
  if (parent.permitted.some((subtree) => !own.has(subtree.type))) return false;
  return parent.excluded.every(
    (subtree) =>
      child.excluded.some((candidate) => covers(candidate, subtree)) ||
      (own.has(subtree.type) &&
        !child.permitted.some((candidate) => candidate.type === subtree.type && covers(candidate, subtree))),
  );
}

// ----------------------------------------------------------------------------------------------------------------- names

/** The names in a certificate that name constraints apply to. */
export interface ConstrainedNames {
  readonly names: readonly GeneralName[];
  readonly subject: DistinguishedName;
}

const EMAIL_ADDRESS = "1.2.840.113549.1.9.1";

/**
 * The first name that the constraints forbid, with the reason, or null (RFC 5280 sections 4.2.1.10 and 6.1.3 b, c). All
 * names that a wildcard matches must be permitted, and none of them excluded.
 */
export function violationOf({ names, subject }: ConstrainedNames, constraints: NameConstraints | null): string | null {
  if (constraints === null) return null;
  const emails = names.some((name) => name.type === "email")
    ? []
    : subject.attributes.filter((attribute) => attribute.type === EMAIL_ADDRESS);
  const all: GeneralName[] = [...names, ...emails.map(({ value }) => ({ type: "email", value }) as const)];
  for (const name of all) {
    const label = `${PREFIX[name.type]}:${name.value}`;
    const permitted = constraints.permitted.filter((subtree) => subtree.type === name.type);
    if (permitted.length > 0 && !permitted.some((subtree) => covers(subtree, asSubtree(name)))) {
      return `${label} is outside the permitted ${permitted.map(formatSubtree).join(", ")}`;
    }
    const excluded = constraints.excluded.find((subtree) => subtree.type === name.type && touches(subtree, name));
    if (excluded !== undefined) return `${label} is excluded by ${formatSubtree(excluded)}`;
    if (name.type === "uri" && !hasDnsHost(name) && hasType(constraints, "uri"))
      return `${label} has no DNS name as host`;
  }
  return subject.attributes.length === 0 ? null : subjectViolation(subject, constraints);
}

function subjectViolation(subject: DistinguishedName, constraints: NameConstraints): string | null {
  const own: Subtree = { type: "directory", value: formatName(subject), name: subject };
  const permitted = constraints.permitted.filter((subtree) => subtree.type === "directory");
  if (permitted.length > 0 && !permitted.some((subtree) => covers(subtree, own))) {
    return `subject ${own.value} is outside the permitted ${permitted.map(formatSubtree).join(", ")}`;
  }
  const excluded = constraints.excluded.find((subtree) => subtree.type === "directory" && covers(subtree, own));
  return excluded === undefined ? null : `subject ${own.value} is excluded by ${formatSubtree(excluded)}`;
}

function hasType(constraints: NameConstraints, type: Subtree["type"]): boolean {
  return [...constraints.permitted, ...constraints.excluded].some((subtree) => subtree.type === type);
}

function hasDnsHost(name: GeneralName): boolean {
  const host = hostOfUri(name.value);
  return host !== "" && !ipaddr.isValid(host);
}

/** The subtree of exactly this name. */
function asSubtree(name: GeneralName): Subtree {
  switch (name.type) {
    case "ip":
      return { type: "ip", value: `${name.value}/${ipOctets(name.value).length * 8}` };
    case "uri":
      return { type: "uri", value: hostOfUri(name.value) };
    case "dns":
      return { type: "dns", value: name.value.toLowerCase() };
    case "email":
      return { type: "email", value: name.value };
  }
}

/** Whether the subtree contains the name or, for a wildcard, any name that it matches. */
function touches(subtree: Subtree, name: GeneralName): boolean {
  const own = asSubtree(name);
  if (covers(subtree, own)) return true;
  if (name.type !== "dns" || !own.value.startsWith("*.")) return false;
  const base = own.value.slice(2);
  const dot = subtree.value.indexOf(".", 1);
  return dot > 0 && !subtree.value.startsWith(".") && subtree.value.slice(dot + 1) === base;
}
