import { and, eq, gte, sql } from "drizzle-orm";
import type { Context } from "../../platform/context.ts";
import { guard, rowExists, type Statement } from "../../platform/database.ts";
import { type AppError, unavailable } from "../../platform/errors.ts";
import { describeError } from "../../platform/log.ts";
import { type CaDescription, type Fact, ledgerOf, type Mark } from "../ledger.ts";
import { ledgerMarks } from "./table.ts";

/** A fact with its ledger. */
export interface MarkedFact {
  readonly ledger_id: string;
  readonly serial: string;
  readonly mark: Mark;
}

/**
 * Statements that record how far the inventory has heard of each ledger, for the batch that records these facts. The
 * batch fails (503) if the inventory knows less than it once confirmed: it was restored to an earlier state, and the
 * ledger's outbox must first bring what it lacks.
 */
export function markStatements(ctx: Context, facts: readonly MarkedFact[]): Statement[] {
  const ledgers = new Map<string, Mark>();
  for (const { ledger_id, mark } of facts) {
    const before = ledgers.get(ledger_id) ?? mark;
    ledgers.set(ledger_id, { seq: Math.max(before.seq, mark.seq), known: Math.max(before.known, mark.known) });
  }
  return [...ledgers].flatMap(([ledger_id, { seq, known }]) => {
    const heard = and(eq(ledgerMarks.ledger_id, ledger_id), gte(ledgerMarks.seq, known));
    return [
      ...(known > 0 ? [guard(rowExists(ledgerMarks, heard), catchingUp)] : []),
      ctx.db
        .insert(ledgerMarks)
        .values({ ledger_id, seq })
        .onConflictDoUpdate({ target: ledgerMarks.ledger_id, set: { seq: sql`max(${ledgerMarks.seq}, ${seq})` } }),
    ];
  });
}

function catchingUp(): AppError {
  return unavailable(
    "recovering",
    "it is done at the CA; the inventory was restored to an earlier state and catches up: ask again",
    10,
  );
}

/** The fact that a CA was created; it has no serial. */
export function creationOf({ ledger_id, mark }: Pick<CaDescription, "ledger_id" | "mark">): MarkedFact {
  return { ledger_id, mark, serial: "" };
}

export function factOf({ serial, mark }: Pick<MarkedFact, "serial" | "mark">): Fact {
  return { serial, seq: mark.seq };
}

/** Lets the ledgers drop these from their outboxes; a lost acknowledgement costs one repetition. */
export function acknowledgeLater(ctx: Context, facts: readonly MarkedFact[]): void {
  for (const [ledgerId, of] of Map.groupBy(facts, (fact) => fact.ledger_id)) {
    ctx.defer(
      ledgerOf(ctx, ledgerId)
        .acknowledge(of.map(factOf))
        .catch((error) => ctx.log.warn("ledger.acknowledge_failed", { error: describeError(error) })),
    );
  }
}
