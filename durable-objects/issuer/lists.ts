import { caUrls } from "../../src/authority/ledger-places.ts";
import type { Bytes } from "../../src/pki/bytes.ts";
import { encodeCrlEntry } from "../../src/pki/crl.ts";
import { type Core, cached, caOf, nowOf, refuse, wakeAt } from "./core.ts";
import type { EntryRow } from "./entries.ts";
import { first, insert, numberOf } from "./storage.ts";

/** Which lists there are, what their next editions contain, and when they are due. Built in issuer/crl.ts. */

/** Delay of a new list after the first change it must show, to gather further changes. */
export const CRL_DEBOUNCE_MS = 2_000;
/** With partitions, the complete list may follow later: no certificate of a partition points to it. */
const COMPLETE_LIST_DEBOUNCE_MS = 20_000;

export interface Shard {
  readonly shard: number;
  /** The distribution point in certificates of this shard. */
  readonly url: string;
}

/**
 * The lists that new certificates are spread over, in order: the complete one, or the partitions for the present number
 * of shards and the present public URL. Creates missing partitions; existing ones keep their URL for ever.
 */
export function currentShards(core: Core): readonly Shard[] {
  return cached(core, "shards", () => {
    const ca = caOf(core) ?? refuse("ca_absent", "there is no CA here");
    const { crl: urlOf } = caUrls(core.publicUrl, ca.ca_id);
    const complete = ensureList(core, 0, 0, urlOf(0));
    if (ca.crl_shards === 1) return [complete];
    return Array.from({ length: ca.crl_shards }, (_, position) => partition(core, position, urlOf));
  });
}

/** The index of a serial's list among the current ones. */
export function positionOf(core: Core, serial: Bytes): number {
  return (serial.at(-1) ?? 0) % currentShards(core).length;
}

function partition(core: Core, position: number, urlOf: (shard: number) => string): Shard {
  const query = "select shard, url from crls where shard > 0 and position = ?";
  const rows = core.sql.exec<{ shard: number; url: string }>(query, position).toArray();
  const known = rows.find((row) => row.url === urlOf(row.shard));
  if (known) return known;
  const next = numberOf(core.sql, "select coalesce(max(shard), 0) + 1 from crls");
  return ensureList(core, next, position, urlOf(next));
}

/** Creates the list due at once, so that it is published before its first certificate is a second old. */
function ensureList(core: Core, shard: number, position: number, url: string): Shard {
  const now = nowOf(core);
  if (!first(core.sql, "select 1 from crls where shard = ?", shard))
    insert(core.sql, "crls", { shard, position, url, dirty_since: now, due_at: now });
  wakeAt(core, now);
  return { shard, url };
}

/** The list that a certificate of this CA points to; recreated if unknown here. */
export function shardOfUrls(core: Core, urls: readonly string[]): number {
  const known = core.sql.exec<{ shard: number; url: string }>("select shard, url from crls").toArray();
  const found = known.find(({ url }) => urls.includes(url));
  if (found) return found.shard;
  const [, number] = /\/crl\/[^/]+\/(\d+)$/.exec(urls[0] ?? "") ?? [];
  const shard = Number(number ?? 0);
  if (shard === 0 || known.some((row) => row.shard === shard)) return 0;
  return ensureList(core, shard, shard - 1, urls[0] ?? "").shard;
}

type Listed = Pick<EntryRow, "serial" | "shard" | "not_after">;

/** Puts a revoked entry on its lists: the complete one and its partition. */
export function addCrlEntry(core: Core, { serial, shard, not_after }: Listed, revokedAt: number, reason: number): void {
  const entry = encodeCrlEntry(serial, new Date(revokedAt), reason);
  insert(core.sql, "crl_entries", { serial, shard, not_after, entry });
  count(core, shard, 1, entry.length, revokedAt);
}

/** Takes an entry off its next lists. A list being built keeps the state at its start. */
export function dropCrlEntry(core: Core, { serial, shard }: Listed): void {
  const query = "delete from crl_entries where serial = ? returning seq, entry";
  const gone = first<{ seq: number; entry: ArrayBuffer }>(core.sql, query, serial);
  if (!gone) return;
  count(core, shard, -1, -gone.entry.byteLength);
  if (core.building !== null && gone.seq <= core.building) insert(core.sql, "crl_removed", { ...gone, shard });
}

/**
 * Counts entries, and their octets, added to or dropped from a list; `newest`: latest revocation date among those
 * added.
 */
export function count(core: Core, shard: number, entries: number, bytes: number, newest = 0): void {
  core.sql.exec(
    `update crls set live_entries = live_entries + ?, live_bytes = live_bytes + ?, newest = max(newest, ?)
      where shard in (0, ?)`,
    entries,
    bytes,
    newest,
    shard,
  );
}

/** Makes these lists and the complete one due: soon, but none before its `earliest_at`. */
export function markDirty(core: Core, shards: ReadonlySet<number> = new Set()): void {
  const now = nowOf(core);
  const partitioned = (caOf(core)?.crl_shards ?? 1) > 1;
  for (const shard of new Set([...shards, 0])) {
    const soon = now + (shard === 0 && partitioned ? COMPLETE_LIST_DEBOUNCE_MS : CRL_DEBOUNCE_MS);
    const list = first<{ due_at: number }>(
      core.sql,
      `update crls set changes = changes + 1, dirty_since = coalesce(dirty_since, ?),
         due_at = min(due_at, max(?, earliest_at)) where shard = ? returning due_at`,
      now,
      soon,
      shard,
    );
    if (list) wakeAt(core, list.due_at);
  }
}
