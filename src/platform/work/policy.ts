/**
 * How anything is tried again here, wherever its row lives: queued work in D1, a ledger's hand-over in its own SQLite. Pure.
 */

export interface Policy {
  /** Milliseconds after the first failure. */
  readonly first: number;
  /** The pause doubles with each failure until it is this long. */
  readonly longest: number;
}

/** Milliseconds until the next attempt after so many failures, the first included. */
export function pauseAfter(failures: number, { first, longest }: Policy): number {
  return Math.min(longest, first * 2 ** Math.min(Math.max(failures, 1) - 1, 40));
}

/** From half to all of a pause, so that what failed together does not come back together; `octet` is random. */
export function jittered(pause: number, octet: number): number {
  return pause * (0.5 + octet / 512);
}

/** Whether so many failures are enough. */
export function isExhausted(failures: number, attempts: number): boolean {
  return failures >= attempts;
}
