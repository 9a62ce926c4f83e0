import type { SerialKnowledge } from "../../src/authority/ledger.ts";
import type { Bytes } from "../../src/pki/bytes.ts";
import { SerialFilter, taggedSerial } from "../../src/pki/certificate.ts";
import { type BuiltFilter, type Core, cached, pause } from "./core.ts";
import { numberOf } from "./storage.ts";

/**
 * Tells this CA's serials from made-up ones without asking the ledger: serials it issues carry a tag under its serial
 * key; those without one (imported, or issued by an older version) are in a filter. The filter is built from the rows
 * on first use, is kept in this object's memory and only ever grows.
 */

const SLICE_ROWS = 2_000;
/** A larger filter would take too much of an isolate's memory: serials of such a CA are looked up each time. */
const MAX_FILTERED = 2_000_000;

export function serialKey(core: Core): Bytes {
  const key = () => core.sql.exec<{ key: ArrayBuffer }>("select key from serial_key").one().key;
  return cached(core, "serial_key", () => new Uint8Array(key()));
}

/** A fresh serial of this CA. */
export function newSerial(core: Core): Bytes {
  return taggedSerial((length) => core.random.bytes(length), serialKey(core));
}

/** The key of the tags if every serial of this CA carries one, now and later; null if some may lack it. */
export function completeSerialKey(core: Core): Bytes | null {
  const query = "select imports or exists (select 1 from entries where tagged = 0) from serial_key";
  return numberOf(core.sql, query) === 0 ? serialKey(core) : null;
}

/**
 * What an isolate needs to tell this CA's serials. `have`: the `up_to` of the isolate's present filter; if nothing was
 * added, none is sent. `isWhole` false: this ledger takes back what it lacks, so each serial must be looked up.
 */
export async function serials(core: Core, have: number | null, isWhole: boolean): Promise<SerialKnowledge> {
  const key = serialKey(core);
  const nothing = { key, up_to: null, filter: null };
  if (!isWhole) return nothing;
  const up_to = numberOf(core.sql, "select coalesce(max(cursor), 0) from entries where tagged = 0");
  if (up_to === have) return { key, up_to, filter: null };
  const built = await build(core, key);
  return built ? { key, up_to: built.upTo, filter: built.filter.bits } : nothing;
}

/** Brings the filter up to the newest row, in slices with pauses for other calls; null if there are too many rows. */
async function build(core: Core, key: Bytes): Promise<BuiltFilter | null> {
  const rows = numberOf(core.sql, "select count(*) from entries where tagged = 0");
  if (rows > MAX_FILTERED) return null;
  if (!core.serialFilter || core.serialFilter.filter.capacity < rows) {
    core.serialFilter = { filter: SerialFilter.withCapacity(key, rows), upTo: 0 };
  }
  // Concurrent builds share their progress: each slice is read and added in one step.
  const built = core.serialFilter;
  while (addSlice(core, built)) await pause();
  return built;
}

/** Adds the next rows; returns whether there may be more. */
function addSlice(core: Core, built: BuiltFilter): boolean {
  const query = `select cursor, serial from entries where tagged = 0 and cursor > ? order by cursor limit ${SLICE_ROWS}`;
  const rows = core.sql.exec<{ cursor: number; serial: string }>(query, built.upTo).toArray();
  for (const row of rows) built.filter.add(row.serial);
  built.upTo = rows.at(-1)?.cursor ?? built.upTo;
  return rows.length === SLICE_ROWS;
}
