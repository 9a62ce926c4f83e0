import { UniqueViolation } from "./database.ts";
import { ChangedMeanwhile } from "./errors.ts";

/** Attempts before a change that keeps losing to concurrent writers gives up. */
const TRIES = 5;
/** Attempts for recording something that has already happened: enough to outlast every concurrent writer. */
export const UNTIL_WRITTEN = 100;

/**
 * Reads, decides and writes; starts over when `attempt` throws ChangedMeanwhile or UniqueViolation because another
 * request won. Throws ChangedMeanwhile after `tries` attempts.
 */
export async function repeatedly<T>(attempt: () => Promise<T>, tries = TRIES): Promise<T> {
  for (let left = tries; left > 0; left--) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof ChangedMeanwhile || error instanceof UniqueViolation)) throw error;
    }
  }
  throw new ChangedMeanwhile();
}

/** Whether `write` succeeded; false if another request won and has already done the same work. */
export async function ifUnchanged(write: () => Promise<unknown>): Promise<boolean> {
  try {
    await write();
    return true;
  } catch (error) {
    if (error instanceof ChangedMeanwhile) return false;
    throw error;
  }
}
