import { type Bytes, fromBase64 } from "./bytes.ts";
import { EncodingError, PkiError } from "./errors.ts";
import { MAX_OCSP_REQUEST, OcspError, type OcspRequest, readOcspRequest } from "./ocsp-request.ts";

/** The GET form of an OCSP request (RFC 6960 appendix A.1, RFC 9919), as clients and the proxies before us really send it. */

/** No request of 10 KB is longer, even when every character is percent-encoded. */
const MAX_PATH = Math.ceil(MAX_OCSP_REQUEST / 3) * 4 * 3 + 64;
/** Most characters that are taken for merged away; most ways of putting them back that are tried, and octets in all of them. */
const MAX_MISSING = 8;
const MAX_TRIES = 256;
const MAX_TRIED_OCTETS = 65_536;

/** The standard base64 in a raw path, without what stands around and between its characters, and how much padding it has. */
function base64In(rawTail: string): { text: string; padding: number } {
  const decoded = rawTail.replace(/%([0-9a-fA-F]{2})/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
  const standard = decoded
    // Some encoders break their base64 into lines (RFC 2045 section 6.8).
    .replace(/[\r\n]/g, "")
    // A space is a `+` that was form-decoded.
    .replace(/[ -]/g, "+")
    .replaceAll("_", "/");
  // Base64 of a SEQUENCE begins with M, so a slash before it belongs to the path.
  const parts = /^\/*([A-Za-z0-9+/]*)((?:=[=/]*)?)$/.exec(standard);
  if (!parts) throw new OcspError("path is not the base64 form of a request");
  const [, text = "", end = ""] = parts;
  return { text, padding: end.replaceAll("/", "").length };
}

/** Length of the whole element that the first octets announce, or 0 when they announce none that is a request. */
function announcedLength(text: string): number {
  if (text.length < 6) return 0;
  const [tag, length = 0, next = 0, last = 0] = fromBase64(text.slice(0, 8).padEnd(8, "A"));
  if (tag !== 0x30) return 0;
  if (length < 0x80) return 2 + length;
  if (length === 0x81) return 3 + next;
  return length === 0x82 ? 4 + next * 256 + last : 0;
}

/** Throws OcspError for bits that are left over and not zero. */
function octetsOf(text: string): Bytes {
  try {
    return fromBase64(text);
  } catch (error) {
    if (error instanceof EncodingError) throw new OcspError("base64 form with unused bits set");
    throw error;
  }
}

/** The text with one slash more at each of the places (ascending, a place may stand several times). */
function withSlashes(text: string, places: readonly number[]): string {
  return [0, ...places].map((from, i) => text.slice(from, places[i])).join("/");
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

/** The octets of a text that reads as a request, with the request; null for any other. */
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
