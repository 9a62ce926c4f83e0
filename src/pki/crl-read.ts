import { type Bytes, equal, toHex } from "./bytes.ts";
import { REASON_EXTENSION } from "./crl-entry.ts";
import { type CrlExtensions, readCrlExtensions, readEntryReason } from "./crl-extensions.ts";
import { bitStringOf, Cursor, contentStart, decode, elementEnd, Reader, TAG, timeOf } from "./der.ts";
import { DerError, PkiError } from "./errors.ts";
import type { StreamVerifier } from "./stream-verifier.ts";

/**
 * Reads CRLs (RFC 5280 section 5) of any size strictly and in constant memory: checks one of ours before publication,
 * or parses a small one completely.
 */

/** Octets that are not a version 2 CRL of RFC 5280, or a CRL with an invalid signature. */
export class CrlError extends PkiError {
  override readonly code: string = "crl_invalid";
}

export interface CrlEntry {
  /** Lower-case hex, two digits an octet, no sign octet. */
  readonly serial: string;
  readonly revokedAt: Date;
  /** CRLReason number, 0 if absent. */
  readonly reason: number;
}

interface CrlHead {
  /** DER Name. */
  readonly issuer: Bytes;
  readonly algorithmIdentifier: Bytes;
  readonly thisUpdate: Date;
  readonly nextUpdate: Date;
}

/** A CRL without its entries. */
export interface CrlSummary extends CrlHead, CrlExtensions {
  readonly entryCount: number;
  /** Octets of the whole CRL. */
  readonly length: number;
  readonly signature: Bytes;
}

export interface CrlCheckerOptions {
  /**
   * Makes the verifier for the issuer's key; an invalid signature is then an error. If absent, the signature is not
   * checked.
   */
  readonly verifier?: (algorithmIdentifier: Bytes) => StreamVerifier;
  /** Called with each entry as it is read. */
  readonly onEntry?: (entry: CrlEntry) => void;
}

/** Maximum octets before the entries, of one entry, and after the entries; and of a piece processed at once. */
const MAX_HEAD = 16_384;
const MAX_ENTRY = 4_096;
const MAX_TAIL = 32_768;
const PIECE = 65_536;

/** Start of an element's content and end of the element. */
interface Span {
  readonly start: number;
  readonly end: number;
}

/** The span of the element at `at`, or null until its header is complete. Strict; throws DerError. */
function spanAt(bytes: Uint8Array, at: number, available: number, tag: number): Span | null {
  if (at + 2 > available) return null;
  if (bytes[at] !== tag) throw new DerError(`expected tag 0x${tag.toString(16)}`);
  const start = contentStart(bytes, at);
  return start > available ? null : { start, end: elementEnd(bytes, at, Number.MAX_SAFE_INTEGER) };
}

/** Whether the octets from `at` to `end` are exactly the reasonCode extension that `writeCrlEntry` writes. */
function isPlainReason(bytes: Uint8Array, at: number, end: number): boolean {
  const last = REASON_EXTENSION.length - 1;
  if (end - at !== last + 1) return false;
  for (let i = 0; i < last; i++) if (bytes[at + i] !== REASON_EXTENSION[i]) return false;
  const reason = bytes[end - 1] as number;
  return reason <= 10 && reason !== 7;
}

function readReason(bytes: Bytes, at: number, end: number): number {
  if (at === end) return 0;
  return isPlainReason(bytes, at, end) ? (bytes[end - 1] as number) : readEntryReason(bytes.slice(at, end));
}

/** Offsets in a CRL, and the octets of version, signature, issuer, thisUpdate and nextUpdate. */
interface Layout {
  readonly fields: readonly Bytes[];
  readonly tbsStart: number;
  readonly entriesStart: number;
  readonly entriesEnd: number;
  readonly tbsEnd: number;
  readonly end: number;
}

const TIMES: readonly number[] = [TAG.UTC_TIME, TAG.GENERALIZED_TIME];
const FIELDS: readonly (readonly number[])[] = [[TAG.INTEGER], [TAG.SEQUENCE], [TAG.SEQUENCE], TIMES, TIMES];

/** Parses up to the first entry; null until all octets up to there have arrived. */
function findHead(bytes: Bytes, available: number): Layout | null {
  const outer = spanAt(bytes, 0, available, 0x30);
  const tbs = outer === null ? null : spanAt(bytes, outer.start, available, 0x30);
  if (outer === null || tbs === null) return null;
  if (tbs.end > outer.end) throw new DerError("TBSCertList is longer than the CRL");
  const fields: Bytes[] = [];
  let at = tbs.start;
  for (const tags of FIELDS) {
    const tag = tags.find((candidate) => candidate === bytes[at]) ?? tags[0] ?? 0;
    const span = spanAt(bytes, at, available, tag);
    if (span !== null && span.end > tbs.end) throw new DerError("element is longer than the TBSCertList");
    if (span === null || span.end > available) return null;
    fields.push(bytes.slice(at, span.end));
    at = span.end;
  }
  const found = { fields, tbsStart: outer.start, tbsEnd: tbs.end, end: outer.end };
  if (at === tbs.end) return { ...found, entriesStart: at, entriesEnd: at };
  if (at === available) return null;
  if (bytes[at] !== TAG.SEQUENCE) return { ...found, entriesStart: at, entriesEnd: at };
  const entries = spanAt(bytes, at, available, TAG.SEQUENCE);
  if (entries === null) return null;
  if (entries.end > tbs.end) throw new DerError("revokedCertificates is longer than the TBSCertList");
  if (entries.start === entries.end) throw new DerError("revokedCertificates without entries must be absent");
  return { ...found, entriesStart: entries.start, entriesEnd: entries.end };
}

/** Checks a CRL that arrives in pieces. Unusable after an error. */
export class CrlChecker {
  private readonly options: CrlCheckerOptions;
  private buffer: Bytes = new Uint8Array(PIECE + MAX_ENTRY);
  /** Octets in the buffer, and the offset of the first one in the CRL. */
  private filled = 0;
  private base = 0;
  private head: CrlHead | null = null;
  private verifier: StreamVerifier | null = null;
  /** Offsets in the CRL, known once the head is read. */
  private entriesEnd = 0;
  private tbsEnd = 0;
  private end = 0;
  private entryCount = 0;

  constructor(options: CrlCheckerOptions = {}) {
    this.options = options;
  }

  /** Takes the next octets, any number of them. Throws CrlError. */
  push(chunk: Uint8Array): void {
    this.guarded(() => {
      for (let at = 0; at < chunk.length; at += PIECE) this.take(chunk.subarray(at, at + PIECE));
    });
  }

  /** Ends the input. Throws CrlError if the CRL is incomplete or its signature invalid. */
  finish(): CrlSummary {
    return this.guarded(() => this.readTail());
  }

  private guarded<T>(run: () => T): T {
    try {
      return run();
    } catch (cause) {
      if (!(cause instanceof PkiError) || cause instanceof CrlError) throw cause;
      throw new CrlError(`not a CRL: ${cause.message}`, { cause });
    }
  }

  private take(piece: Uint8Array): void {
    const needed = this.filled + piece.length;
    if (needed > this.buffer.length) {
      const larger = new Uint8Array(needed + PIECE);
      larger.set(this.buffer.subarray(0, this.filled));
      this.buffer = larger;
    }
    this.buffer.set(piece, this.filled);
    this.filled = needed;
    if (this.head === null) this.readHead();
    if (this.head === null) return;
    this.readEntries();
    if (this.base + this.filled > this.end) throw new DerError("octets after the CRL");
  }

  /** Drops the first octets of the buffer, passing signed ones through the verifier. */
  private drop(count: number, signed: boolean): void {
    if (signed) this.verifier?.update(this.buffer.subarray(0, count));
    this.buffer.copyWithin(0, count, this.filled);
    this.filled -= count;
    this.base += count;
  }

  /** Reads everything before the entries once it is complete. */
  private readHead(): void {
    const layout = findHead(this.buffer, this.filled);
    if (layout === null) {
      if (this.filled >= MAX_HEAD) throw new DerError("too many octets before the entries");
      return;
    }
    if (layout.end - layout.entriesEnd > MAX_TAIL) throw new DerError("too many octets after the entries");
    this.head = readFields(layout.fields);
    this.entriesEnd = layout.entriesEnd;
    this.tbsEnd = layout.tbsEnd;
    this.end = layout.end;
    this.verifier = this.options.verifier?.(this.head.algorithmIdentifier) ?? null;
    this.drop(layout.tbsStart, false);
    this.drop(layout.entriesStart - layout.tbsStart, true);
  }

  /** Reads the complete entries in the buffer. */
  private readEntries(): void {
    const { buffer } = this;
    const limit = this.entriesEnd - this.base;
    const available = Math.min(limit, this.filled);
    let at = 0;
    while (at < available) {
      const span = spanAt(buffer, at, available, 0x30);
      if (span !== null && (span.end > limit || span.end - at > MAX_ENTRY)) throw new DerError("entry is too long");
      if (span === null || span.end > available) break;
      this.readEntry(span);
      at = span.end;
    }
    if (at < available && available === limit) throw new DerError("entry is cut off");
    if (at > 0) this.drop(at, true);
  }

  private readEntry({ start, end }: Span): void {
    const { buffer } = this;
    const cursor = new Cursor(buffer, start);
    const serialStart = cursor.unsigned(20, end);
    const serialEnd = cursor.at;
    const revokedAt = cursor.time(end);
    const reason = readReason(buffer, cursor.at, end);
    this.entryCount++;
    if (this.options.onEntry === undefined) return;
    const serial = toHex(buffer.subarray(serialStart, serialEnd));
    this.options.onEntry({ serial, revokedAt: new Date(revokedAt), reason });
  }

  private readTail(): CrlSummary {
    const { head } = this;
    if (head === null || this.base + this.filled !== this.end || this.base < this.entriesEnd) {
      throw new DerError("truncated");
    }
    const rest = this.tbsEnd - this.base;
    const extensions = rest === 0 ? null : decode(this.buffer.slice(0, rest));
    if (extensions !== null && extensions.tag !== 0xa0) throw new DerError("expected crlExtensions");
    const read = readCrlExtensions(extensions === null ? null : new Reader(extensions));
    this.drop(rest, true);
    const tail = new Reader(this.buffer.slice(0, this.filled));
    const algorithm = tail.next(TAG.SEQUENCE);
    const signature = bitStringOf(tail.next(TAG.BIT_STRING));
    tail.end();
    if (signature.unused !== 0) throw new DerError("signature is not whole octets");
    if (!equal(algorithm.bytes, head.algorithmIdentifier)) throw new DerError("two signature algorithms");
    if (this.verifier?.finish(signature.bytes) === false) throw new CrlError("the signature of the CRL does not hold");
    return { ...head, ...read, entryCount: this.entryCount, length: this.end, signature: signature.bytes };
  }
}

/** The fields before the entries, each strict DER. */
function readFields([version, algorithm, issuer, thisUpdate, nextUpdate]: readonly Bytes[]): CrlHead {
  if (!version || !algorithm || !issuer || !thisUpdate || !nextUpdate) throw new DerError("a field is missing");
  if (version.length !== 3 || version[2] !== 1) throw new DerError("only version 2 is understood");
  return {
    algorithmIdentifier: decode(algorithm).bytes,
    issuer: decode(issuer).bytes,
    thisUpdate: timeOf(decode(thisUpdate)),
    nextUpdate: timeOf(decode(nextUpdate)),
  };
}

/** Parses a whole CRL of at most 16 MB with its entries. Does not check the signature. Throws CrlError. */
export function parseCrl(der: Uint8Array): CrlSummary & { readonly entries: readonly CrlEntry[] } {
  if (der.length > 16_777_216) throw new CrlError("longer than 16 MB: read it with CrlChecker");
  const entries: CrlEntry[] = [];
  const checker = new CrlChecker({ onEntry: (entry) => void entries.push(entry) });
  checker.push(der);
  return { ...checker.finish(), entries };
}
