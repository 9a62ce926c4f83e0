import { env } from "cloudflare:workers";
import type { Context } from "../../src/platform/context.ts";
import { makeContext } from "../../worker/context.ts";

/** The context of a sweep, its clock so many seconds ahead; what it defers is awaited by nobody. */
export function contextAhead(seconds = 0): Context {
  const clock = { now: () => new Date(Date.now() + seconds * 1000) };
  return makeContext({ ...env }, { waitUntil: () => undefined }, { clock });
}
