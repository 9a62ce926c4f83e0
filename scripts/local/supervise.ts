import { SYSTEM_TIMERS, type Timers } from "./timers.ts";

/** A server that may end by itself. */
export interface Server {
  /** Calls back once when it ends without having been told to. */
  onDeath(callback: () => void): void;
  /** Ends it, or clears up after it has died. */
  stop(): Promise<void>;
}

export interface Supervised {
  /** Starts: the first one's error is the caller's, later ones count as failures. */
  start(): Promise<Server>;
  /** Each failure and each return is told here. */
  note(message: string): void;
  /** Called once, after `FAILURES` failures in a row; nothing runs then. */
  giveUp(reason: string): void;
}

export interface Supervisor {
  /** Ends what runs, and starts nothing again. */
  stop(): Promise<void>;
}

/** Deaths and starts that failed, in a row, after which it is somebody else's turn (an init system's, an operator's). */
export const FAILURES = 10;
/** A server that has run for so long was well: what failed before no longer counts. */
export const HEALTHY_MS = 60_000;
const FIRST_DELAY_MS = 200;
const LONGEST_DELAY_MS = 5_000;

/** Starts a server and, whenever it ends by itself, starts it again: after 0.2 s, then twice as long each time, up to 5 s. */
export async function supervise(
  { start, note, giveUp }: Supervised,
  timers: Timers = SYSTEM_TIMERS,
): Promise<Supervisor> {
  let failures = 0;
  let stopping = false;
  let handle: unknown = null;
  let server: Server | null = null;
  // The latest change from one server to the next: `stop` waits for it.
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
