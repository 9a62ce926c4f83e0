import { type Bytes, fromHex } from "./bytes.ts";
import { lengthOctets, writeHeader } from "./der.ts";
import { timeLength, writeTime } from "./times.ts";

/** One revoked certificate on a CRL: an element of revokedCertificates (RFC 5280 section 5.1.2.6), written in place. */

/** crlEntryExtensions with one reasonCode (RFC 5280 section 5.3.1, not critical); the CRLReason is the last octet. */
export const REASON_EXTENSION = new Uint8Array([0x30, 12, 0x30, 10, 6, 3, 0x55, 0x1d, 0x15, 4, 3, 0x0a, 1, 0]);

/** Length of the serial as INTEGER content: adds a sign octet if the top bit is set. */
function serialContent(serial: Uint8Array): number {
  const first = serial[0];
  if (first === undefined || serial.length > 20 || (first === 0 && serial.length > 1)) {
    throw new RangeError("serial of 1 to 20 octets without sign octet");
  }
  return first >= 0x80 ? serial.length + 1 : serial.length;
}

function contentLength(serial: Uint8Array, revokedAt: number, reason: number): number {
  if (!(Number.isInteger(reason) && reason >= 0 && reason <= 10 && reason !== 7 && reason !== 8)) {
    throw new RangeError("reason is a CRLReason of a full CRL: 0 to 6, 9 or 10");
  }
  return 2 + serialContent(serial) + timeLength(revokedAt) + (reason === 0 ? 0 : REASON_EXTENSION.length);
}

/**
 * Octets that `writeCrlEntry` writes. They depend on the length and top bit of the serial, on whether the reason is
 * unspecified (0), and on whether the time is before 2050: a serial of 16 octets takes 35 or 36 without reason, 49 or
 * 50 with.
 */
export function crlEntryLength(serial: Uint8Array, revokedAt: number, reason: number): number {
  const content = contentLength(serial, revokedAt, reason);
  return 1 + lengthOctets(content) + content;
}

/**
 * Writes an entry at `at` and returns the offset of the next one. `serial`: 1 to 20 octets, no sign octet. `revokedAt`:
 * Unix milliseconds, rounded down to seconds. `reason`: CRLReason number; unspecified (0) is omitted, and removeFromCRL
 * (8) is refused because it belongs to delta CRLs. Throws RangeError.
 */
export function writeCrlEntry(
  out: Uint8Array,
  at: number,
  serial: Uint8Array,
  revokedAt: number,
  reason: number,
): number {
  let next = writeHeader(out, at, 0x30, contentLength(serial, revokedAt, reason));
  const content = serialContent(serial);
  out[next] = 0x02;
  out[next + 1] = content;
  next += 2;
  if (content > serial.length) out[next++] = 0;
  out.set(serial, next);
  next = writeTime(out, next + serial.length, revokedAt);
  if (reason === 0) return next;
  out.set(REASON_EXTENSION, next);
  next += REASON_EXTENSION.length;
  out[next - 1] = reason;
  return next;
}

/** One DER entry. `serial`: lower-case hex, no sign octet. Otherwise like `writeCrlEntry`. */
export function encodeCrlEntry(serial: string, revokedAt: Date, reason: number): Bytes {
  const octets = fromHex(serial);
  const out = new Uint8Array(crlEntryLength(octets, revokedAt.getTime(), reason));
  writeCrlEntry(out, 0, octets, revokedAt.getTime(), reason);
  return out;
}
