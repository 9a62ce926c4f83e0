import type { Bytes } from "./bytes.ts";
import { PkiError } from "./errors.ts";
import { MAX_OCSP_REQUEST, OcspError, type OcspRequest, readOcspRequest } from "./ocsp-request.ts";

/** The GET form of an OCSP request (RFC 6960 appendix A.1, RFC 9919), as clients and the proxies before us really send it. */

/** No request of 10 KB is longer, even when every character is percent-encoded. */
const MAX_PATH = Math.ceil(MAX_OCSP_REQUEST / 3) * 4 * 3 + 64;
/** Most characters that are taken for merged away; most ways of putting them back that are tried, and octets in all of them. */
const MAX_MISSING = 8;
const MAX_TRIES = 256;
const MAX_TRIED_OCTETS = 65_536;

const SLASH = 63;

/** Value of a base64 character; 64 padding; 255 anything else. A space is a `+` that was form-decoded. */
const VALUES: Uint8Array = (() => {
  const table = new Uint8Array(128).fill(255);
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (let i = 0; i < 64; i++) table[alphabet.charCodeAt(i)] = i;
  table[0x20] = 62;
  table[0x2d] = 62;
  table[0x5f] = SLASH;
  table[0x3d] = 64;
  return table;
})();

function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const lower = code | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -256;
}

/** The six-bit values of the text without line breaks, leading slashes and those behind the padding, and how much padding there is. */
function sextets(text: string): { values: Uint8Array; padding: number } {
  const values = new Uint8Array(text.length);
  let count = 0;
  let padding = 0;
  for (let i = 0; i < text.length; i++) {
    let code = text.charCodeAt(i);
    if (code === 0x25) {
      code = hexDigit(text.charCodeAt(i + 1)) * 16 + hexDigit(text.charCodeAt(i + 2));
      i += 2;
    }
    // Some encoders break their base64 into lines (RFC 2045 section 6.8).
    if (code === 0x0a || code === 0x0d) continue;
    const value = code >= 0 && code < 128 ? (VALUES[code] as number) : 255;
    if (value === 255) throw new OcspError("path is not the base64 form of a request");
    if (value === 64) {
      padding++;
    } else if (padding === 0 || value !== SLASH) {
      if (padding > 0) throw new OcspError("padding inside the base64 form of a request");
      // Base64 of a SEQUENCE begins with M, so a slash before it belongs to the path.
      if (value !== SLASH || count > 0) values[count++] = value;
    }
  }
  return { values: values.subarray(0, count), padding };
}

/** Length of the whole element that the first octets announce, or 0 when they announce none that is a request. */
function announcedLength(values: Uint8Array): number {
  if (values.length < 6) return 0;
  const v = (i: number): number => values[i] as number;
  const [first, second] = [(v(0) << 2) | (v(1) >> 4), ((v(1) & 15) << 4) | (v(2) >> 2)];
  const [third, fourth] = [((v(2) & 3) << 6) | v(3), (v(4) << 2) | (v(5) >> 4)];
  if (first !== 0x30) return 0;
  if (second < 0x80) return 2 + second;
  if (second === 0x81) return 3 + third;
  return second === 0x82 ? 4 + third * 256 + fourth : 0;
}

/** Packs exactly `length` octets. Bits that are left over must be zero. */
function pack(values: Uint8Array, length: number): Bytes {
  const out = new Uint8Array(length);
  let at = 0;
  let bits = 0;
  let pending = 0;
  for (let i = 0; i < values.length; i++) {
    bits = ((bits << 6) | (values[i] as number)) & 0xfff;
    pending += 6;
    if (pending >= 8) {
      pending -= 8;
      out[at++] = bits >>> pending;
    }
  }
  if ((bits & ((1 << pending) - 1)) !== 0) throw new OcspError("base64 form with unused bits set");
  return out;
}

/** Where each run of slashes ends. */
function slashRuns(values: Uint8Array): number[] {
  const ends: number[] = [];
  for (let i = 0; i < values.length; i++) if (values[i] === SLASH && values[i + 1] !== SLASH) ends.push(i + 1);
  return ends;
}

/** The values with one slash more at each of the places (ascending, a place may stand several times). */
function withSlashes(values: Uint8Array, places: readonly number[]): Uint8Array {
  const out = new Uint8Array(values.length + places.length);
  let from = 0;
  for (let i = 0; i < places.length; i++) {
    const place = places[i] as number;
    out.set(values.subarray(from, place), from + i);
    out[place + i] = SLASH;
    from = place;
  }
  out.set(values.subarray(from), from + places.length);
  return out;
}

/** All ways to choose `count` of the places, each as often as wanted, in ascending order. */
function* choices(places: readonly number[], count: number, from = 0): Generator<number[]> {
  if (count === 0) {
    yield [];
    return;
  }
  for (let i = from; i < places.length; i++) {
    for (const rest of choices(places, count - 1, i)) yield [places[i] as number, ...rest];
  }
}

function parsed(der: Bytes): OcspRequest | null {
  try {
    return readOcspRequest(der);
  } catch (error) {
    if (error instanceof PkiError) return null;
    throw error;
  }
}

function restoreSlashes(
  values: Uint8Array,
  length: number,
  missing: number,
  accept: (request: OcspRequest) => boolean,
): Bytes {
  let readable: Bytes | null = null;
  let tries = Math.min(MAX_TRIES, Math.floor(MAX_TRIED_OCTETS / length));
  for (const places of choices(slashRuns(values), missing)) {
    if (tries-- === 0) break;
    const candidate = withSlashes(values, places);
    const spare = (candidate.length * 6) % 8;
    if (((candidate.at(-1) ?? 0) & ((1 << spare) - 1)) !== 0) continue;
    const der = pack(candidate, length);
    const request = parsed(der);
    if (request === null) continue;
    if (accept(request)) return der;
    readable ??= der;
  }
  if (readable === null) throw new OcspError("base64 form is shorter than the request it begins");
  return readable;
}

/**
 * The DER request in what stands after the responder's URL in a GET: the raw path, neither decoded nor normalised, without
 * query. Taken: any number of leading slashes; standard base64 with its padding or none; any character percent-encoded, in
 * upper or lower case; line breaks, percent-encoded; slashes at the end; a space for `+`; the URL-safe `-` and `_`, which standard base64 never has. When characters are missing
 * because something on the way merged `//` into `/`, they are put back: the way that reads as a request is taken, preferably
 * one that `accept` says yes to (for instance: the issuer hashes are ours), for two slashes near each other can allow more
 * than one. That work is bounded. Throws OcspError `malformedRequest`; the result itself may still be malformed unless slashes
 * were put back: `parseOcspRequest` says.
 */
export function decodeOcspPath(rawTail: string, accept: (request: OcspRequest) => boolean = () => true): Bytes {
  if (rawTail.length > MAX_PATH) throw new OcspError("path is longer than the base64 form of 10 KB");
  const { values, padding } = sextets(rawTail);
  const length = announcedLength(values);
  if (length === 0) throw new OcspError("path does not begin with a request");
  if (length > MAX_OCSP_REQUEST) throw new OcspError("request is longer than 10 KB");
  const characters = Math.ceil((length * 4) / 3);
  if (padding > 0 && (characters + padding) % 4 !== 0) throw new OcspError("base64 form with wrong padding");
  const missing = characters - values.length;
  if (values.subarray(characters).some((value) => value !== SLASH)) throw new OcspError("octets after the request");
  if (missing <= 0) return pack(values.subarray(0, characters), length);
  if (missing > MAX_MISSING) throw new OcspError("base64 form is shorter than the request it begins");
  return restoreSlashes(values, length, missing, accept);
}
