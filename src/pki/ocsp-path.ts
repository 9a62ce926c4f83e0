import { type Bytes, fromBase64 } from "./bytes.ts";
import { EncodingError, PkiError } from "./errors.ts";
import { MAX_OCSP_REQUEST, OcspError, type OcspRequest, readOcspRequest } from "./ocsp-request.ts";

/**
 * The GET form of an OCSP request (RFC 6960 appendix A.1, RFC 9919), as real clients, and proxies in front of us, send
 * it.
 */

/** Maximum path of a 10 KB request, even with every character percent-encoded. */
const MAX_PATH = Math.ceil(MAX_OCSP_REQUEST / 3) * 4 * 3 + 64;
/** Limits on restoring merged characters: their number, the attempts, and the octets of all attempts. */
const MAX_MISSING = 8;
const MAX_TRIES = 256;
const MAX_TRIED_OCTETS = 65_536;

/** The standard base64 in a raw path without surrounding and embedded extras, and the amount of its padding. */
function base64In(rawTail: string): { text: string; padding: number } {
  const decoded = rawTail.replace(/%([0-9a-fA-F]{2})/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
  const standard = decoded
    // Some encoders break base64 into lines (RFC 2045 section 6.8).
    .replace(/[\r\n]/g, "")
    // A space is a `+` that was form-decoded.
    .replace(/[ -]/g, "+")
    .replaceAll("_", "/");
  // Base64 of a SEQUENCE starts with M, so any slash before it belongs to the path.
  const parts = /^\/*([A-Za-z0-9+/]*)((?:=[=/]*)?)$/.exec(standard);
  if (!parts) throw new OcspError("path is not the base64 form of a request");
  const [, text = "", end = ""] = parts;
  return { text, padding: end.replaceAll("/", "").length };
}

/** Length of the whole element according to its first octets, or 0 if they do not start a request. */
function announcedLength(text: string): number {
  if (text.length < 6) return 0;
  const [tag, length = 0, next = 0, last = 0] = fromBase64(text.slice(0, 8).padEnd(8, "A"));
  if (tag !== 0x30) return 0;
  if (length < 0x80) return 2 + length;
  if (length === 0x81) return 3 + next;
  return length === 0x82 ? 4 + next * 256 + last : 0;
}

/** Throws OcspError for non-zero unused bits. */
function octetsOf(text: string): Bytes {
  try {
    return fromBase64(text);
  } catch (error) {
    if (error instanceof EncodingError) throw new OcspError("base64 form with unused bits set");
    throw error;
  }
}

/** The text with a slash added at each of the places (ascending, repeats allowed). */
function withSlashes(text: string, places: readonly number[]): string {
  return [0, ...places].map((from, i) => text.slice(from, places[i])).join("/");
}

/** All ways to choose `count` of the places in ascending order, with repeats. */
function* choices(places: readonly number[], count: number, from = 0): Generator<number[]> {
  if (count === 0) {
    yield [];
    return;
  }
  for (let i = from; i < places.length; i++) {
    for (const rest of choices(places, count - 1, i)) yield [places[i] as number, ...rest];
  }
}

/** The octets of a text that parses as a request, with the request; else null. */
function parsed(text: string): { der: Bytes; request: OcspRequest } | null {
  try {
    const der = fromBase64(text);
    return { der, request: readOcspRequest(der) };
  } catch (error) {
    if (error instanceof PkiError) return null;
    throw error;
  }
}

function restoreSlashes(
  text: string,
  length: number,
  missing: number,
  accept: (request: OcspRequest) => boolean,
): Bytes {
  const afterRuns = [...text.matchAll(/\/+/g)].map((run) => run.index + run[0].length);
  let readable: Bytes | null = null;
  let tries = Math.min(MAX_TRIES, Math.floor(MAX_TRIED_OCTETS / length));
  for (const places of choices(afterRuns, missing)) {
    if (tries-- === 0) break;
    const candidate = parsed(withSlashes(text, places));
    if (candidate === null) continue;
    if (accept(candidate.request)) return candidate.der;
    readable ??= candidate.der;
  }
  if (readable === null) throw new OcspError("base64 form is shorter than the request it begins");
  return readable;
}

/**
 * The DER request in the path after the responder's URL in a GET: the raw path, neither decoded nor normalised, without
 * query. Accepts any number of leading slashes; standard base64 with or without padding; percent-encoding of any
 * character, in upper or lower case; percent-encoded line breaks; trailing slashes; a space for `+`; and the URL-safe
 * `-` and `_`, which standard base64 never has. If characters are missing because a proxy merged `//` into `/`, they
 * are restored: the result must parse as a request, preferably one that `accept` approves (for instance: the issuer
 * hashes are ours), because slashes near each other can allow several results. The effort is bounded. Throws OcspError
 * `malformedRequest`. Unless slashes were restored, the result may still be malformed; `parseOcspRequest` decides.
 */
export function decodeOcspPath(rawTail: string, accept: (request: OcspRequest) => boolean = () => true): Bytes {
  if (rawTail.length > MAX_PATH) throw new OcspError("path is longer than the base64 form of 10 KB");
  const { text, padding } = base64In(rawTail);
  const length = announcedLength(text);
  if (length === 0) throw new OcspError("path does not begin with a request");
  if (length > MAX_OCSP_REQUEST) throw new OcspError("request is longer than 10 KB");
  const characters = Math.ceil((length * 4) / 3);
  if (padding > 0 && (characters + padding) % 4 !== 0) throw new OcspError("base64 form with wrong padding");
  if (!/^\/*$/.test(text.slice(characters))) throw new OcspError("octets after the request");
  const missing = characters - text.length;
  if (missing <= 0) return octetsOf(text.slice(0, characters));
  if (missing > MAX_MISSING) throw new OcspError("base64 form is shorter than the request it begins");
  return restoreSlashes(text, length, missing, accept);
}
