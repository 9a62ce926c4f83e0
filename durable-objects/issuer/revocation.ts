import {
  REVOCATION_REASONS,
  type RevocationReason,
  type RevokedEntry,
  type SerialStatus,
} from "../../src/authority/ledger.ts";
import { wholeSecond } from "../../src/authority/ledger-places.ts";
import { type Core, nowOf, refuse } from "./core.ts";
import { described, type EntryRow, entryOf, iso, markRow, noteFact, reasonName } from "./entries.ts";
import { addCrlEntry, dropCrlEntry, markDirty } from "./lists.ts";
import { first } from "./storage.ts";

const HOLD = REVOCATION_REASONS.certificateHold;

/** The status of a serial; expiry does not change it. */
export function status(core: Core, serial: string): SerialStatus {
  const query = "select state, revoked_at, reason from entries where serial = ?";
  const row = first<Pick<EntryRow, "state" | "revoked_at" | "reason">>(core.sql, query, serial);
  if (row?.state !== 1) return "unknown";
  if (row.revoked_at === null) return "good";
  return { revoked_at: iso(row.revoked_at), reason: reasonName(row.reason ?? 0) };
}

interface Changed {
  readonly ok: true;
  readonly entries: readonly RevokedEntry[];
}

/**
 * Revokes in one synchronous step: the next lookup is right. Idempotent: with the same or no reason, the first time and
 * reason stand. certificateHold may become final, any reason may become keyCompromise, nothing else changes (wire.md).
 */
export function revoke(core: Core, serials: readonly string[], reason: RevocationReason | null): Changed {
  const now = nowOf(core);
  const code = REVOCATION_REASONS[reason ?? "unspecified"];
  const live = signed(core, serials).filter((row) => row.not_after >= now || row.revoked_at !== null);
  if (live.length === 0) refuse("expired", "every certificate of it has expired: there is nothing left to revoke");
  const changes = live.filter((row) => mayBecome(row, code, reason !== null));
  const standing = live.filter((row) => !changes.includes(row));
  const other = standing.find((row) => reason !== null && row.reason !== code);
  if (other && changes.length === 0) {
    refuse(
      "already_revoked",
      `it was revoked for ${reasonName(other.reason ?? 0)} at ${iso(other.revoked_at ?? now)}; that reason cannot become ${reason}`,
    );
  }
  change(core, changes, (row) => ({ revoked_at: row.revoked_at ?? wholeSecond(now), reason: code }));
  return answer(core, changes, standing);
}

/** Lifts certificateHold; only a hold can be lifted, so a repeat is refused. */
export function release(core: Core, serials: readonly string[]): Changed {
  const revoked = signed(core, serials).filter((row) => row.revoked_at !== null);
  const final = revoked.find((row) => row.reason !== HOLD);
  if (final) refuse("not_on_hold", `it is revoked for ${reasonName(final.reason ?? 0)}: that is final`);
  if (revoked.length === 0) refuse("not_on_hold", "it is not on hold");
  change(core, revoked, () => ({ revoked_at: null, reason: null }));
  return answer(core, revoked, []);
}

function signed(core: Core, serials: readonly string[]): EntryRow[] {
  const rows = serials.map((serial) => entryOf(core, serial)).filter((row) => row?.state === 1) as EntryRow[];
  if (rows.length === 0) refuse("not_issued", "this CA never issued it");
  return rows;
}

/** Whether a request for the reason `to` changes the entry; `asked` is false if no reason was given. */
export function mayBecome(row: EntryRow, to: number, asked: boolean): boolean {
  if (row.revoked_at === null) return true;
  if (!asked || row.reason === to) return false;
  return row.reason === HOLD || to === REVOCATION_REASONS.keyCompromise;
}

export type Status = Pick<EntryRow, "revoked_at" | "reason">;

function change(core: Core, rows: readonly EntryRow[], statusOf: (row: EntryRow) => Status): void {
  if (rows.length === 0) return;
  core.storage.transactionSync(() => {
    for (const row of rows) {
      setStatus(core, row, statusOf(row));
      noteFact(core, row);
    }
    markDirty(core, new Set(rows.map((row) => row.shard)));
  });
}

/** Sets the status for OCSP and the next lists. `listed`: whether a list must show the revocation. */
export function setStatus(core: Core, row: EntryRow, { revoked_at, reason }: Status, listed = true): void {
  if (row.revoked_at !== null) dropCrlEntry(core, row);
  Object.assign(row, { revoked_at, reason });
  core.sql.exec("update entries set revoked_at = ?, reason = ? where cursor = ?", revoked_at, reason, row.cursor);
  if (revoked_at !== null && listed) addCrlEntry(core, row, revoked_at, reason ?? 0);
}

function answer(core: Core, changes: readonly EntryRow[], standing: readonly EntryRow[]): Changed {
  const { known } = markRow(core);
  const all = [...changes, ...standing].map((row, i) => ({ ...described(row, known), changed: i < changes.length }));
  return { ok: true, entries: all };
}
