import type { Bindings } from "../src/platform/context.ts";
import { AppError, storageFull } from "../src/platform/errors.ts";
import type { Env } from "./env.ts";

/**
 * Whether the disk of a single machine is nearly full. A Worker cannot see the disk: `npm start` measures it and
 * answers through the STORAGE binding, which exists only there. An isolate asks at most once a second.
 */

const FRESH_MS = 1_000;

/** The last answer and when it was requested, one per binding (one per isolate); entries go with the binding. */
const heard = new WeakMap<Fetcher, { full: boolean; at: number }>();

/** The last known answer. */
export function isStorageFull({ STORAGE }: Pick<Bindings, "STORAGE">): boolean {
  return STORAGE !== null && heard.get(STORAGE)?.full === true;
}

/** Asks again if the last answer is older than a second; otherwise returns null. */
export function hearOfStorage({ STORAGE }: Pick<Bindings, "STORAGE">): Promise<unknown> | null {
  if (!STORAGE) return null;
  const before = heard.get(STORAGE);
  return before && Math.abs(Date.now() - before.at) < FRESH_MS ? null : ask(STORAGE);
}

/**
 * Translates an error for the caller. A write that fails on a full disk surfaces as an unspecific runtime error
 * ("internal error"), also for concurrent reads of the same database, so this asks for the state of the disk.
 */
export async function withStorageError(env: Env, error: unknown): Promise<unknown> {
  // Our own errors are specific, unless they wrap a runtime error.
  const isOurs = error instanceof AppError && !(error.status >= 500 && error.cause);
  if (isOurs || !env.STORAGE) return error;
  return (await ask(env.STORAGE as Fetcher)) ? storageFull(error) : error;
}

/**
 * Retries a read that failed on a full disk: databases write a little even when read, and by now the space reserved for
 * that has been freed.
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
  // Concurrent requests use the previous answer.
  heard.set(storage, { full: before, at: Date.now() });
  try {
    const answer = await storage.fetch("http://storage.invalid/");
    const full = (await answer.text()) === "full";
    heard.set(storage, { full, at: Date.now() });
    return full;
  } catch {
    // The measuring process is restarting: keep the previous answer.
    return before;
  }
}
