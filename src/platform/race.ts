import { UniqueViolation } from "./database.ts";
import { ChangedMeanwhile } from "./errors.ts";

/** How often a change starts over when others write the same rows at the same time. */
const TRIES = 5;
/** The same for what has happened already and only has to be written down: whoever comes last has waited for all the others. */
export const UNTIL_WRITTEN = 100;

/**
 * Reads, decides and writes; starts over when another request was faster, which `attempt` says by ChangedMeanwhile (or by the
 * UniqueViolation that means the same). Throws ChangedMeanwhile after `tries` attempts.
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

/** Whether `write` went through; false when another request was faster, which then has done what there was to do. */
export async function ifUnchanged(write: () => Promise<unknown>): Promise<boolean> {
  try {
    await write();
    return true;
  } catch (error) {
    if (error instanceof ChangedMeanwhile) return false;
    throw error;
  }
}
