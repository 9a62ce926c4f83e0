import { ledgerOf, type SerialStatus } from "../ledger.ts";
import { CROSSES_REQUESTS, type PublicContext } from "./context.ts";

/** Too much waits already: the answer is tryLater. */
export class Overloaded extends Error {
  readonly code = "overloaded";
}

interface Waiting {
  readonly serial: string;
  /** Null: this one leads the next batch. */
  wake(status: SerialStatus | null): void;
  fail(error: unknown): void;
}

interface Queue {
  waiting: Waiting[];
  /** When the call that runs was sent; null while none runs. */
  runningSince: number | null;
}

const MAX_BATCH = 256;
const MAX_WAITING = 2048;
/** A call that takes longer belongs to a request that may be gone: the next arrival does not wait for it. */
const STALE_MS = 2_000;

/** Questions of one isolate to each ledger; a queue goes when it is empty. */
const queues = new Map<string, Queue>();

/**
 * The status of a serial from its ledger. While one call is under way the next questions gather and go together in one
 * call, led by the first that waits: so a thousand clients are a few calls. Throws Overloaded.
 */
export async function statusOf(ctx: PublicContext, ledgerId: string, serial: string): Promise<SerialStatus> {
  if (!CROSSES_REQUESTS) return alone(ctx, ledgerId, serial);
  let queue = queues.get(ledgerId);
  if (!queue) {
    queue = { waiting: [], runningSince: null };
    queues.set(ledgerId, queue);
  }
  const now = Date.now();
  if (queue.runningSince !== null && now - queue.runningSince < STALE_MS) {
    if (queue.waiting.length >= MAX_WAITING) throw new Overloaded("too many questions to one ledger are waiting");
    const status = await wait(ctx, queue, serial);
    if (status !== null) return status;
  }
  return lead(ctx, queue, ledgerId, serial);
}

function wait(ctx: PublicContext, queue: Queue, serial: string): Promise<SerialStatus | null> {
  const waiting = new Promise<SerialStatus | null>((resolve, reject) => {
    queue.waiting.push({ serial, wake: resolve, fail: reject });
  });
  // Alive until it is answered, even when its client goes: it may have to lead.
  ctx.defer(waiting.catch(() => undefined));
  return waiting;
}

/** One call for everything that waits. The request that leads keeps itself alive until it has handed on. */
function lead(ctx: PublicContext, queue: Queue, ledgerId: string, serial: string): Promise<SerialStatus> {
  const started = Date.now();
  queue.runningSince = started;
  const batch = queue.waiting.splice(0, MAX_BATCH - 1);
  const call = ask(ctx, ledgerId, [serial, ...batch.map((one) => one.serial)]).then(
    ([own, ...others]) => {
      batch.forEach((one, i) => {
        const status = others[i];
        if (status) one.wake(status);
        else one.fail(new Error("the ledger answered less than it was asked"));
      });
      if (!own) throw new Error("the ledger answered nothing");
      return own;
    },
    (error) => {
      for (const one of batch) one.fail(error);
      throw error;
    },
  );
  const done = call.finally(() => {
    if (queue.runningSince !== started) return;
    queue.runningSince = null;
    const next = queue.waiting.shift();
    if (next) {
      queue.runningSince = Date.now();
      next.wake(null);
    } else if (queues.get(ledgerId) === queue) {
      queues.delete(ledgerId);
    }
  });
  ctx.defer(done.catch(() => undefined));
  return done;
}

async function alone(ctx: PublicContext, ledgerId: string, serial: string): Promise<SerialStatus> {
  const [status] = await ask(ctx, ledgerId, [serial]);
  if (!status) throw new Error("the ledger answered nothing");
  return status;
}

async function ask(ctx: PublicContext, ledgerId: string, serials: string[]): Promise<SerialStatus[]> {
  return ledgerOf(ctx, ledgerId).lookup(serials);
}
