import { z } from "zod";
import type { Context } from "../src/platform/context.ts";
import { describeError } from "../src/platform/log.ts";
import { runWoken } from "../src/platform/work/engine.ts";
import { Meter, metered } from "../src/platform/work/meter.ts";
import { after } from "../src/platform/work/timer.ts";
import { makeContext, type Waiter } from "./context.ts";
import { runWhatIsDue } from "./cron.ts";
import type { Env } from "./env.ts";
import { workKinds } from "./handlers.ts";

/** Messages are wake-ups: they carry ids, never data. */
const message = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("work"), id: z.string() }),
  z.object({ kind: z.literal("due") }),
]);

const WAIT_MS = 2_000;

type WakeUp = z.output<typeof message>;

/**
 * Runs the work that a batch of messages wakes. Unreadable messages are logged and dropped: the tick finds their rows.
 */
export async function consume(batch: MessageBatch, env: Env, waiter: Waiter): Promise<void> {
  const ctx = metered(makeContext(env, waiter), new Meter());
  if (batch.queue.endsWith("-dead")) {
    for (const { id, body } of batch.messages)
      ctx.log.error("queue.dead", { id, body: JSON.stringify(body).slice(0, 200) });
    batch.ackAll();
    return;
  }
  try {
    const wakeUps = batch.messages.flatMap((item) => readMessage(ctx, item));
    const ids = wakeUps.flatMap((one) => (one.kind === "work" ? [one.id] : []));
    await waitFor(ctx, [
      ...(ids.length > 0 ? [runWoken(ctx, workKinds, ids)] : []),
      ...(wakeUps.some(({ kind }) => kind === "due") ? [runWhatIsDue(ctx)] : []),
    ]);
    batch.ackAll();
  } catch (error) {
    const attempts = Math.max(...batch.messages.map((item) => item.attempts));
    ctx.log.error("queue.failed", { messages: batch.messages.length, attempts, error: describeError(error) });
    batch.retryAll({ delaySeconds: Math.min(600, 2 ** attempts) });
  }
}

/** Waits for quick work. Slow work continues after the batch is acknowledged; if it fails, the tick finds it. */
async function waitFor(ctx: Context, running: readonly Promise<unknown>[]): Promise<void> {
  const all = Promise.all(running);
  const time = after(WAIT_MS);
  const isSlow = await Promise.race([all.then(() => false), time.passed.then(() => true)]);
  time.cancel();
  if (isSlow) ctx.defer(all.catch((error) => ctx.log.error("queue.failed", { error: describeError(error) })));
}

function readMessage(ctx: Context, { id, body }: Message): WakeUp[] {
  const parsed = message.safeParse(body);
  if (parsed.success) return [parsed.data];
  ctx.log.error("queue.poison", { id });
  return [];
}
