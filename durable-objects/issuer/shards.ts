import { caUrls } from "../../src/authority/ledger.ts";
import { type Core, cached, caOf, nowOf, wakeAt } from "./core.ts";

export interface Shard {
  readonly shard: number;
  /** What certificates of this shard carry as their distribution point. */
  readonly url: string;
}

/**
 * The lists that new certificates are spread over, in order: the complete one, or the partitions for the present number of
 * shards and the present public URL. Partitions that do not exist yet are made; those that exist keep their URL for ever.
 */
export function currentShards(core: Core): readonly Shard[] {
  return cached(core, "shards", () => {
    const ca = caOf(core);
    if (!ca) throw new Error("there is no CA here");
    const { crl: urlOf } = caUrls(core.publicUrl, ca.ca_id);
    ensureList(core, 0, 0, urlOf(0));
    if (ca.crl_shards === 1) return [{ shard: 0, url: urlOf(0) }];
    return Array.from({ length: ca.crl_shards }, (_, position) => partition(core, position, urlOf));
  });
}

function partition(core: Core, position: number, urlOf: (shard: number) => string): Shard {
  const rows = core.sql
    .exec<{ shard: number; url: string }>("select shard, url from crls where shard > 0 and position = ?", position)
    .toArray();
  const known = rows.find((row) => row.url === urlOf(row.shard));
  if (known) return known;
  const { next } = core.sql.exec<{ next: number }>("select coalesce(max(shard), 0) + 1 as next from crls").one();
  ensureList(core, next, position, urlOf(next));
  return { shard: next, url: urlOf(next) };
}

/** A list that is due at once: before its first certificate is a second old, it is there. */
function ensureList(core: Core, shard: number, position: number, url: string): void {
  const now = nowOf(core);
  core.sql.exec(
    "insert or ignore into crls (shard, position, url, dirty_since, due_at) values (?, ?, ?, ?, ?)",
    shard,
    position,
    url,
    now,
    now,
  );
  wakeAt(core, now);
}

/** The list that a certificate of this CA points to; one that is not known here any more is made again. */
export function shardOfUrls(core: Core, urls: readonly string[]): number {
  const known = core.sql.exec<{ shard: number; url: string }>("select shard, url from crls").toArray();
  const found = known.find(({ url }) => urls.includes(url));
  if (found) return found.shard;
  const ca = caOf(core);
  const [, number] = /\/crl\/[^/]+\/(\d+)$/.exec(urls[0] ?? "") ?? [];
  const shard = Number(number ?? 0);
  if (!ca || shard === 0 || known.some((row) => row.shard === shard)) return 0;
  ensureList(core, shard, shard - 1, urls[0] ?? "");
  return shard;
}
