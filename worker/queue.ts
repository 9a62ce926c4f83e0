import { z } from "zod";
import { describeError } from "../src/platform/log.ts";
import { runOne } from "../src/platform/work/engine.ts";
import { Meter, metered } from "../src/platform/work/meter.ts";
import { makeContext, type Waiter } from "./context.ts";
import { sweep } from "./cron.ts";
import type { Env } from "./env.ts";
import { workKinds } from "./handlers.ts";

/** A message is only a wake-up: ids, never data. */
const message = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("work"), id: z.string() }),
  z.object({ kind: z.literal("sweep"), name: z.string() }),
]);

/** One message kind, one handler. A poisoned message is dropped loudly; the sweep finds its row again. */
export async function consume(batch: MessageBatch, env: Env, waiter: Waiter): Promise<void> {
  const ctx = metered(makeContext(env, waiter), new Meter());
  if (batch.queue.endsWith("-dead")) {
    for (const dead of batch.messages)
      ctx.log.error("queue.dead", { id: dead.id, body: JSON.stringify(dead.body).slice(0, 200) });
    batch.ackAll();
    return;
  }
  for (const item of batch.messages) {
    const parsed = message.safeParse(item.body);
    if (!parsed.success) {
      ctx.log.error("queue.poison", { id: item.id });
      item.ack();
      continue;
    }
    try {
      if (parsed.data.kind === "sweep") await sweep(ctx, [parsed.data.name]);
      else await runOne(ctx, workKinds, parsed.data.id);
      item.ack();
    } catch (error) {
      ctx.log.error("queue.failed", { id: item.id, attempts: item.attempts, error: describeError(error) });
      item.retry({ delaySeconds: Math.min(600, 2 ** item.attempts) });
    }
  }
}
