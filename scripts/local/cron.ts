import { Cron } from "croner";
import { SYSTEM_TIMERS, type Timers } from "./timers.ts";

/** One firing of a schedule. */
export interface Tick {
  readonly cron: string;
  readonly scheduledTime: Date;
}

/**
 * The longest time between two looks at the wall clock, which bounds how late a schedule fires after the machine has
 * slept.
 */
const LONGEST_WAIT_MS = 30_000;

export interface Schedules {
  /** Resolves when the runs fired at once have ended, successfully or not. */
  readonly begun: Promise<unknown>;
  /** Stops firing; resolves when the current runs have ended. */
  stop(): Promise<void>;
}

/**
 * Fires each schedule (five fields, UTC) on its minute, and every-minute schedules once immediately. Each next time is
 * computed from the wall clock, so nothing drifts. A schedule never overlaps itself: times that pass during a run are
 * skipped, and of the times missed while the machine slept only the last one fires. Failures go to `onError` and change
 * nothing. Throws TypeError for an invalid expression.
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
      // Recomputed each time: after the clock is set back, the old value would be far in the future.
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

/** The latest time of a schedule that is due at `now`; `first` is already due. */
function latest(times: Cron, first: Date, now: number): Date {
  const [previous] = times.previousRuns(1, new Date(now + 1));
  return previous && previous.getTime() <= now && previous > first ? previous : first;
}
