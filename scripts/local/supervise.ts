import { SYSTEM_TIMERS, type Timers } from "./timers.ts";

/** A server that may exit unexpectedly. */
export interface Server {
  /** Calls back once if the server ends without `stop`. */
  onDeath(callback: () => void): void;
  /** Stops the server, or cleans up after its death. */
  stop(): Promise<void>;
}

export interface Supervised {
  /** Starts the server. The caller gets the error of the first start; later errors count as failures. */
  start(): Promise<Server>;
  /** Receives each failure and each recovery. */
  note(message: string): void;
  /** Called once, after `FAILURES` failures in a row, when nothing runs. */
  giveUp(reason: string): void;
}

export interface Supervisor {
  /** Stops the server and starts no other. */
  stop(): Promise<void>;
}

/**
 * Deaths and failed starts in a row after which the supervisor gives up and leaves it to an init system or an operator.
 */
export const FAILURES = 10;
/** A server that has run this long was healthy: earlier failures no longer count. */
export const HEALTHY_MS = 60_000;
const FIRST_DELAY_MS = 200;
const LONGEST_DELAY_MS = 5_000;

/** Starts a server and restarts it whenever it ends by itself: after 0.2 s, then twice as long each time, up to 5 s. */
export async function supervise(
  { start, note, giveUp }: Supervised,
  timers: Timers = SYSTEM_TIMERS,
): Promise<Supervisor> {
  let failures = 0;
  let stopping = false;
  let handle: unknown = null;
  let server: Server | null = null;
  // The latest transition from one server to the next; `stop` waits for it.
  let turn: Promise<void> = Promise.resolve();

  const watch = (started: Server) => {
    server = started;
    const since = timers.now();
    started.onDeath(() => {
      if (timers.now() - since >= HEALTHY_MS) failures = 0;
      turn = clearUp(started);
    });
  };

  const clearUp = async (dead: Server) => {
    server = null;
    await dead.stop().catch((error: unknown) => note(`clearing up: ${String(error)}`));
    failed("the server's runtime (workerd) has ended by itself");
  };

  const failed = (what: string) => {
    if (stopping) return;
    failures++;
    if (failures >= FAILURES) {
      giveUp(`${what}: ${failures} failures in a row, and it is not started again`);
      return;
    }
    const delay = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** (failures - 1));
    note(`ERROR: ${what}; starting it again in ${delay / 1000} s (failure ${failures} of ${FAILURES} in a row)`);
    handle = timers.setTimeout(() => {
      turn = again();
    }, delay);
  };

  const again = async () => {
    try {
      watch(await start());
      note("the server's runtime (workerd) runs again");
    } catch (error) {
      failed(
        `the server's runtime (workerd) does not start: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
  };

  watch(await start());
  return {
    async stop() {
      stopping = true;
      timers.clearTimeout(handle);
      await turn;
      await server?.stop();
    },
  };
}
