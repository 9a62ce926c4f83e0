import type { Bytes } from "../../../pki/bytes.ts";
import { BoundedMap } from "./context.ts";

/** Identifies the moment at which the ledger was asked for an answer's content. */
export interface Asked {
  /** Unix milliseconds. */
  readonly at: number;
  /** Incremented with each call in this isolate: many calls share a millisecond. */
  readonly order: number;
}

let questions = 0;

/** Call before asking the ledger. */
export function askedAt(now: number): Asked {
  return { at: now, order: ++questions };
}

/** A signed answer with its HTTP metadata. */
export interface OcspAnswer {
  readonly body: Bytes;
  readonly headers: Record<string, string>;
  /** Null: signed for one request, never repeated. */
  readonly repeatable: { readonly asked: Asked; readonly etag: string } | null;
}

/**
 * How long an isolate repeats an answer after asking the ledger, and so how late a revocation may show
 * (docs/revocation.md).
 */
export const REPEAT_MS = 2_000;
const MAX_ANSWERS = 8_192;

/** The answers that an isolate repeats: values only, at most 8,192, each for two seconds. */
export class AnswerMemory {
  private readonly kept = new BoundedMap<OcspAnswer>(MAX_ANSWERS);

  /** The answer if it is still valid at `now`. An answer from the future was stored before the clock was set back. */
  recall(key: string, now: number): OcspAnswer | null {
    const answer = this.kept.get(key);
    const at = answer?.repeatable?.asked.at ?? Number.NaN;
    return answer && at <= now && now < at + REPEAT_MS ? answer : null;
  }

  /**
   * Stores an answer unless the stored one was asked for later: of two requests that read the status before and after a
   * revocation, the first may sign last.
   */
  keep(key: string, answer: OcspAnswer): void {
    const before = this.kept.get(key)?.repeatable?.asked.order ?? 0;
    if (answer.repeatable && before <= answer.repeatable.asked.order) this.kept.set(key, answer);
  }
}
