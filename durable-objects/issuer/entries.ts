import {
  type Fact,
  type Issued,
  type LedgerEntry,
  type Mark,
  REVOCATION_REASONS,
  type RevocationReason,
} from "../../src/authority/ledger.ts";
import type { Bytes } from "../../src/pki/bytes.ts";
import { type Core, ledgerIdOf, nowOf, wakeAt } from "./core.ts";
import { first, insert, numberOf } from "./storage.ts";

/**
 * The rows of serials, and the mark shared by ledger and inventory: every fact (signed, revoked, released) takes the
 * next number here, and the inventory records the highest number it has heard of in the batch that records the fact.
 * Each side can thus detect that the other was restored to an earlier state (issuer/restore.ts).
 */

export type EntryRow = {
  cursor: number;
  serial: string;
  request_id: string;
  digest: string;
  kind: LedgerEntry["kind"];
  certificate_id: string;
  /** 0 reserved, 1 signed, 2 refused by the lint. */
  state: number;
  shard: number;
  not_before: number;
  not_after: number;
  created_at: number;
  spki_sha256: string;
  tbs: ArrayBuffer | null;
  der: ArrayBuffer | null;
  settle: string;
  seq: number;
  acknowledged: number;
  tagged: number;
  revoked_at: number | null;
  reason: number | null;
};

/** Time without acknowledgement after which the alarm hands a fact to the inventory. */
export const SETTLE_AFTER_MS = 5_000;

type Given = "serial" | "request_id" | "kind" | "certificate_id" | "not_before" | "not_after";
type NewEntry = Pick<EntryRow, Given> &
  Partial<Omit<EntryRow, "cursor" | "tbs" | "der">> & { tbs?: Bytes; der?: Bytes };

/** Writes an entry; by default it is signed, and the inventory need not hear of it. */
export function addEntry(core: Core, { tbs, der, ...entry }: NewEntry): EntryRow {
  const row = {
    digest: "",
    state: 1,
    shard: 0,
    created_at: nowOf(core),
    spki_sha256: "",
    tbs: tbs?.slice().buffer ?? null,
    der: der?.slice().buffer ?? null,
    settle: "{}",
    seq: 0,
    acknowledged: 1,
    tagged: 1,
    revoked_at: null,
    reason: null,
    ...entry,
  };
  return { ...row, cursor: insert(core.sql, "entries", row) };
}

export function entryOf(core: Core, serial: string): EntryRow | undefined {
  return first<EntryRow>(core.sql, "select * from entries where serial = ?", serial);
}

/** `known`: the inventory has confirmed recording every fact up to this number. */
export function markRow(core: Core): Mark {
  return core.sql.exec<{ seq: number; known: number }>("select seq, known from mark").one();
}

/** The number of a fact that is written in the same step. */
export function nextSeq(core: Core): number {
  return numberOf(core.sql, "update mark set seq = seq + 1 returning seq");
}

/** The mark that the inventory records with a fact. */
export function markOf(core: Core, seq: number): Mark {
  return { seq, known: markRow(core).known };
}

/** Gives a fact about an entry its number and puts it in the outbox: the inventory must hear of it. */
export function noteFact(core: Core, row: EntryRow): void {
  const now = nowOf(core);
  row.seq = nextSeq(core);
  core.sql.exec(
    `update entries set seq = ?, acknowledged = case when kind in ('leaf', 'ca') then 0 else 1 end, settle_at = ?,
       settle_tries = 0 where cursor = ?`,
    row.seq,
    now,
    row.cursor,
  );
  wakeAt(core, now + SETTLE_AFTER_MS);
}

/**
 * The inventory has recorded these facts: removes them from the outbox unless a newer fact about the same serial waits.
 */
export function acknowledge(core: Core, facts: readonly Fact[]): void {
  for (const { serial, seq } of facts)
    core.sql.exec("update entries set acknowledged = 1 where serial = ? and seq = ? and state = 1", serial, seq);
  const highest = Math.max(0, ...facts.map((fact) => fact.seq));
  core.sql.exec("update mark set known = max(known, min(seq, ?))", highest);
}

/** An entry in its external form. */
export function described(row: EntryRow, known: number) {
  return {
    serial: row.serial,
    request_id: row.request_id,
    certificate_id: row.certificate_id,
    kind: row.kind,
    not_after: iso(row.not_after),
    spki_sha256: row.spki_sha256,
    mark: { seq: row.seq, known },
    revoked_at: row.revoked_at === null ? null : iso(row.revoked_at),
    reason: row.reason === null ? null : reasonName(row.reason),
  };
}

/** A certificate as returned to callers and handed to the inventory. */
export function issuedOf(core: Core, ca: { readonly ca_id: string }, row: EntryRow): Issued {
  const { reason, ...entry } = described(row, markRow(core).known);
  return {
    ok: true,
    ...entry,
    ledger_id: ledgerIdOf(core),
    ca_id: ca.ca_id,
    not_before: iso(row.not_before),
    shard: row.shard,
    der: new Uint8Array(row.der ?? []),
    settle: JSON.parse(row.settle),
    issued_at: iso(row.created_at),
    revocation_reason: reason,
  };
}

export function entries(core: Core, cursor: number, limit: number): LedgerEntry[] {
  const { known } = markRow(core);
  const query = "select * from entries where state = 1 and cursor > ? order by cursor limit ?";
  return core.sql
    .exec<EntryRow>(query, cursor, Math.min(limit, 1000))
    .toArray()
    .map((row) => ({ ...described(row, known), cursor: row.cursor, acknowledged: row.acknowledged === 1 }));
}

const REASON_NAMES: ReadonlyMap<number, RevocationReason> = new Map(
  Object.entries(REVOCATION_REASONS).map(([name, code]) => [code, name as RevocationReason]),
);

/** RFC 5280's name of a stored reason code. */
export function reasonName(code: number): RevocationReason {
  return REASON_NAMES.get(code) ?? "unspecified";
}

export function iso(ms: number): string {
  return new Date(ms).toISOString();
}
