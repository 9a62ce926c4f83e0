import { GuardFailed, UniqueViolation } from "./database.ts";
import { conflict } from "./errors.ts";

/** How often a change starts over when others write the same rows at the same time. */
const TRIES = 5;

/**
 * Reads, decides and writes; starts over when the batch's guards say that somebody else was faster. `attempt` must throw
 * GuardFailed (or the UniqueViolation that means the same) for that. 409 when it goes on and on.
 */
export async function repeatedly<T>(attempt: () => Promise<T>): Promise<T> {
  for (let left = TRIES; left > 0; left--) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof GuardFailed || error instanceof UniqueViolation)) throw error;
    }
  }
  throw conflict("changed_meanwhile", "others change this at the same time: read again and repeat");
}
