import type { CrlState } from "../../src/authority/ledger.ts";
import { crlKey, listModified, wholeSecond } from "../../src/authority/ledger-places.ts";
import { listsChanged } from "../../src/authority/ledger-publications.ts";
import type { Bytes } from "../../src/pki/bytes.ts";
import { type CrlParameters, checkedCrl, crlChunks, crlLength, planCrl, signCrl } from "../../src/pki/crl.ts";
import { importStreamSigner } from "../../src/pki/keys.ts";
import { describeError } from "../../src/platform/log.ts";
import { type Core, caOf, nowOf, openCaKey, pause, single } from "./core.ts";
import { iso } from "./entries.ts";
import { attempt } from "./failures.ts";
import { ownCertificate } from "./issue.ts";
import { CRL_DEBOUNCE_MS, count } from "./lists.ts";
import { type CaRow, type CrlRow, numberOf } from "./storage.ts";

/**
 * Builds lists. A build takes its number durably, then reads its entries twice in slices: once through the signer, once
 * through a checker into R2. Other calls run between slices. A build reads the state at its start: entries up to the
 * highest sequence number at that time, including those dropped since, which stay in crl_removed until the build ends.
 * Changes during a build do not delay the list; the next list has them. The last octets are written only after the
 * checker has read the whole list, its signature, number and scope; R2 stores it only if nothing else was written
 * since.
 */

/** Validity of a list; its successor is made halfway through. */
export const CRL_VALIDITY_MS = 24 * 3_600_000;
/**
 * thisUpdate is at most this far in the past, for relying parties with a slow clock, and never before the newest entry.
 */
const BACKDATE_MS = 60_000;
/** Rows of one slice: keeps other calls waiting only briefly and stays below the maximum size of a value. */
const SLICE_ROWS = 8_000;
/** Slices between two pauses for other calls, while signing and while writing: storage takes its own time for each. */
const SIGNED_AT_ONCE = 4;
const WRITTEN_AT_ONCE = 2;
/** A list with more octets is not kept in memory between its two readings, and is built less often. */
const LARGE_BYTES = SLICE_ROWS * 64;
/** Minimum time between the starts of two builds of a large list: two a minute. */
const LARGE_LIST_GAP_MS = 30_000;
const PRUNE_ROWS = 2_000;

/** When a list is due; a failed one not before its next attempt. */
const DUE_AT = "max(due_at, coalesce((select next_at from failures where task = 'list:' || shard), 0))";

/** Publishes the due lists one after another, the complete one first. Never throws: a failed list is due again soon. */
export function publishDue(core: Core, atMost = Number.POSITIVE_INFINITY): Promise<void> {
  return single(core, "publishing", async () => {
    for (let done = 0; done < atMost; done++) {
      const due = nextCrlDue(core);
      const ca = caOf(core);
      if (core.ended || !ca || due === null || due > nowOf(core)) return;
      const shard = numberOf(core.sql, `select shard from crls order by ${DUE_AT}, shard limit 1`);
      await attempt(core, `list:${shard}`, () => publish(core, ca, shard));
    }
  });
}

/** When the next list is due; null if none is, and once the CA has ended: it publishes no more. */
export function nextCrlDue(core: Core): number | null {
  const ca = caOf(core);
  if (!ca || ca.state === "awaiting_certificate" || nowOf(core) >= ca.not_after) return null;
  return core.sql.exec<{ due: number | null }>(`select min(${DUE_AT}) as due from crls`).one().due;
}

/** The CRL number for a stored one. */
function publicNumber(core: Core, stored: number): bigint {
  return BigInt(caOf(core)?.crl_base ?? "0") + BigInt(stored);
}

export function crls(core: Core): CrlState[] {
  return core.sql
    .exec<CrlRow & { last_error: string | null }>(
      "select *, (select error from failures where task = 'list:' || shard) as last_error from crls order by shard",
    )
    .toArray()
    .map((row) => ({
      shard: row.shard,
      url: row.url,
      number: row.number === null ? null : publicNumber(core, row.number).toString(),
      this_update: row.this_update === null ? null : iso(row.this_update),
      next_update: row.next_update === null ? null : iso(row.next_update),
      entries: row.entries,
      bytes: row.bytes,
      dirty_since: row.dirty_since === null ? null : iso(row.dirty_since),
      last_error: row.last_error,
    }));
}

/** The content of one build, fixed in one step at its start. */
interface Snapshot {
  readonly row: CrlRow;
  readonly number: number;
  /** Just below the first and at the last sequence number. */
  readonly lower: number;
  readonly upper: number;
  readonly thisUpdate: number;
  readonly nextUpdate: number;
}

/** The list has only entries that exist when its number is taken, and replaces only the list that existed then. */
async function publish(core: Core, ca: CaRow, shard: number): Promise<void> {
  const key = crlKey(ca.ledger_id, shard);
  const stored = await core.bytes.head(key);
  const shot = takeSnapshot(core, ca, shard, Number(stored?.customMetadata?.number ?? 0));
  try {
    await core.storage.sync();
    const { chunks, size } = await sign(core, ca, shot);
    const pipe = new FixedLengthStream(size);
    const put = core.bytes.put(key, pipe.readable, {
      onlyIf: stored ? { etagMatches: stored.etag } : { etagDoesNotMatch: "*" },
      httpMetadata: { contentType: "application/pkix-crl" },
      customMetadata: {
        number: String(shot.number),
        this_update: iso(shot.thisUpdate),
        next_update: iso(shot.nextUpdate),
        entries: String(shot.row.live_entries),
        ...(stored ? { replaces: iso(listModified(stored)) } : {}),
      },
    });
    const [written, done] = await Promise.allSettled([write(chunks, pipe.writable), put]);
    listsChanged();
    if (written.status === "rejected") throw written.reason;
    if (done.status === "rejected") throw done.reason;
    if (done.value === null) throw new Error("another list was published meanwhile");
    finish(core, shot, done.value.etag, size);
  } finally {
    core.building = null;
    core.sql.exec("delete from crl_removed");
  }
  purge(core, ca, shard);
  await dropExpired(core, shot);
}

function isLarge(row: CrlRow): boolean {
  return row.live_bytes > LARGE_BYTES;
}

/**
 * One step. The number is taken and recorded before anything is signed (invariant 2). It is also above `published`: a
 * restored ledger may be older than the lists it published.
 */
function takeSnapshot(core: Core, ca: CaRow, shard: number, published: number): Snapshot {
  const now = nowOf(core);
  const row = core.sql.exec<CrlRow>("select * from crls where shard = ?", shard).one();
  const number = numberOf(
    core.sql,
    "update ca set crl_number = max(crl_number + 1, ?) returning crl_number",
    Math.max(now, published + 1, (row.number ?? 0) + 1),
  );
  core.ca = undefined;
  // Two queries: SQLite seeks only one end of an index at a time.
  const lower = numberOf(core.sql, "select coalesce(min(seq), 1) - 1 from crl_entries");
  const upper = numberOf(core.sql, "select coalesce(max(seq), 0) from crl_entries");
  // Left over from an interrupted build.
  core.sql.exec("delete from crl_removed");
  core.building = upper;
  if (isLarge(row)) core.sql.exec("update crls set earliest_at = ? where shard = ?", now + LARGE_LIST_GAP_MS, shard);
  // Entries later than now were made before the clock was set back; a list dated in the future would be useless.
  const newest = Math.min(row.newest, wholeSecond(now));
  const thisUpdate = Math.max(wholeSecond(now - BACKDATE_MS), newest, ca.not_before);
  const nextUpdate = Math.min(thisUpdate + CRL_VALIDITY_MS, ca.not_after);
  return { row, number, lower, upper, thisUpdate, nextUpdate };
}

/** The signed list in pieces; the last one comes only after all pieces were checked. */
async function sign(core: Core, ca: CaRow, shot: Snapshot) {
  const { row } = shot;
  const pkcs8 = await openCaKey(core, ca);
  const signer = importStreamSigner(pkcs8, { pss: ca.pss === 1 });
  pkcs8.fill(0);
  const own = ownCertificate(core);
  const parameters: CrlParameters = {
    issuer: own.subject.der,
    algorithmIdentifier: signer.algorithmIdentifier,
    thisUpdate: new Date(shot.thisUpdate),
    nextUpdate: new Date(shot.nextUpdate),
    number: publicNumber(core, shot.number),
    authorityKeyId: own.subjectKeyIdentifier ?? new Uint8Array(0),
    distributionPoint: row.shard === 0 ? null : row.url,
    entriesLength: row.live_bytes,
  };
  const plan = planCrl(parameters);
  const kept: Bytes[] | null = isLarge(row) ? null : [];
  const signature = await signCrl(plan, signer, slices(core, shot, kept, SIGNED_AT_ONCE));
  const chunks = crlChunks(plan, signature, kept ?? slices(core, shot, null, WRITTEN_AT_ONCE));
  const expected = { ...parameters, entryCount: row.live_entries };
  return { chunks: checkedCrl(chunks, own.publicKey, expected), size: crlLength(plan, signature.length) };
}

/** The entries of a snapshot, one blob a slice, joined by SQLite: no JavaScript runs for a row. */
async function* slices(core: Core, shot: Snapshot, keep: Bytes[] | null, atOnce: number): AsyncGenerator<Bytes> {
  const read = shot.row.shard === 0 ? readRange : readPartition;
  let slice = 0;
  for (let after = shot.lower; after < shot.upper; ) {
    const { joined, last } = read(core, shot, after);
    after = last;
    if (joined !== null) {
      const entries = new Uint8Array(joined);
      keep?.push(entries);
      yield entries;
    }
    if (++slice % atOnce === 0) await pause();
  }
}

interface Slice {
  readonly joined: ArrayBuffer | null;
  readonly last: number;
}

/** Every entry of the snapshot, dropped since or not, in the same order on every reading. */
const shown = (where: string) =>
  `select seq, entry from crl_entries where ${where} union all select seq, entry from crl_removed where ${where} order by seq`;

/** A range of sequence numbers: the complete list has few gaps. */
function readRange(core: Core, shot: Snapshot, after: number): Slice {
  const last = Math.min(after + SLICE_ROWS, shot.upper);
  const query = `select cast(group_concat(entry, '') as blob) as joined from (${shown("seq > ?1 and seq <= ?2")})`;
  return { joined: core.sql.exec<{ joined: ArrayBuffer | null }>(query, after, last).one().joined, last };
}

/** The next rows of a partition, which has large gaps between sequence numbers. */
function readPartition(core: Core, shot: Snapshot, after: number): Slice {
  const rows = shown("shard = ?1 and seq > ?2 and seq <= ?3");
  const { joined, last } = core.sql
    .exec<{ joined: ArrayBuffer | null; last: number | null }>(
      `select cast(group_concat(entry, '') as blob) as joined, max(seq) as last from (${rows} limit ${SLICE_ROWS})`,
      shot.row.shard,
      after,
      shot.upper,
    )
    .one();
  return { joined, last: last ?? shot.upper };
}

async function write(chunks: AsyncIterable<Uint8Array>, to: WritableStream<Uint8Array>): Promise<void> {
  const writer = to.getWriter();
  try {
    for await (const chunk of chunks) await writer.write(chunk);
    await writer.close();
  } catch (error) {
    await writer.abort(error).catch(() => undefined);
    throw error;
  }
}

function finish(core: Core, shot: Snapshot, etag: string, bytes: number): void {
  const now = nowOf(core);
  const refresh = shot.thisUpdate + (shot.nextUpdate - shot.thisUpdate) / 2;
  core.sql.exec(
    `update crls set number = ?, this_update = ?, next_update = ?, entries = ?, bytes = ?, etag = ?,
       dirty_since = case when changes = ? then null else ? end,
       due_at = case when changes = ? then ? else max(?, earliest_at) end
     where shard = ?`,
    shot.number,
    shot.thisUpdate,
    shot.nextUpdate,
    shot.row.live_entries,
    bytes,
    etag,
    shot.row.changes,
    now,
    shot.row.changes,
    Math.max(refresh, now + 1_000),
    now + CRL_DEBOUNCE_MS,
    shot.row.shard,
  );
}

/** Drops entries that were on a list made after their certificate expired (RFC 5280 section 3.3). */
async function dropExpired(core: Core, shot: Snapshot): Promise<void> {
  for (;;) {
    const gone = core.storage.transactionSync(() => {
      const rows = core.sql
        .exec<{ length: number }>(
          `delete from crl_entries where seq in (
             select seq from crl_entries indexed by crl_entries_expiry
             where not_after < ? and shard = ? and seq <= ? limit ${PRUNE_ROWS})
           returning length(entry) as length`,
          shot.thisUpdate,
          shot.row.shard,
          shot.upper,
        )
        .toArray();
      const bytes = rows.reduce((sum, row) => sum + row.length, 0);
      if (rows.length > 0) count(core, shot.row.shard, -rows.length, -bytes);
      return rows.length;
    });
    if (gone < PRUNE_ROWS) return;
    await pause();
  }
}

/** Best effort: `max-age` limits how long the edge keeps an old list. */
function purge(core: Core, ca: CaRow, shard: number): void {
  if (!core.purge) return;
  const stub = core.purge.getByName("edge") as unknown as {
    add(tags: { tag: string; whole: string }[]): Promise<void>;
  };
  stub
    .add([{ tag: `crl-${ca.ledger_id}-${shard}`, whole: `ledger-${ca.ledger_id}` }])
    .catch((error) => core.log.warn("crl.purge_failed", { error: describeError(error) }));
}
