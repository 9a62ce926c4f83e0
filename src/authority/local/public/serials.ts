import { type Bytes, fromHex } from "../../../pki/bytes.ts";
import { hasTag, SerialFilter } from "../../../pki/certificate.ts";
import { ledgerOf } from "../../ledger.ts";
import { BoundedMap, type PublicContext } from "./context.ts";

/** What tells a CA's own serials without asking its ledger. */
interface Known {
  readonly key: Bytes;
  /** Null: there are too many serials without a tag for a filter. */
  readonly filter: SerialFilter | null;
  readonly upTo: number | null;
  /** Serials that were brought in later are told from then on; Unix milliseconds. */
  readonly until: number;
}

/** How long serials that were brought in meanwhile may still be taken for made-up ones. */
const KNOWN_MS = 30_000;

/** A filter may have megabytes: few CAs are brought in, and fewer with many certificates. */
const known = new BoundedMap<Known>(16);

/**
 * Whether the CA may have issued the serial (lower-case hex): false is certain, true is to be looked up. Random serials are
 * turned away here, so that whoever sends a flood of them never reaches a ledger.
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

/** After serials were brought in, in this isolate: the next question asks the ledger which there are. */
export function forgetSerials(ledgerId: string): void {
  known.delete(ledgerId);
}

/** The serials of a CA that may have some without a tag: from its ledger, once in half a minute. */
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
