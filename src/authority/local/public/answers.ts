import type { Bytes } from "../../../pki/bytes.ts";
import { BoundedMap } from "./context.ts";

/** When the ledger was asked for what an answer says. */
export interface Asked {
  /** Unix milliseconds. */
  readonly at: number;
  /** Rises with each question of this isolate: many are asked within a millisecond. */
  readonly order: number;
}

let questions = 0;

/** To be called before the ledger is asked. */
export function askedAt(now: number): Asked {
  return { at: now, order: ++questions };
}

/** A signed answer with what HTTP says about it. */
export interface OcspAnswer {
  readonly body: Bytes;
  readonly headers: Record<string, string>;
  /** Null: signed for one request, never to be repeated. */
  readonly repeatable: { readonly asked: Asked; readonly etag: string } | null;
}

/** How long an isolate repeats an answer after it asked for what is so: so late can a revocation show (docs/revocation.md). */
export const REPEAT_MS = 2_000;
const MAX_ANSWERS = 8_192;

/** The answers that an isolate repeats: values, at most 8,192 of them, each for two seconds. */
export class AnswerMemory {
  private readonly kept = new BoundedMap<OcspAnswer>(MAX_ANSWERS);

  /** An answer that still stands at `now`; one from the future was kept before the clock was set back. */
  recall(key: string, now: number): OcspAnswer | null {
    const answer = this.kept.get(key);
    const at = answer?.repeatable?.asked.at ?? Number.NaN;
    return answer && at <= now && now < at + REPEAT_MS ? answer : null;
  }

  /**
   * Keeps an answer, unless the one that is there was asked for later: of two requests that read the status before and after
   * a revocation, the first may be the last to sign.
   */
  keep(key: string, answer: OcspAnswer): void {
    const before = this.kept.get(key)?.repeatable?.asked.order ?? 0;
    if (answer.repeatable && before <= answer.repeatable.asked.order) this.kept.set(key, answer);
  }
}
