import { readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { startSchedules, type Tick } from "../../scripts/local/cron.ts";
import { PROJECT } from "../../scripts/local/settings.ts";
import { FakeTimers, settle } from "../support/timers.ts";

const START = Date.parse("2026-11-23T02:59:30.500Z");
const text = ({ cron, scheduledTime }: Tick) => `${cron} @ ${scheduledTime.toISOString().slice(11, 19)}`;

function watch(crons: string[], timers: FakeTimers, fire: (tick: Tick) => Promise<void> = async () => {}) {
  const fired: string[] = [];
  const errors: unknown[] = [];
  const schedules = startSchedules(
    crons,
    (tick) => {
      fired.push(text(tick));
      return fire(tick);
    },
    (_tick, error) => errors.push(error),
    timers,
  );
  return { fired, errors, schedules };
}

describe("schedules", () => {
  test("each fires on its minute in UTC; that of every minute also right after the start", async () => {
    const timers = new FakeTimers(START);
    const { fired, schedules } = watch(["* * * * *", "*/15 * * * *", "2 3 * * *"], timers);
    await settle();
    expect(fired.splice(0)).toEqual(["* * * * * @ 02:59:30"]);
    await timers.pass(3 * 60_000);
    expect(fired).toEqual([
      "* * * * * @ 03:00:00",
      "*/15 * * * * @ 03:00:00",
      "* * * * * @ 03:01:00",
      "* * * * * @ 03:02:00",
      "2 3 * * * @ 03:02:00",
    ]);
    await schedules.stop();
  });

  test("tell when what was fired right away has ended, also badly", async () => {
    const timers = new FakeTimers(START);
    let fail = (_error: Error) => {};
    const { schedules } = watch(["* * * * *", "2 3 * * *"], timers, () => new Promise((_, reject) => (fail = reject)));
    let begun = false;
    void schedules.begun.then(() => (begun = true));
    await settle();
    expect(begun).toBe(false);
    fail(new Error("away"));
    await settle();
    expect(begun).toBe(true);
    await schedules.stop();
  });

  test("do not drift, however late each timer is", async () => {
    const timers = new FakeTimers(START);
    const { fired, schedules } = watch(["* * * * *"], timers);
    await timers.pass(24 * 60 * 60_000, 900);
    expect(fired).toHaveLength(1 + 24 * 60);
    expect(fired.at(-1)).toBe("* * * * * @ 02:59:00");
    await schedules.stop();
  });

  test("never overlap: what comes due while a run goes on is left out", async () => {
    const timers = new FakeTimers(START);
    let end = () => {};
    const { fired, schedules } = watch(["* * * * *"], timers, () => new Promise<void>((resolve) => (end = resolve)));
    await timers.pass(10 * 60_000);
    expect(fired).toHaveLength(1);
    end();
    await settle();
    await timers.pass(60_000);
    expect(fired).toHaveLength(2);
    end();
    await schedules.stop();
  });

  test("a machine that slept fires once, for the last time it missed", async () => {
    const timers = new FakeTimers(START);
    const { fired, schedules } = watch(["* * * * *", "17 3 * * *"], timers);
    await settle();
    fired.length = 0;
    await timers.sleep(60 * 60_000);
    expect(fired).toEqual(["* * * * * @ 03:59:00", "17 3 * * * @ 03:17:00"]);
    await schedules.stop();
  });

  test("an error is told and changes nothing", async () => {
    const timers = new FakeTimers(START);
    const { fired, errors, schedules } = watch(["* * * * *"], timers, () => Promise.reject(new Error("no")));
    await timers.pass(2 * 60_000);
    expect(fired).toHaveLength(3);
    expect(errors).toHaveLength(3);
    await schedules.stop();
    await timers.pass(2 * 60_000);
    expect(fired).toHaveLength(3);
  });

  test("count weekdays as Cloudflare does: 1 is Sunday", async () => {
    const timers = new FakeTimers(START);
    // 2026-11-23 is a Monday.
    const { fired, schedules } = watch(["0 4 * * 2", "0 5 * * 1"], timers);
    await timers.pass(4 * 60 * 60_000);
    expect(fired).toEqual(["0 4 * * 2 @ 04:00:00"]);
    await schedules.stop();
  });

  test("every schedule of wrangler.toml can be read, and nonsense is refused", () => {
    const crons = /^crons = (\[.*\])$/m.exec(readFileSync(path.join(PROJECT, "wrangler.toml"), "utf8"))?.[1];
    const { schedules } = watch(JSON.parse(crons ?? "[]"), new FakeTimers(START));
    void schedules.stop();
    expect(() => watch(["61 * * * *"], new FakeTimers(START))).toThrow();
    expect(() => watch(["* * * * * *"], new FakeTimers(START))).toThrow();
  });
});
