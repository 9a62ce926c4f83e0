import type { Context } from "../src/platform/context.ts";
import { runDue } from "../src/platform/work/engine.ts";
import { Meter, metered } from "../src/platform/work/meter.ts";
import { makeContext, type Waiter } from "./context.ts";
import { type Env, readEnv } from "./env.ts";
import { kindsWhenFull, workKinds } from "./handlers.ts";
import { hearOfStorage } from "./storage.ts";

/** The minute tick: runs due work. Work that does not fit into one invocation continues through the queue. */
export async function tick(_: ScheduledController, env: Env, waiter: Waiter): Promise<void> {
  await hearOfStorage(readEnv(env).bindings);
  await runWhatIsDue(metered(makeContext(env, waiter), new Meter()));
}

export async function runWhatIsDue(ctx: Context): Promise<void> {
  const left = await runDue(ctx, ctx.storageFull ? kindsWhenFull : workKinds);
  if (left === "more") await ctx.bindings.WORK.send({ kind: "due" });
}
