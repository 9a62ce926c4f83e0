import { EncodingError } from "./errors.ts";

/** Octet helpers that behave the same in workerd and Node. Results are fresh memory unless documented as a view. */

export type Bytes = Uint8Array<ArrayBuffer>;

interface NativeCodecs {
  toHex?: () => string;
  toBase64?: () => string;
}

const HEX: readonly string[] = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, "0"));
const native: NativeCodecs = Uint8Array.prototype as NativeCodecs;
const nativeToHex = native.toHex;
const nativeToBase64 = native.toBase64;

/** Lower-case hexadecimal, two digits an octet. */
export function toHex(bytes: Uint8Array): string {
  if (nativeToHex !== undefined) return nativeToHex.call(bytes);
  let text = "";
  for (let i = 0; i < bytes.length; i++) text += HEX[bytes[i] as number];
  return text;
}

function nibble(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const lower = code | 0x20;
  if (lower >= 0x61 && lower <= 0x66) return lower - 0x57;
  throw new EncodingError("not a hexadecimal digit");
}

/** Octets of hexadecimal text in any case. Throws EncodingError on an odd length or an invalid character. */
export function fromHex(text: string): Bytes {
  if (text.length % 2 !== 0) throw new EncodingError("hexadecimal text must have an even number of digits");
  const out = new Uint8Array(text.length / 2);
  for (let i = 0; i < out.length; i++) {
    out[i] = (nibble(text.charCodeAt(2 * i)) << 4) | nibble(text.charCodeAt(2 * i + 1));
  }
  return out;
}

/** RFC 4648 section 4 base64 with padding. */
export function toBase64(bytes: Uint8Array): string {
  if (nativeToBase64 !== undefined) return nativeToBase64.call(bytes);
  let binary = "";
  for (let i = 0; i < bytes.length; i += 8192) binary += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return btoa(binary);
}

/**
 * Octets of RFC 4648 section 4 base64: padding optional, unused bits zero, no white space, no other character.
 * Throws EncodingError.
 */
export function fromBase64(text: string): Bytes {
  let end = text.length;
  if (end % 4 === 0 && end > 0 && text.charCodeAt(end - 1) === 0x3d) {
    end -= text.charCodeAt(end - 2) === 0x3d ? 2 : 1;
  }
  if (end % 4 === 1) throw new EncodingError("base64 text has an impossible length");
  const out = new Uint8Array((end * 3) >>> 2);
  let bits = 0;
  let pending = 0;
  let at = 0;
  for (let i = 0; i < end; i++) {
    const code = text.charCodeAt(i);
    const value = code < 128 ? (BASE64_VALUES[code] as number) : 255;
    if (value === 255) throw new EncodingError("not a base64 character");
    bits = ((bits << 6) | value) & 0xffff;
    pending += 6;
    if (pending >= 8) {
      pending -= 8;
      out[at++] = (bits >>> pending) & 0xff;
    }
  }
  if ((bits & ((1 << pending) - 1)) !== 0) throw new EncodingError("base64 text has unused bits set");
  return out;
}

const BASE64_VALUES: Uint8Array = (() => {
  const table = new Uint8Array(128).fill(255);
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (let i = 0; i < 64; i++) table[alphabet.charCodeAt(i)] = i;
  return table;
})();

/** One array of all parts in order. */
export function concat(...parts: readonly Uint8Array[]): Bytes {
  let length = 0;
  for (const part of parts) length += part.length;
  const out = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** Same length and same octets. Not constant time: never for secrets. */
export function equal(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Octet-wise order, a prefix before the longer array: the order of DER SET OF (X.690 section 11.6). */
export function compare(a: Uint8Array, b: Uint8Array): number {
  const shared = Math.min(a.length, b.length);
  for (let i = 0; i < shared; i++) {
    const difference = (a[i] as number) - (b[i] as number);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

/** The octets of ASCII text. Throws EncodingError on any other character. */
export function ascii(text: string): Bytes {
  const out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code > 0x7f) throw new EncodingError("text is not ASCII");
    out[i] = code;
  }
  return out;
}

const encoder = new TextEncoder();

/** The octets of text in UTF-8. */
export function utf8(text: string): Bytes {
  return encoder.encode(text) as Bytes;
}

/** SHA-1, SHA-256, SHA-384 or SHA-512 of the octets (WebCrypto). */
export async function digest(algorithm: "SHA-1" | "SHA-256" | "SHA-384" | "SHA-512", data: Bytes): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.digest(algorithm, data));
}

/** The SHA-256 fingerprint of the octets, lower-case hex. */
export async function sha256Hex(data: Bytes): Promise<string> {
  return toHex(await digest("SHA-256", data));
}
