import type { Context } from "../../src/platform/context.ts";
import { type Outcome, runWoken } from "../../src/platform/work/engine.ts";
import type { Payload, WorkKinds } from "../../src/platform/work/work.ts";

/** Runs one row as a wake-up does; "skipped" where it is not due or somebody has it. */
export async function runOne(ctx: Context, kinds: WorkKinds, id: string): Promise<Outcome | "skipped"> {
  return (await runWoken(ctx, kinds, [id])).get(id) ?? "skipped";
}

/** Has work of a kind done without a row. */
export async function perform(ctx: Context, kinds: WorkKinds, kind: string, payload: Payload): Promise<void> {
  const found = kinds[kind];
  if (!found) throw new Error(`no kind ${kind}`);
  await found.run(ctx, payload, { id: "work-none", fence: 1, attempts: 1 });
}
