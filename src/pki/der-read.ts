import type { Bytes } from "./bytes.ts";
import { TAG } from "./der-tags.ts";
import { DerError } from "./errors.ts";
import { checkTime, readTime } from "./times.ts";

/** The strict reader of `der.ts`. */

/** One tag-length-value. `bytes` (the whole TLV) and `content` are views into the input. */
export interface Element {
  readonly tag: number;
  readonly bytes: Bytes;
  readonly content: Bytes;
}

export interface DecodeLimits {
  /** Largest input in octets; default 65,536. */
  maxBytes?: number;
  /** Deepest nesting of constructed elements; default 32. */
  maxDepth?: number;
}

/** Reads the header at `at` (strict) and returns the element's end, at most `limit`. Throws DerError. */
export function elementEnd(bytes: Uint8Array, at: number, limit: number): number {
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

/** The start of the content of the element at `at`, from the first length octet; `elementEnd` checks the rest. */
export function contentStart(bytes: Uint8Array, at: number): number {
  const first = bytes[at + 1] as number;
  return at + (first < 0x80 ? 2 : 2 + (first & 0x7f));
}

const MAX_DEPTH = 32;

function elementAt(bytes: Bytes, at: number, limit: number): Element {
  const end = elementEnd(bytes, at, limit);
  const start = contentStart(bytes, at);
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

/** The start of a non-negative INTEGER's value in its content, after the sign octet if there is one. */
function unsignedStart(bytes: Uint8Array, start: number, end: number): number {
  checkInteger(bytes, start, end);
  if ((bytes[start] as number) >= 0x80) throw new DerError("INTEGER must not be negative");
  return end - start > 1 && bytes[start] === 0 ? start + 1 : start;
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

/** Strict checks for individual universal primitive types. */
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
    const start = contentStart(bytes, at);
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
 * Decodes exactly one element: strict DER throughout the tree, nothing after it. GeneralizedTime has the form of RFC
 * 5280 section 4.1.2.5.2 (no fraction). Throws DerError.
 */
export function decode(bytes: Bytes, limits: DecodeLimits = {}): Element {
  const maxBytes = limits.maxBytes ?? 65_536;
  if (bytes.length > maxBytes) throw new DerError(`longer than ${maxBytes} octets`);
  const element = elementAt(bytes, 0, bytes.length);
  if (element.bytes.length !== bytes.length) throw new DerError("octets after the element");
  checkTree(bytes, 0, bytes.length, limits.maxDepth ?? MAX_DEPTH);
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
 * Walks the elements of a constructed element, or consecutive elements in raw octets. Headers are checked strictly as
 * they are read; contents are checked only if `decode` read them before. All methods throw DerError.
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

  /** The next element; throws if `tag` is given and differs. */
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

  /** Throws if anything is left. */
  end(): void {
    if (this.at < this.source.length) throw new DerError("an element too many");
  }
}

/**
 * Walks octets in place without an object for each element, for octets read once per OCSP request or revoked
 * certificate. Each method gets the `limit` that the element at `at` may not exceed. Contents are unchecked unless a
 * method says otherwise. All methods throw DerError.
 */
export class Cursor {
  readonly bytes: Bytes;
  at: number;

  constructor(bytes: Bytes, at = 0) {
    this.bytes = bytes;
    this.at = at;
  }

  /** Whether an element of that tag is next. */
  sees(tag: number, limit: number): boolean {
    return this.at < limit && this.bytes[this.at] === tag;
  }

  /** Whether exactly these octets are next, or at `at`. */
  matches(expected: Uint8Array, limit: number, at = this.at): boolean {
    const { bytes } = this;
    if (at + expected.length > limit) return false;
    for (let i = 0; i < expected.length; i++) if (bytes[at + i] !== expected[i]) return false;
    return true;
  }

  /** Steps into the element of that tag and returns its end. */
  enter(tag: number, limit: number): number {
    const { bytes, at } = this;
    if (at >= limit || bytes[at] !== tag) throw new DerError(`expected tag 0x${tag.toString(16)} at octet ${at}`);
    const end = elementEnd(bytes, at, limit);
    this.at = contentStart(bytes, at);
    return end;
  }

  /** Steps over an element of that tag; its whole tree must be strict DER. */
  skip(tag: number, limit: number): void {
    const from = this.at;
    const end = this.enter(tag, limit);
    checkTree(this.bytes, from, end, MAX_DEPTH);
    this.at = end;
  }

  /**
   * Steps over a non-negative INTEGER of at most `most` octets, not counting the sign octet; returns the start of those
   * octets.
   */
  unsigned(most: number, limit: number): number {
    const end = this.enter(TAG.INTEGER, limit);
    const from = unsignedStart(this.bytes, this.at, end);
    if (end - from > most) throw new DerError(`INTEGER is longer than ${most} octets`);
    this.at = end;
    return from;
  }

  /** Steps over an OBJECT IDENTIFIER. */
  oid(limit: number): void {
    const end = this.enter(TAG.OID, limit);
    checkOid(this.bytes, this.at, end);
    this.at = end;
  }

  /** Steps over a BOOLEAN and returns it. */
  boolean(limit: number): boolean {
    const end = this.enter(TAG.BOOLEAN, limit);
    checkPrimitive(this.bytes, TAG.BOOLEAN, this.at, end);
    this.at = end;
    return this.bytes[end - 1] === 0xff;
  }

  /** Steps over a UTCTime or GeneralizedTime; returns its Unix milliseconds. */
  time(limit: number): number {
    const { bytes, at } = this;
    const end = elementEnd(bytes, at, limit);
    this.at = end;
    return readTime(bytes, bytes[at] as number, contentStart(bytes, at), end);
  }

  /** Throws if anything is left before `end`. */
  close(end: number, what: string): void {
    if (this.at !== end) throw new DerError(`octets too many in ${what}`);
  }
}

function expectTag(element: Element, tag: number, what: string): void {
  if (element.tag !== tag) throw new DerError(`expected ${what}, found tag 0x${element.tag.toString(16)}`);
}

/** The octets of a non-negative INTEGER, most significant first, without a sign octet (zero is the octet 00). */
export function integerBytes(element: Element): Bytes {
  expectTag(element, TAG.INTEGER, "INTEGER");
  const { content } = element;
  return content.subarray(unsignedStart(content, 0, content.length));
}

/** The value of a non-negative INTEGER or ENUMERATED below 2^48. */
export function smallInteger(element: Element): number {
  if (element.tag !== TAG.INTEGER) expectTag(element, TAG.ENUMERATED, "INTEGER");
  const { content } = element;
  unsignedStart(content, 0, content.length);
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

/** The dotted form of an OBJECT IDENTIFIER's content octets, also of an implicitly tagged one such as registeredID. */
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
export function timeOf({ tag, content }: Element): Date {
  return new Date(readTime(content, tag, 0, content.length));
}

/** A BIT STRING's octets (view) and its number of unused trailing bits. */
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
