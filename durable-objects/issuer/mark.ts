import type { Fact, Mark } from "../../src/authority/ledger.ts";
import { type Core, nowOf, wakeAt } from "./core.ts";

/**
 * The mark that ledger and inventory have in common: every fact (signed, revoked, released) takes the next number here, and
 * the inventory writes the highest number that it has heard of in the batch that records the fact. So either side sees when
 * the other was restored to an earlier state (issuer/restore.ts).
 */

/** The inventory is told by the alarm when nobody has acknowledged until then. */
export const SETTLE_AFTER_MS = 5_000;

type MarkRow = { seq: number; known: number };

/** `known`: up to here the inventory has said that it recorded what it was told. */
export function markRow(core: Core): MarkRow {
  return core.sql.exec<MarkRow>("select seq, known from mark").one();
}

/** The number of a fact that is written in the same step. */
export function nextSeq(core: Core): number {
  return core.sql.exec<{ seq: number }>("update mark set seq = seq + 1 returning seq").one().seq;
}

/** What the inventory records with a fact. */
export function markOf(core: Core, seq: number): Mark {
  return { seq, known: markRow(core).known };
}

/** A fact about an entry that the inventory has to hear of: its number, and its place in the outbox. */
export function noteFact(core: Core, cursor: number): number {
  const seq = nextSeq(core);
  const now = nowOf(core);
  core.sql.exec(
    `update entries set seq = ?, acknowledged = case when kind in ('leaf', 'ca') then 0 else 1 end, settle_at = ?,
       settle_tries = 0 where cursor = ?`,
    seq,
    now,
    cursor,
  );
  wakeAt(core, now + SETTLE_AFTER_MS);
  return seq;
}

/** The inventory has these: the outbox forgets them, unless something newer happened to the same serial. */
export function acknowledge(core: Core, facts: readonly Fact[]): void {
  for (const { serial, seq } of facts)
    core.sql.exec("update entries set acknowledged = 1 where serial = ? and seq = ? and state = 1", serial, seq);
  const highest = Math.max(0, ...facts.map((fact) => fact.seq));
  core.sql.exec("update mark set known = max(known, min(seq, ?))", highest);
}
