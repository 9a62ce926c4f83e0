import { ascii, type Bytes, compare, concat, utf8 } from "./bytes.ts";
import { DerError } from "./errors.ts";

/**
 * Strict DER (X.690 sections 8, 10 and 11): one octet tags, definite minimal lengths, minimal INTEGERs. Every element keeps
 * its own octets, so what was accepted re-encodes to the input. Reading is linear and its depth is bounded.
 */

export { DerError };

/** One tag-length-value. `bytes` (the whole TLV) and `content` are views into the input. */
export interface Element {
  readonly tag: number;
  readonly bytes: Bytes;
  readonly content: Bytes;
}

export const TAG = {
  BOOLEAN: 0x01,
  INTEGER: 0x02,
  BIT_STRING: 0x03,
  OCTET_STRING: 0x04,
  NULL: 0x05,
  OID: 0x06,
  ENUMERATED: 0x0a,
  UTF8_STRING: 0x0c,
  NUMERIC_STRING: 0x12,
  PRINTABLE_STRING: 0x13,
  TELETEX_STRING: 0x14,
  IA5_STRING: 0x16,
  UTC_TIME: 0x17,
  GENERALIZED_TIME: 0x18,
  VISIBLE_STRING: 0x1a,
  UNIVERSAL_STRING: 0x1c,
  BMP_STRING: 0x1e,
  SEQUENCE: 0x30,
  SET: 0x31,
} as const;

export interface DecodeLimits {
  /** Largest input in octets; 65,536 unless told. */
  maxBytes?: number;
  /** Deepest nesting of constructed elements; 32 unless told. */
  maxDepth?: number;
}

// ---------------------------------------------------------------------------------------------------------------- reading

/** Reads the header at `at` (strict) and returns where the element ends, at most `limit`. */
function elementEnd(bytes: Uint8Array, at: number, limit: number): number {
  if (at + 2 > limit) throw new DerError("truncated: no room for a tag and a length");
  if (((bytes[at] as number) & 0x1f) === 0x1f) throw new DerError("tag numbers above 30 are not used here");
  const first = bytes[at + 1] as number;
  let start = at + 2;
  let length = first;
  if (first >= 0x80) {
    const octets = first & 0x7f;
    if (octets === 0) throw new DerError("indefinite length is not DER");
    if (octets > 4) throw new DerError("length of more than four octets");
    if (start + octets > limit) throw new DerError("truncated inside a length");
    length = 0;
    for (let i = 0; i < octets; i++) length = length * 256 + (bytes[start + i] as number);
    if (length < 0x80 || (octets > 1 && bytes[start] === 0)) throw new DerError("length is not minimal");
    start += octets;
  }
  if (length > limit - start) throw new DerError("truncated: length runs past the end");
  return start + length;
}

/** Octets of tag and length of the element at `at`, after `elementEnd` accepted it. */
function headerLength(bytes: Uint8Array, at: number): number {
  const first = bytes[at + 1] as number;
  return first < 0x80 ? 2 : 2 + (first & 0x7f);
}

function elementAt(bytes: Bytes, at: number, limit: number): Element {
  const end = elementEnd(bytes, at, limit);
  const start = at + headerLength(bytes, at);
  return { tag: bytes[at] as number, bytes: bytes.subarray(at, end), content: bytes.subarray(start, end) };
}

function checkInteger(bytes: Uint8Array, start: number, end: number): void {
  if (end === start) throw new DerError("INTEGER without content");
  if (end - start === 1) return;
  const first = bytes[start] as number;
  const second = bytes[start + 1] as number;
  if ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80))
    throw new DerError("INTEGER is not minimal");
}

function checkOid(bytes: Uint8Array, start: number, end: number): void {
  if (end === start) throw new DerError("OBJECT IDENTIFIER without content");
  if (end - start > 128) throw new DerError("OBJECT IDENTIFIER longer than 128 octets");
  if ((bytes[end - 1] as number) >= 0x80) throw new DerError("OBJECT IDENTIFIER ends inside an arc");
  let fresh = true;
  for (let i = start; i < end; i++) {
    const octet = bytes[i] as number;
    if (fresh && octet === 0x80) throw new DerError("OBJECT IDENTIFIER arc is not minimal");
    fresh = octet < 0x80;
  }
}

function checkBitString(bytes: Uint8Array, start: number, end: number): void {
  if (end === start) throw new DerError("BIT STRING without content");
  const unused = bytes[start] as number;
  if (unused > 7 || (unused > 0 && end - start === 1))
    throw new DerError("BIT STRING with a wrong count of unused bits");
  if (unused > 0 && ((bytes[end - 1] as number) & ((1 << unused) - 1)) !== 0) {
    throw new DerError("BIT STRING with unused bits set");
  }
}

function checkTime(bytes: Uint8Array, start: number, end: number, digits: number): void {
  for (let i = 0; i < digits; i++) {
    const octet = bytes[start + i] as number;
    if (start + i >= end || octet < 0x30 || octet > 0x39) throw new DerError("time is not all digits and seconds");
  }
  if (end - start !== digits + 1 || bytes[end - 1] !== 0x5a) throw new DerError("time must end in seconds and Z");
}

/** Strictness that belongs to one universal primitive type. */
function checkPrimitive(bytes: Uint8Array, tag: number, start: number, end: number): void {
  switch (tag) {
    case TAG.BOOLEAN:
      if (end - start !== 1 || (bytes[start] !== 0 && bytes[start] !== 0xff)) {
        throw new DerError("BOOLEAN must be 00 or FF");
      }
      return;
    case TAG.INTEGER:
    case TAG.ENUMERATED:
      checkInteger(bytes, start, end);
      return;
    case TAG.BIT_STRING:
      checkBitString(bytes, start, end);
      return;
    case TAG.NULL:
      if (end !== start) throw new DerError("NULL with content");
      return;
    case TAG.OID:
      checkOid(bytes, start, end);
      return;
    case TAG.UTC_TIME:
      checkTime(bytes, start, end, 12);
      return;
    case TAG.GENERALIZED_TIME:
      checkTime(bytes, start, end, 14);
      return;
    case 0x00:
    case 0x10:
    case 0x11:
      throw new DerError("universal tag that DER does not allow here");
  }
}

function checkTree(bytes: Uint8Array, from: number, limit: number, depth: number): void {
  let at = from;
  while (at < limit) {
    const end = elementEnd(bytes, at, limit);
    const start = at + headerLength(bytes, at);
    const tag = bytes[at] as number;
    if ((tag & 0x20) !== 0) {
      if (tag < 0x40 && tag !== TAG.SEQUENCE && tag !== TAG.SET) throw new DerError("constructed string is not DER");
      if (depth === 0) throw new DerError("nested too deeply");
      checkTree(bytes, start, end, depth - 1);
    } else if (tag < 0x40) {
      checkPrimitive(bytes, tag, start, end);
    }
    at = end;
  }
}

/**
 * Exactly one element, strict DER over the whole tree, nothing after it. GeneralizedTime is the form of RFC 5280 section
 * 4.1.2.5.2 (no fraction). Throws DerError.
 */
export function decode(bytes: Bytes, limits: DecodeLimits = {}): Element {
  const maxBytes = limits.maxBytes ?? 65_536;
  if (bytes.length > maxBytes) throw new DerError(`longer than ${maxBytes} octets`);
  const element = elementAt(bytes, 0, bytes.length);
  if (element.bytes.length !== bytes.length) throw new DerError("octets after the element");
  checkTree(bytes, 0, bytes.length, limits.maxDepth ?? 32);
  return element;
}

/** The elements inside a constructed element, in order. */
export function children(element: Element): Element[] {
  if ((element.tag & 0x20) === 0) throw new DerError("expected a constructed element");
  const found: Element[] = [];
  const { content } = element;
  let at = 0;
  while (at < content.length) {
    const child = elementAt(content, at, content.length);
    found.push(child);
    at += child.bytes.length;
  }
  return found;
}

/**
 * Walks the elements inside a constructed element, or those that stand in raw octets one after another. Headers are checked
 * strictly as they are read, contents only if `decode` saw them before. All methods throw DerError.
 */
export class Reader {
  private readonly source: Bytes;
  private at = 0;

  constructor(source: Element | Bytes) {
    if (source instanceof Uint8Array) {
      this.source = source;
      return;
    }
    if ((source.tag & 0x20) === 0) throw new DerError("expected a constructed element");
    this.source = source.content;
  }

  /** Whether an element is left. */
  get more(): boolean {
    return this.at < this.source.length;
  }

  /** The next element; with `tag`, it must have that tag. */
  next(tag?: number): Element {
    if (this.at >= this.source.length) throw new DerError("an element is missing");
    if (tag !== undefined && this.source[this.at] !== tag) {
      throw new DerError(
        `expected tag 0x${tag.toString(16)}, found 0x${(this.source[this.at] as number).toString(16)}`,
      );
    }
    const element = elementAt(this.source, this.at, this.source.length);
    this.at += element.bytes.length;
    return element;
  }

  /** The next element if it has that tag, else null. */
  optional(tag: number): Element | null {
    return this.at < this.source.length && this.source[this.at] === tag ? this.next() : null;
  }

  /** Nothing may be left. */
  end(): void {
    if (this.at < this.source.length) throw new DerError("an element too many");
  }
}

function expectTag(element: Element, tag: number, what: string): void {
  if (element.tag !== tag) throw new DerError(`expected ${what}, found tag 0x${element.tag.toString(16)}`);
}

/** The octets of a non-negative INTEGER, most significant first, without a sign octet (zero is one octet 00). */
export function integerBytes(element: Element): Bytes {
  expectTag(element, TAG.INTEGER, "INTEGER");
  const { content } = element;
  checkInteger(content, 0, content.length);
  if ((content[0] as number) >= 0x80) throw new DerError("INTEGER must not be negative");
  return content.length > 1 && content[0] === 0 ? content.subarray(1) : content;
}

/** The value of a non-negative INTEGER or ENUMERATED below 2^48. */
export function smallInteger(element: Element): number {
  if (element.tag !== TAG.INTEGER) expectTag(element, TAG.ENUMERATED, "INTEGER");
  const { content } = element;
  checkInteger(content, 0, content.length);
  if ((content[0] as number) >= 0x80) throw new DerError("INTEGER must not be negative");
  if (content.length > 6) throw new DerError("INTEGER is too large");
  let value = 0;
  for (const octet of content) value = value * 256 + octet;
  return value;
}

/** The dotted form of an OBJECT IDENTIFIER. */
export function oidOf(element: Element): string {
  expectTag(element, TAG.OID, "OBJECT IDENTIFIER");
  return oidFromContent(element.content);
}

/** The dotted form of an OBJECT IDENTIFIER's content octets (also of an implicitly tagged one, as registeredID). */
export function oidFromContent(content: Uint8Array): string {
  checkOid(content, 0, content.length);
  let text = "";
  let arc = 0n;
  let small = 0;
  let octets = 0;
  for (const octet of content) {
    octets++;
    if (octets > 6) arc = (octets === 7 ? BigInt(small) : arc) * 128n + BigInt(octet & 0x7f);
    else small = small * 128 + (octet & 0x7f);
    if (octet >= 0x80) continue;
    const value = octets > 6 ? arc : small;
    if (text === "") {
      const root = value < 40 ? 0 : value < 80 ? 1 : 2;
      text = `${root}.${typeof value === "bigint" ? value - BigInt(40 * root) : value - 40 * root}`;
    } else {
      text += `.${value}`;
    }
    small = 0;
    octets = 0;
  }
  return text;
}

/** The instant of a UTCTime or GeneralizedTime in the form of RFC 5280 section 4.1.2.5 (UTC, seconds, no fraction). */
export function timeOf(element: Element): Date {
  const short = element.tag === TAG.UTC_TIME;
  if (!short) expectTag(element, TAG.GENERALIZED_TIME, "a time");
  const { content } = element;
  checkTime(content, 0, content.length, short ? 12 : 14);
  const two = (at: number): number => ((content[at] as number) - 0x30) * 10 + ((content[at + 1] as number) - 0x30);
  const rest = short ? 2 : 4;
  const year = short ? two(0) + (two(0) < 50 ? 2000 : 1900) : two(0) * 100 + two(2);
  const [month, day, hour, minute, second] = [two(rest), two(rest + 2), two(rest + 4), two(rest + 6), two(rest + 8)];
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  if (date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day || hour > 23 || minute > 59 || second > 59) {
    throw new DerError("time that does not exist");
  }
  date.setUTCHours(hour, minute, second);
  return date;
}

/** A BIT STRING's octets (view) and its count of unused bits at the end. */
export function bitStringOf(element: Element): { bytes: Bytes; unused: number } {
  expectTag(element, TAG.BIT_STRING, "BIT STRING");
  checkBitString(element.content, 0, element.content.length);
  return { bytes: element.content.subarray(1), unused: element.content[0] as number };
}

/** A BOOLEAN. */
export function booleanOf(element: Element): boolean {
  expectTag(element, TAG.BOOLEAN, "BOOLEAN");
  checkPrimitive(element.content, TAG.BOOLEAN, 0, element.content.length);
  return element.content[0] === 0xff;
}

/** An OCTET STRING's octets (view). */
export function octetStringOf(element: Element): Bytes {
  expectTag(element, TAG.OCTET_STRING, "OCTET STRING");
  return element.content;
}

const utf8Decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The text of UTF8String, PrintableString, IA5String, NumericString, VisibleString, TeletexString, BMPString, UniversalString. */
export function stringOf(element: Element): string {
  const { tag, content } = element;
  switch (tag) {
    case TAG.UTF8_STRING:
      try {
        return utf8Decoder.decode(content);
      } catch {
        throw new DerError("UTF8String is not UTF-8");
      }
    case TAG.PRINTABLE_STRING:
    case TAG.NUMERIC_STRING:
    case TAG.IA5_STRING:
    case TAG.VISIBLE_STRING:
      return asciiText(content);
    case TAG.TELETEX_STRING:
      return wideText(content, 1);
    case TAG.BMP_STRING:
      return wideText(content, 2);
    case TAG.UNIVERSAL_STRING:
      return wideText(content, 4);
    default:
      throw new DerError(`expected a string, found tag 0x${tag.toString(16)}`);
  }
}

/** Octets as ASCII text; DerError on an octet above 7F. */
export function asciiText(content: Uint8Array): string {
  let text = "";
  for (let i = 0; i < content.length; i++) {
    const octet = content[i] as number;
    if (octet > 0x7f) throw new DerError("string holds an octet that is not ASCII");
    text += String.fromCharCode(octet);
  }
  return text;
}

function wideText(content: Uint8Array, width: 1 | 2 | 4): string {
  if (content.length % width !== 0) throw new DerError("string ends inside a character");
  let text = "";
  for (let i = 0; i < content.length; i += width) {
    let code = 0;
    for (let j = 0; j < width; j++) code = code * 256 + (content[i + j] as number);
    if (code > 0x10ffff) throw new DerError("string holds a character that does not exist");
    if (code >= 0xd800 && code <= 0xdfff) throw new DerError("string holds a surrogate");
    text += String.fromCodePoint(code);
  }
  return text;
}

// ---------------------------------------------------------------------------------------------------------------- writing

/** Octets that a length takes, tag not counted. */
export function lengthOctets(length: number): number {
  if (length < 0x80) return 1;
  if (length < 0x100) return 2;
  if (length < 0x1_0000) return 3;
  return length < 0x100_0000 ? 4 : 5;
}

/** Writes tag and minimal length at `at`, returns where the content goes. */
export function writeHeader(out: Uint8Array, at: number, tag: number, length: number): number {
  out[at] = tag;
  if (length < 0x80) {
    out[at + 1] = length;
    return at + 2;
  }
  const octets = lengthOctets(length) - 1;
  out[at + 1] = 0x80 | octets;
  for (let i = 0, rest = length; i < octets; i++, rest = Math.floor(rest / 256)) out[at + 1 + octets - i] = rest % 256;
  return at + 2 + octets;
}

/** An element with that tag whose content is the parts in order. */
export function tlv(tag: number, ...parts: readonly Uint8Array[]): Bytes {
  let length = 0;
  for (const part of parts) length += part.length;
  const out = new Uint8Array(1 + lengthOctets(length) + length);
  let at = writeHeader(out, 0, tag, length);
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** SEQUENCE of the elements. */
export function sequence(...parts: readonly Uint8Array[]): Bytes {
  return tlv(TAG.SEQUENCE, ...parts);
}

/** SET OF the elements, sorted as DER asks (X.690 section 11.6). */
export function set(...parts: readonly Uint8Array[]): Bytes {
  return tlv(TAG.SET, ...[...parts].sort(compare));
}

/** INTEGER of unsigned big-endian octets (leading zeros dropped, sign octet added) or of a non-negative safe number. */
export function integer(value: Uint8Array | number): Bytes {
  return tlv(TAG.INTEGER, integerContent(value));
}

/** ENUMERATED of a small non-negative number. */
export function enumerated(value: number): Bytes {
  return tlv(TAG.ENUMERATED, integerContent(value));
}

function integerContent(value: Uint8Array | number): Bytes {
  const magnitude = typeof value === "number" ? numberOctets(value) : value;
  let start = 0;
  while (start < magnitude.length - 1 && magnitude[start] === 0) start++;
  const rest = magnitude.subarray(start);
  if (rest.length === 0) return new Uint8Array(1);
  return (rest[0] as number) >= 0x80 ? concat(new Uint8Array(1), rest) : concat(rest);
}

function numberOctets(value: number): Bytes {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError("INTEGER needs a non-negative safe integer");
  const out = new Uint8Array(7);
  for (let i = 6, rest = value; i >= 0; i--, rest = Math.floor(rest / 256)) out[i] = rest % 256;
  return out;
}

/** OBJECT IDENTIFIER of its dotted form. */
export function oid(dotted: string): Bytes {
  const match = /^[0-2](\.(0|[1-9][0-9]{0,38}))+$/.exec(dotted);
  const arcs = dotted.split(".").map((arc) => BigInt(match === null ? 0 : arc));
  const [root = 0n, second = 0n] = arcs;
  if (match === null || (root < 2n && second > 39n)) throw new RangeError(`not an object identifier: ${dotted}`);
  const content: number[] = [];
  for (const arc of [root * 40n + second, ...arcs.slice(2)]) {
    const octets = [Number(arc & 0x7fn)];
    for (let rest = arc >> 7n; rest > 0n; rest >>= 7n) octets.unshift(Number(rest & 0x7fn) | 0x80);
    content.push(...octets);
  }
  return tlv(TAG.OID, new Uint8Array(content));
}

/** NULL. A constant: do not write to it. */
export const NULL: Bytes = tlv(TAG.NULL);

/** BOOLEAN. */
export function boolean(value: boolean): Bytes {
  return tlv(TAG.BOOLEAN, new Uint8Array([value ? 0xff : 0]));
}

/** OCTET STRING of the parts in order. */
export function octetString(...parts: readonly Uint8Array[]): Bytes {
  return tlv(TAG.OCTET_STRING, ...parts);
}

/** BIT STRING; `unused` bits at the end of the last octet must be zero. */
export function bitString(bytes: Uint8Array, unused = 0): Bytes {
  return tlv(TAG.BIT_STRING, new Uint8Array([unused]), bytes);
}

/** BIT STRING of a named bit list (bit 0 first), trailing zero bits dropped (X.690 section 11.2.2). */
export function namedBits(bits: readonly number[]): Bytes {
  if (bits.length === 0) return bitString(new Uint8Array(0));
  const last = Math.max(...bits);
  const out = new Uint8Array((last >> 3) + 1);
  for (const bit of bits) out[bit >> 3] = (out[bit >> 3] as number) | (0x80 >> (bit & 7));
  return bitString(out, 7 - (last & 7));
}

/** UTF8String. */
export function utf8String(text: string): Bytes {
  return tlv(TAG.UTF8_STRING, utf8(text));
}

/** PrintableString; throws RangeError on a character outside X.680 section 41.4. */
export function printableString(text: string): Bytes {
  if (!/^[A-Za-z0-9 '()+,\-./:=?]*$/.test(text)) throw new RangeError("not a PrintableString");
  return tlv(TAG.PRINTABLE_STRING, ascii(text));
}

/** IA5String of ASCII text. */
export function ia5String(text: string): Bytes {
  return tlv(TAG.IA5_STRING, ascii(text));
}

/** UTCTime from 1950 to 2049, else GeneralizedTime (RFC 5280 section 4.1.2.5); parts of a second are dropped. */
export function time(date: Date): Bytes {
  const year = date.getUTCFullYear();
  if (Number.isNaN(year) || year < 0 || year > 9999) throw new RangeError("time outside the years 0 to 9999");
  return year >= 1950 && year < 2050 ? tlv(TAG.UTC_TIME, timeContent(date).subarray(2)) : generalizedTime(date);
}

/** GeneralizedTime in seconds, whatever the year. */
export function generalizedTime(date: Date): Bytes {
  return tlv(TAG.GENERALIZED_TIME, timeContent(date));
}

function timeContent(date: Date): Bytes {
  const text = date.toISOString();
  if (text.length !== 24) throw new RangeError("time outside the years 0 to 9999");
  const digits = `${text.slice(0, 4)}${text.slice(5, 7)}${text.slice(8, 10)}`;
  return ascii(`${digits}${text.slice(11, 13)}${text.slice(14, 16)}${text.slice(17, 19)}Z`);
}

/** Context-specific tag [n] around the parts: EXPLICIT or a constructed IMPLICIT when `constructed`, else a primitive IMPLICIT. */
export function context(n: number, constructed: boolean, ...parts: readonly Uint8Array[]): Bytes {
  return tlv(0x80 | (constructed ? 0x20 : 0) | n, ...parts);
}
