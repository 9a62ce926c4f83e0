import { eq } from "drizzle-orm";
import { mustHold } from "../../platform/access.ts";
import { commit } from "../../platform/commit.ts";
import { type Context, timestamp } from "../../platform/context.ts";
import type { EventAction } from "../../platform/events.ts";
import { type Line, linesOf } from "../../platform/lines.ts";
import { mustFindIssuer } from "../issuers/issuers.ts";
import { type ImportedEntry, ledgerOf, type Mark } from "../ledger.ts";
import { refusalError } from "../refusals.ts";
import { recordingOf } from "./ca.ts";
import { EntryError, type PastKind, readEntry } from "./imported.ts";
import { caOfIssuer } from "./intermediates.ts";
import { forgetAuthority } from "./public/directory.ts";
import { forgetSerials } from "./public/serials.ts";
import { purgeLedger } from "./purge.ts";
import { type CaAuthorityRow, certificateAuthorities } from "./table.ts";

/** The result of a stream of lines. */
export interface ImportReport {
  /** Non-blank lines. */
  lines: number;
  /** Serials that were new. */
  added: number;
  /** Known serials whose revocation is new. */
  revoked: number;
  known: number;
  failed: number;
  /** The first failed lines. */
  readonly errors: { readonly line: number; readonly message: string }[];
}

export interface LinesToImport {
  readonly kind: PastKind;
  /** Null: the issuer's own CA. */
  readonly ca_id: string | null;
  readonly stream: ReadableStream<Uint8Array>;
  stillAllowed(): Promise<void>;
}

/** Entries per call to the ledger. */
const BATCH = 2_000;
const MAX_LINE_BYTES = 65_536;
const MAX_ERRORS = 20;
const ASK_AGAIN_MS = 1_000;

/**
 * Imports what a CA issued or revoked elsewhere, one JSON object a line, in batches: memory does not grow with the
 * number of lines. Each batch is durable and audited on its own, also when the stream breaks off: send it again.
 * Invalid lines are counted and reported; the others are imported.
 */
export async function importLines(ctx: Context, issuerId: string, asked: LinesToImport): Promise<ImportReport> {
  if (asked.kind === "revocations") mustHold(ctx.actor, "cert.revoke", { issuer_id: issuerId });
  await mustFindIssuer(ctx, issuerId);
  const ca = await caOfIssuer(ctx, issuerId, asked.ca_id);
  const report: ImportReport = { lines: 0, added: 0, revoked: 0, known: 0, failed: 0, errors: [] };
  const importing = new Importing(ctx, ca, report, asked);
  try {
    for await (const lines of linesOf(asked.stream, MAX_LINE_BYTES))
      for (const line of lines) if (importing.read(line)) await importing.flush();
    await importing.flush();
  } finally {
    await importing.close();
  }
  return report;
}

class Importing {
  private readonly ctx: Context;
  private readonly ca: CaAuthorityRow;
  private readonly report: ImportReport;
  private readonly asked: LinesToImport;
  private batch: ImportedEntry[] = [];
  private numbers: number[] = [];
  private mark: Mark | null = null;
  private askedAt: number;
  private readonly now: string;

  constructor(ctx: Context, ca: CaAuthorityRow, report: ImportReport, asked: LinesToImport) {
    this.ctx = ctx;
    this.ca = ca;
    this.report = report;
    this.asked = asked;
    this.askedAt = ctx.clock.now().getTime();
    this.now = timestamp(ctx);
  }

  /** Reads a line; returns whether the batch is full. */
  read({ number, text }: Line): boolean {
    if (text?.trim() === "") return false;
    this.report.lines++;
    try {
      if (text === null) throw new EntryError("line", `is no UTF-8 or longer than ${MAX_LINE_BYTES} bytes`);
      this.batch.push(readEntry(this.asked.kind, json(text), this.now));
      this.numbers.push(number);
    } catch (error) {
      if (!(error instanceof EntryError)) throw error;
      this.fail(number, error.message);
    }
    return this.batch.length === BATCH;
  }

  private fail(line: number, message: string): void {
    this.report.failed++;
    if (this.report.errors.length < MAX_ERRORS) this.report.errors.push({ line, message });
  }

  async flush(): Promise<void> {
    const { ctx, batch, numbers, report } = this;
    if (batch.length === 0) return;
    const at = ctx.clock.now().getTime();
    if (Math.abs(at - this.askedAt) > ASK_AGAIN_MS) {
      await this.asked.stillAllowed();
      this.askedAt = at;
    }
    if (this.mark === null) await this.begin();
    const outcome = await ledgerOf(ctx, this.ca.ledger_id).importEntries(batch);
    if (!outcome.ok) throw refusalError(outcome);
    this.mark = outcome.mark;
    report.added += outcome.added;
    report.revoked += outcome.revoked;
    report.known += outcome.known;
    for (const { index, message } of outcome.refused) this.fail(numbers[index] ?? 0, message);
    this.batch = [];
    this.numbers = [];
  }

  /** From now on this CA's serials may lack its tag: recognizing them takes the ledger's filter. */
  private async begin(): Promise<void> {
    await commit(this.ctx, [
      this.ctx.db
        .update(certificateAuthorities)
        .set({ serial_key: null })
        .where(eq(certificateAuthorities.id, this.ca.id)),
      this.event("issuer.import_begun", {}),
    ]);
    this.forget();
  }

  async close(): Promise<void> {
    const { ctx, ca, mark, report } = this;
    if (mark === null) return;
    const purge = purgeLedger(ctx, ca.ledger_id);
    const { errors: _errors, ...counts } = report;
    const recording = recordingOf(ctx, [{ ledger_id: ca.ledger_id, serial: "", mark }]);
    const statements = [this.event("issuer.import", counts), purge.statement, ...recording.statements];
    await commit(ctx, statements, { wakeups: [purge.id] });
    recording.done();
    this.forget();
  }

  private event(action: EventAction, details: Record<string, unknown>) {
    return this.ctx.audit(action, this.ca.issuer_id, { ca_id: this.ca.ca_id, kind: this.asked.kind, ...details });
  }

  private forget(): void {
    for (const id of [this.ca.issuer_id, this.ca.id, this.ca.ca_id]) forgetAuthority(id);
    forgetSerials(this.ca.ledger_id);
  }
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new EntryError("line", `is not JSON (${error instanceof Error ? error.message.slice(0, 120) : "bad text"})`);
  }
}
