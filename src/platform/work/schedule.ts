/** Computes the next due time of recurring work, in UTC. Pure. */
export type Schedule = (now: Date) => Date;

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
/** Due this much before the minute, so that a slightly early tick still finds it. */
const EARLY_MS = 5_000;

/** At every multiple of `minutes` since midnight. */
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
