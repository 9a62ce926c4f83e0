import { Cron } from "croner";
import { SYSTEM_TIMERS, type Timers } from "./timers.ts";

/** One firing of a schedule. */
export interface Tick {
  readonly cron: string;
  readonly scheduledTime: Date;
}

/** The wall clock is looked at this often at least: a machine that slept wakes up late for nothing longer than this. */
const LONGEST_WAIT_MS = 30_000;

export interface Schedules {
  /** Resolves when what was fired right away has ended, well or badly. */
  readonly begun: Promise<unknown>;
  /** Fires no more; resolves when what was running has ended. */
  stop(): Promise<void>;
}

/**
 * Fires each schedule (five fields, UTC) on its minute, and those of every minute once right away. Each next time is
 * computed from the wall clock, so nothing drifts. A schedule never overlaps itself: a time that comes while its last run
 * goes on is left out, as are the times that a sleeping machine missed but for the last one. What fails is told to
 * `onError` and changes nothing. Throws TypeError for an expression that cannot be read.
 */
export function startSchedules(
  crons: readonly string[],
  fire: (tick: Tick) => Promise<void>,
  onError: (tick: Tick, error: unknown) => void,
  timers: Timers = SYSTEM_TIMERS,
): Schedules {
  const schedules = crons.map((cron) => ({
    cron,
    // Weekdays as Cloudflare counts them: 1 is Sunday.
    times: new Cron(cron, { timezone: "UTC", paused: true, mode: "5-part", alternativeWeekdays: true }),
    running: null as Promise<void> | null,
    next: null as Date | null,
  }));
  let handle: unknown = null;
  let stopped = false;

  const run = (schedule: (typeof schedules)[number], scheduledTime: Date) => {
    if (schedule.running) return;
    const tick = { cron: schedule.cron, scheduledTime };
    schedule.running = fire(tick)
      .catch((error: unknown) => onError(tick, error))
      .finally(() => {
        schedule.running = null;
      });
  };

  const turn = () => {
    if (stopped) return;
    const now = timers.now();
    for (const schedule of schedules) {
      if (schedule.next && schedule.next.getTime() <= now) {
        run(schedule, latest(schedule.times, schedule.next, now));
        schedule.next = null;
      }
      // A clock set back would otherwise keep a time that is far off.
      schedule.next = schedule.times.nextRun(new Date(now));
    }
    const soonest = Math.min(...schedules.map((schedule) => schedule.next?.getTime() ?? Number.POSITIVE_INFINITY));
    handle = timers.setTimeout(turn, Math.max(1, Math.min(soonest - now, LONGEST_WAIT_MS)));
  };

  for (const schedule of schedules) if (schedule.cron === "* * * * *") run(schedule, new Date(timers.now()));
  const begun = Promise.allSettled(schedules.map((schedule) => schedule.running));
  if (schedules.length > 0) turn();

  return {
    begun,
    async stop() {
      stopped = true;
      timers.clearTimeout(handle);
      await Promise.allSettled(schedules.map((schedule) => schedule.running));
    },
  };
}

/** The last time of a schedule that is due at `now`, when `first` already is. */
function latest(times: Cron, first: Date, now: number): Date {
  const [previous] = times.previousRuns(1, new Date(now + 1));
  return previous && previous.getTime() <= now && previous > first ? previous : first;
}
