import { type Bytes, fromHex } from "../../../pki/bytes.ts";
import { hasTag, SerialFilter } from "../../../pki/certificate.ts";
import { ledgerOf } from "../../ledger.ts";
import { BoundedMap, type PublicContext } from "./context.ts";

/** Tells a CA's own serials without asking its ledger. */
interface Known {
  readonly key: Bytes;
  /** Null: too many serials without a tag for a filter. */
  readonly filter: SerialFilter | null;
  readonly upTo: number | null;
  /** Unix milliseconds; serials imported later are recognized after this. */
  readonly until: number;
}

/** How long newly imported serials may be taken for made-up ones. */
const KNOWN_MS = 30_000;

/** A filter may take megabytes, but few CAs are imported, and fewer with many certificates. */
const known = new BoundedMap<Known>(16);

/**
 * Whether the CA may have issued the serial (lower-case hex): false is certain, true needs a look-up. Random serials
 * are rejected here, so that a flood of them never reaches a ledger.
 */
export async function mayHaveIssued(
  ctx: PublicContext,
  ca: { readonly ledger_id: string; readonly serialKey: Bytes | null },
  serial: string,
): Promise<boolean> {
  if (ca.serialKey) return hasTag(serial, ca.serialKey);
  const { key, filter } = await knownOf(ctx, ca.ledger_id);
  return hasTag(serial, key) || filter === null || filter.has(serial);
}

/** Call after an import of serials in this isolate: the next request asks the ledger again. */
export function forgetSerials(ledgerId: string): void {
  known.delete(ledgerId);
}

/** What the ledger knows of serials that may lack a tag, read at most every half minute. */
async function knownOf(ctx: PublicContext, ledgerId: string): Promise<Known> {
  const now = ctx.clock.now().getTime();
  const before = known.get(ledgerId);
  if (before && before.until > now) return before;
  const fresh = await ledgerOf(ctx, ledgerId).serials(before?.upTo ?? null);
  const unchanged = fresh.up_to !== null && fresh.up_to === before?.upTo;
  const filter = unchanged ? before.filter : fresh.filter && new SerialFilter(fresh.key, fresh.filter);
  const next = { key: fresh.key, filter, upTo: fresh.up_to, until: now + KNOWN_MS };
  known.set(ledgerId, next);
  return next;
}

/** The serial key of a CA's row. */
export function serialKeyOf(row: { readonly serial_key: string | null }): Bytes | null {
  return row.serial_key === null ? null : fromHex(row.serial_key);
}
