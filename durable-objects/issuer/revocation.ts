import {
  REVOCATION_REASONS,
  type RevocationTarget,
  type RevokedEntry,
  type RevokeRequest,
  type RevokeResult,
  type SerialStatus,
  wholeSecond,
} from "../../src/authority/ledger.ts";
import { encodeCrlEntry } from "../../src/pki/crl.ts";
import { type Core, caOf, nowOf, refuse, wakeAt } from "./core.ts";
import { markOf, noteFact } from "./mark.ts";
import { type EntryRow, iso, reasonName } from "./storage.ts";

/** A new list leaves this long after the first change that it does not show: more changes gather meanwhile. */
export const CRL_DEBOUNCE_MS = 2_000;
/** Where there are partitions, the complete list may follow later: no certificate of a partition points to it. */
export const COMPLETE_LIST_DEBOUNCE_MS = 20_000;

const HOLD = REVOCATION_REASONS.certificateHold;
const KEY_COMPROMISE = REVOCATION_REASONS.keyCompromise;

/** Status of each serial, in order. Survives the certificate's end. */
export function lookup(core: Core, serials: readonly string[]): SerialStatus[] {
  const query = "select state, revoked_at, reason from entries where serial = ?";
  return serials.map((serial) => {
    const row = core.sql.exec<Pick<EntryRow, "state" | "revoked_at" | "reason">>(query, serial).toArray()[0];
    if (row?.state !== 1) return { status: "unknown" };
    if (row.revoked_at === null) return { status: "good" };
    return { status: "revoked", revoked_at: iso(row.revoked_at), reason: reasonName(row.reason ?? 0) };
  });
}

/**
 * Revokes in one synchronous step: the next lookup is right. Idempotent: with the same or no reason the first time and
 * reason stand. certificateHold may become final, anything may become keyCompromise, nothing else changes (wire.md). What an
 * earlier revocation ended before a renewal keeps its reason: only holds among it become final with the rest.
 */
export function revoke(core: Core, request: RevokeRequest): RevokeResult {
  const now = nowOf(core);
  const found = entriesOf(core, request.target);
  if (found.length === 0) return refuse("not_issued", "this CA never issued it");
  const over = pastOf(found);
  const live = found.filter((row) => row.not_after >= now || (row.revoked_at !== null && !over(row)));
  if (live.length === 0)
    return refuse("expired", "every certificate of it has expired: there is nothing left to revoke");

  const code = REVOCATION_REASONS[request.reason ?? "unspecified"];
  const changes: EntryRow[] = [];
  const standing: EntryRow[] = [];
  for (const row of live) {
    const open = row.reason === HOLD || !over(row);
    if (open && mayBecome(row, code, request.reason !== null)) changes.push(row);
    else standing.push(row);
  }
  const refusal = standing.find((row) => request.reason !== null && row.reason !== code && !over(row));
  if (refusal && changes.length === 0) {
    return refuse(
      "already_revoked",
      `it was revoked for ${reasonName(refusal.reason ?? 0)} at ${iso(refusal.revoked_at ?? now)}; that reason cannot become ${request.reason}`,
    );
  }
  if (changes.length > 0) core.storage.transactionSync(() => write(core, changes, code, now));
  return {
    ok: true,
    entries: [
      ...changes.map((row) => described(core, row, true)),
      ...standing.map((row) => described(core, row, false)),
    ],
  };
}

/**
 * Lifts certificateHold from the target's entries; idempotent only in that nothing but a hold can be lifted. A final
 * revocation that a renewal has followed since does not stand in the way.
 */
export function release(core: Core, target: RevocationTarget): RevokeResult {
  const found = entriesOf(core, target);
  if (found.length === 0) return refuse("not_issued", "this CA never issued it");
  const over = pastOf(found);
  const final = found.find((row) => row.revoked_at !== null && row.reason !== HOLD && !over(row));
  if (final) return refuse("not_on_hold", `it is revoked for ${reasonName(final.reason ?? 0)}: that is final`);
  const held = found.filter((row) => row.revoked_at !== null && row.reason === HOLD);
  if (held.length === 0) return refuse("not_on_hold", "it is not on hold");
  const now = nowOf(core);
  core.storage.transactionSync(() => {
    for (const row of held) {
      core.sql.exec("update entries set revoked_at = null, reason = null where cursor = ?", row.cursor);
      dropCrlEntry(core, row);
      row.revoked_at = null;
      row.reason = null;
      row.seq = noteFact(core, row.cursor);
    }
    markDirty(core, new Set(held.map((row) => row.shard)), now);
  });
  return { ok: true, entries: held.map((row) => described(core, row, true)) };
}

/** Tells which of a target's entries belong to an earlier revocation: another one was issued in a later second. */
function pastOf(rows: readonly EntryRow[]): (row: EntryRow) => boolean {
  const newest = wholeSecond(Math.max(...rows.map((row) => row.created_at)));
  return (row) => row.revoked_at !== null && newest > row.revoked_at;
}

/** A certificate's id names leaves only: who may choose it for a record must not reach a CA that bears the same. */
function entriesOf(core: Core, target: RevocationTarget): EntryRow[] {
  if ("certificate_id" in target) {
    return core.sql
      .exec<EntryRow>(
        "select * from entries where certificate_id = ? and state = 1 and kind = 'leaf'",
        target.certificate_id,
      )
      .toArray();
  }
  const found = target.serials.map(
    (serial) => core.sql.exec<EntryRow>("select * from entries where serial = ? and state = 1", serial).toArray()[0],
  );
  return found.filter((row) => row !== undefined);
}

/** Whether a request for the reason `to` changes the entry; `asked` is false where no reason was given. */
export function mayBecome(row: EntryRow, to: number, asked: boolean): boolean {
  if (row.revoked_at === null) return true;
  if (!asked || row.reason === to) return false;
  return row.reason === HOLD || to === KEY_COMPROMISE;
}

function write(core: Core, rows: EntryRow[], reason: number, now: number): void {
  for (const row of rows) {
    if (row.revoked_at !== null) dropCrlEntry(core, row);
    row.revoked_at ??= wholeSecond(now);
    row.reason = reason;
    core.sql.exec("update entries set revoked_at = ?, reason = ? where cursor = ?", row.revoked_at, reason, row.cursor);
    row.seq = noteFact(core, row.cursor);
    addCrlEntry(core, row);
  }
  markDirty(core, new Set(rows.map((row) => row.shard)), now);
}

/** Puts a revoked entry on its lists: the complete one and its partition. */
export function addCrlEntry(
  core: Core,
  row: Pick<EntryRow, "serial" | "shard" | "not_after" | "revoked_at" | "reason">,
): void {
  const entry = encodeCrlEntry(row.serial, new Date(row.revoked_at ?? 0), row.reason ?? 0);
  core.sql.exec(
    "insert into crl_entries (serial, shard, not_after, entry) values (?, ?, ?, ?)",
    row.serial,
    row.shard,
    row.not_after,
    entry,
  );
  count(core, row.shard, 1, entry.length, row.revoked_at ?? 0);
}

/** Takes an entry off its next lists. The list that is being built shows what was so when it was begun. */
export function dropCrlEntry(core: Core, row: Pick<EntryRow, "serial" | "shard">): void {
  const gone = core.sql
    .exec<{ seq: number; entry: ArrayBuffer }>(
      "delete from crl_entries where serial = ? returning seq, entry",
      row.serial,
    )
    .toArray()[0];
  if (!gone) return;
  count(core, row.shard, -1, -gone.entry.byteLength);
  if (core.building === null || gone.seq > core.building) return;
  core.sql.exec("insert into crl_removed (seq, shard, entry) values (?, ?, ?)", gone.seq, row.shard, gone.entry);
}

/** Entries that come onto a list or go off it, with their octets; `newest`: the latest revocation date among those that come. */
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

/** These lists, and the complete one, are due: soon, but no list before its `earliest_at`. */
export function markDirty(core: Core, shards: ReadonlySet<number>, now: number): void {
  const partitioned = (caOf(core)?.crl_shards ?? 1) > 1;
  for (const shard of new Set([...shards, 0])) {
    const soon = now + (shard === 0 && partitioned ? COMPLETE_LIST_DEBOUNCE_MS : CRL_DEBOUNCE_MS);
    const rows = core.sql.exec<{ due_at: number }>(
      `update crls set changes = changes + 1, dirty_since = coalesce(dirty_since, ?),
         due_at = min(due_at, max(?, earliest_at)) where shard = ? returning due_at`,
      now,
      soon,
      shard,
    );
    for (const { due_at } of rows) wakeAt(core, due_at);
  }
}

function described(core: Core, row: EntryRow, changed: boolean): RevokedEntry {
  return {
    serial: row.serial,
    certificate_id: row.certificate_id,
    not_after: iso(row.not_after),
    spki_sha256: row.spki_sha256,
    revoked_at: row.revoked_at === null ? null : iso(row.revoked_at),
    reason: row.reason === null ? null : reasonName(row.reason),
    changed,
    mark: markOf(core, row.seq),
  };
}
