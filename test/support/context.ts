import { env } from "cloudflare:workers";
import type { Context } from "../../src/platform/context.ts";
import type { Writer } from "../../src/platform/writer.ts";
import { makeContext } from "../../worker/context.ts";

/** The context of a sweep, its clock so many seconds ahead; what it defers is awaited by nobody. */
export function contextAhead(seconds = 0): Context {
  const clock = { now: () => new Date(Date.now() + seconds * 1000) };
  return makeContext({ ...env }, { waitUntil: () => undefined }, { clock });
}

/** A context in which something else happens right after its first read in company. */
export function interrupted(between: () => Promise<unknown>): Context {
  const ctx = contextAhead();
  const real = ctx.bindings.WRITER.getByName("d1") as unknown as Writer;
  let isFirst = true;
  const commit: Writer["commit"] = async (unit) => {
    const first = isFirst;
    isFirst = false;
    const outcome = await real.commit(unit);
    if (first) await between();
    return outcome;
  };
  const WRITER = { getByName: () => ({ commit }) } as unknown as DurableObjectNamespace;
  return { ...ctx, bindings: { ...ctx.bindings, WRITER } };
}
