import type { Bindings } from "../src/platform/context.ts";
import { AppError, storageFull } from "../src/platform/errors.ts";
import type { Env } from "./env.ts";

/**
 * Whether the disk under a single machine's state is nearly full. A Worker cannot see a disk: `npm start` measures it and
 * answers at the binding STORAGE, which there is nowhere else. An isolate asks at most once a second, however many requests
 * it has.
 */

const FRESH_MS = 1_000;

/** What was heard last, and when it was asked for; one for each binding (one an isolate), emptied with it. */
const heard = new WeakMap<Fetcher, { full: boolean; at: number }>();

/** As heard last. */
export function isStorageFull({ STORAGE }: Pick<Bindings, "STORAGE">): boolean {
  return STORAGE !== null && heard.get(STORAGE)?.full === true;
}

/** Asks again where what was heard is older than a second; null where it is not. */
export function hearOfStorage({ STORAGE }: Pick<Bindings, "STORAGE">): Promise<unknown> | null {
  if (!STORAGE) return null;
  const before = heard.get(STORAGE);
  return before && Math.abs(Date.now() - before.at) < FRESH_MS ? null : ask(STORAGE);
}

/**
 * The error for a caller. A write that a full disk ends is an unspecific error of the runtime ("internal error"), for those too
 * who only read the same database at that moment: so the disk itself is asked.
 */
export async function withStorageError(env: Env, error: unknown): Promise<unknown> {
  // An error of ours is what it says, unless it hides one of the runtime's.
  const isOurs = error instanceof AppError && !(error.status >= 500 && error.cause);
  if (isOurs || !env.STORAGE) return error;
  return (await ask(env.STORAGE as Fetcher)) ? storageFull(error) : error;
}

/**
 * Reads once more where a full disk has ended it: databases note something even when they are read, and what lies in reserve
 * for that is free by now.
 */
export async function readAgain<T>(env: Env, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if ((await withStorageError(env, error)) === error) throw error;
    return await read();
  }
}

async function ask(storage: Fetcher): Promise<boolean> {
  const before = heard.get(storage)?.full ?? false;
  // Who comes meanwhile goes by what was heard before.
  heard.set(storage, { full: before, at: Date.now() });
  try {
    const answer = await storage.fetch("http://storage.invalid/");
    const full = (await answer.text()) === "full";
    heard.set(storage, { full, at: Date.now() });
    return full;
  } catch {
    // Whoever measures is being started again: what was heard holds on.
    return before;
  }
}
