import { describe, expect, test } from "vitest";
import { isExhausted, jittered, pauseAfter } from "../../src/platform/work/policy.ts";
import { dailyAt, everyMinutes } from "../../src/platform/work/schedule.ts";

describe("pauses", () => {
  const policy = { first: 5_000, longest: 60_000 };

  test("double from the first to the longest, however many failures there are", () => {
    expect([1, 2, 3, 4, 5, 1_000].map((failures) => pauseAfter(failures, policy))).toEqual([
      5_000, 10_000, 20_000, 40_000, 60_000, 60_000,
    ]);
  });

  test("are cut to between half and all of them", () => {
    expect(jittered(1_000, 0)).toBe(500);
    expect(jittered(1_000, 255)).toBeGreaterThan(990);
    expect(jittered(1_000, 255)).toBeLessThan(1_000);
  });

  test("end with the attempts", () => {
    expect([isExhausted(29, 30), isExhausted(30, 30)]).toEqual([false, true]);
  });
});

describe("schedules", () => {
  const next = (schedule: (now: Date) => Date, now: string) => schedule(new Date(`2026-11-29T${now}Z`)).toISOString();

  test("are due a little before the clock's minute, so that an early tick finds them", () => {
    expect(next(everyMinutes(1), "10:00:00.020")).toBe("2026-11-29T10:00:55.000Z");
    expect(next(everyMinutes(1), "09:59:59.990")).toBe("2026-11-29T10:00:55.000Z");
    expect(next(everyMinutes(15), "10:07:30.000")).toBe("2026-11-29T10:14:55.000Z");
    expect(next(everyMinutes(15), "10:15:00.001")).toBe("2026-11-29T10:29:55.000Z");
  });

  test("of a day are due once a day", () => {
    expect(next(dailyAt(3, 17), "03:17:00.010")).toBe("2026-11-30T03:16:55.000Z");
    expect(next(dailyAt(3, 17), "02:00:00.000")).toBe("2026-11-29T03:16:55.000Z");
  });
});
