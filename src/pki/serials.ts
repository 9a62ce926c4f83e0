import { createHmac, timingSafeEqual } from "node:crypto";
import { type Bytes, concat, fromHex } from "./bytes.ts";

/**
 * Serial numbers (RFC 5280 section 4.1.2.2). A CA's own serials end in a tag keyed by a secret of that CA: with the
 * key, a serial of this CA can be told from a made-up one without a look-up. Without the key, all octets look random.
 */

/** All serials have the same length, so CRL entries do too. */
const SERIAL_OCTETS = 17;
/** A made-up serial passes the tag check with probability 2^-32 and is then looked up. */
const TAG_OCTETS = 4;
const RANDOM_OCTETS = SERIAL_OCTETS - TAG_OCTETS;

/** A serial of 128 random bits after a random octet 01..7F: positive, without a sign octet, always 17 octets. */
export function randomSerial(random: (octets: number) => Uint8Array): Bytes {
  return positive(concat(random(SERIAL_OCTETS)));
}

/**
 * A serial of 17 octets whose last four are HMAC-SHA-256 of the others under `key`, truncated. The other 13 carry 102
 * random bits: more than the 64 that the CA/Browser Forum requires (Baseline Requirements section 7.1).
 */
export function taggedSerial(random: (octets: number) => Uint8Array, key: Uint8Array): Bytes {
  const start = positive(concat(random(RANDOM_OCTETS)));
  return concat(start, tagOf(start, key));
}

/** Whether `serial` (lower-case hex) carries the tag of `key`. */
export function hasTag(serial: string, key: Uint8Array): boolean {
  if (serial.length !== 2 * SERIAL_OCTETS) return false;
  const octets = fromHex(serial);
  return timingSafeEqual(tagOf(octets.subarray(0, RANDOM_OCTETS), key), octets.subarray(RANDOM_OCTETS));
}

function positive(serial: Bytes): Bytes {
  serial[0] = 1 + ((serial[0] as number) % 127);
  return serial;
}

function tagOf(octets: Uint8Array, key: Uint8Array): Uint8Array {
  return createHmac("sha256", key).update(octets).digest().subarray(0, TAG_OCTETS);
}

const BITS_AN_ENTRY = 16;
const PROBES = 8;

/**
 * A Bloom filter for serials without a tag: it matches every added serial, and about one in 1,500 of the others. The
 * hash is keyed, so that serials that match cannot be searched for.
 */
export class SerialFilter {
  /** The length is a power of two. */
  readonly bits: Bytes;
  private readonly key: Uint8Array;

  constructor(key: Uint8Array, bits: Bytes) {
    this.key = key;
    this.bits = bits;
  }

  /** An empty filter with room for `capacity` serials. */
  static withCapacity(key: Uint8Array, capacity: number): SerialFilter {
    const octets = Math.max(8, (capacity * BITS_AN_ENTRY) / 8);
    return new SerialFilter(key, new Uint8Array(2 ** Math.ceil(Math.log2(octets))));
  }

  /** Number of serials that fit before the rate of false matches exceeds the intended one. */
  get capacity(): number {
    return (this.bits.length * 8) / BITS_AN_ENTRY;
  }

  add(serial: string): void {
    for (const at of this.#places(serial)) this.bits[at >>> 3] = (this.bits[at >>> 3] as number) | (1 << (at & 7));
  }

  has(serial: string): boolean {
    return this.#places(serial).every((at) => ((this.bits[at >>> 3] as number) & (1 << (at & 7))) !== 0);
  }

  /** The bit positions of a serial: its keyed hash, four octets each. */
  #places(serial: string): number[] {
    const hash = createHmac("sha256", this.key).update(`filter|${serial}`).digest();
    const mask = this.bits.length * 8 - 1;
    return Array.from({ length: PROBES }, (_, i) => (hash.readUInt32LE(4 * i) & mask) >>> 0);
  }
}

/**
 * A serial in the ledger's form: lower-case hex, two digits an octet, no sign octet; null for more than 20 octets.
 * Accepts hex in any case, colons and leading zeros.
 */
export function normalSerial(text: string): string | null {
  const digits = text
    .replaceAll(":", "")
    .toLowerCase()
    .replace(/^0+(?=.)/, "");
  if (digits.length > 40) return null;
  return digits.length % 2 === 0 ? digits : `0${digits}`;
}
