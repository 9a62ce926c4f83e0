/** When recurring work is due next, by the clock and in UTC. Pure. */
export type Schedule = (now: Date) => Date;

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
/** Due this much before the minute, so that a tick that comes a little early still finds it. */
const EARLY_MS = 5_000;

/** At every full multiple of so many minutes since midnight. */
export function everyMinutes(minutes: number): Schedule {
  return schedule(minutes * MINUTE_MS, 0);
}

export function dailyAt(hour: number, minute: number): Schedule {
  return schedule(DAY_MS, (hour * 60 + minute) * MINUTE_MS);
}

function schedule(interval: number, offset: number): Schedule {
  return (now) => {
    const passed = Math.floor((now.getTime() + EARLY_MS - offset) / interval);
    return new Date((passed + 1) * interval + offset - EARLY_MS);
  };
}
