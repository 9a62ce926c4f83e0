/** Retry policy, shared by queued work in D1 and a ledger's hand-over in its own SQLite. Pure. */

export interface Policy {
  /** Milliseconds to wait after the first failure. */
  readonly first: number;
  /** Upper bound in milliseconds of the pause, which doubles with each failure. */
  readonly longest: number;
}

/** Milliseconds until the next attempt; `failures` includes the first one. */
export function pauseAfter(failures: number, { first, longest }: Policy): number {
  return Math.min(longest, first * 2 ** Math.min(Math.max(failures, 1) - 1, 40));
}

/**
 * Randomises a pause to between half and all of it, so that runs that failed together do not retry together; `octet` is
 * a random byte.
 */
export function jittered(pause: number, octet: number): number {
  return pause * (0.5 + octet / 512);
}

/** Whether the attempts are used up. */
export function isExhausted(failures: number, attempts: number): boolean {
  return failures >= attempts;
}
