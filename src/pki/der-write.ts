import { ascii, type Bytes, compare, concat, utf8 } from "./bytes.ts";
import { TAG } from "./der-tags.ts";
import { GENERALIZED_TIME_LENGTH, timeLength, writeGeneralizedTime, writeTime } from "./times.ts";

/** The writer of `der.ts`: every value in its only DER form. */

/** Octets of an encoded length, without the tag. */
export function lengthOctets(length: number): number {
  if (length < 0x80) return 1;
  if (length < 0x100) return 2;
  if (length < 0x1_0000) return 3;
  return length < 0x100_0000 ? 4 : 5;
}

/** Writes tag and minimal length at `at`; returns the offset of the content. */
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

/** An element with that tag; its content is the parts in order. */
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

/** SET OF the elements, sorted as DER requires (X.690 section 11.6). */
export function set(...parts: readonly Uint8Array[]): Bytes {
  return tlv(TAG.SET, ...[...parts].sort(compare));
}

/** INTEGER from unsigned big-endian octets (leading zeros dropped, sign octet added) or a non-negative safe number. */
export function integer(value: Uint8Array | number): Bytes {
  return tlv(TAG.INTEGER, integerContent(value));
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

/** OBJECT IDENTIFIER from its dotted form. */
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

/** BIT STRING; the `unused` trailing bits must be zero. */
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

/** UTCTime from 1950 to 2049, else GeneralizedTime (RFC 5280 section 4.1.2.5); fractions of a second are dropped. */
export function time(date: Date): Bytes {
  const out = new Uint8Array(timeLength(date.getTime()));
  writeTime(out, 0, date.getTime());
  return out;
}

/** GeneralizedTime in seconds, for any year. */
export function generalizedTime(date: Date): Bytes {
  const out = new Uint8Array(GENERALIZED_TIME_LENGTH);
  writeGeneralizedTime(out, 0, date.getTime());
  return out;
}

/**
 * Context-specific tag [n] around the parts: EXPLICIT or constructed IMPLICIT if `constructed`, else primitive
 * IMPLICIT.
 */
export function context(n: number, constructed: boolean, ...parts: readonly Uint8Array[]): Bytes {
  return tlv(0x80 | (constructed ? 0x20 : 0) | n, ...parts);
}
