import { describe, expect, test } from "vitest";
import { FAILURES, HEALTHY_MS, type Server, supervise } from "../../scripts/local/supervise.ts";
import { FakeTimers, settle } from "../support/timers.ts";

/** Servers that die when told to, and what the supervisor made of it. */
class Stage {
  readonly timers = new FakeTimers(0);
  readonly told: string[] = [];
  readonly starts: number[] = [];
  readonly gaveUp: string[] = [];
  running = 0;
  failNext = 0;
  die: () => void = () => {};

  supervise() {
    return supervise(
      {
        start: async () => this.start(),
        note: (message) => this.told.push(message),
        giveUp: (reason) => this.gaveUp.push(reason),
      },
      this.timers,
    );
  }

  start(): Server {
    this.starts.push(this.timers.now());
    if (this.failNext > 0) {
      this.failNext--;
      throw new Error("no luck");
    }
    this.running++;
    return {
      onDeath: (callback) => {
        this.die = callback;
      },
      stop: async () => {
        this.running--;
      },
    };
  }
}

describe("a server that ends by itself", () => {
  test("is cleared up and started again, each time after twice as long, up to five seconds, and each time is told", async () => {
    const stage = new Stage();
    await stage.supervise();
    const waits: number[] = [];
    for (let death = 1; death < FAILURES; death++) {
      stage.die();
      await settle();
      expect(stage.running).toBe(0);
      expect(stage.told.pop()).toContain(`failure ${death} of ${FAILURES} in a row`);
      const died = stage.timers.now();
      await stage.timers.pass(10_000);
      expect(stage.running).toBe(1);
      expect(stage.told.pop()).toContain("runs again");
      waits.push((stage.starts.at(-1) ?? 0) - died);
    }
    expect(waits).toEqual([200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000, 5_000]);
    stage.die();
    await stage.timers.pass(60_000);
    expect(stage.gaveUp).toEqual([expect.stringContaining(`${FAILURES} failures in a row`)]);
    expect([stage.running, stage.starts.length]).toEqual([0, FAILURES]);
  });

  test("starts that fail count as well, but the first one's error is the caller's", async () => {
    const stage = new Stage();
    stage.failNext = 1;
    await expect(stage.supervise()).rejects.toThrow("no luck");
    await stage.supervise();
    stage.failNext = FAILURES - 1;
    stage.die();
    await stage.timers.pass(120_000);
    expect(stage.told.filter((line) => line.includes("does not start: no luck"))).toHaveLength(FAILURES - 2);
    expect(stage.gaveUp).toEqual([expect.stringContaining("does not start: no luck")]);
  });

  test("after a minute of health what failed before no longer counts", async () => {
    const stage = new Stage();
    await stage.supervise();
    for (let death = 0; death < 3 * FAILURES; death++) {
      await stage.timers.pass(HEALTHY_MS);
      stage.die();
      await stage.timers.pass(200);
      expect(stage.running).toBe(1);
    }
    expect(stage.gaveUp).toEqual([]);
  });

  test("is not started again once the supervisor is told to stop, neither from waiting nor from starting", async () => {
    const waiting = new Stage();
    const first = await waiting.supervise();
    waiting.die();
    await settle();
    await first.stop();
    await waiting.timers.pass(60_000);
    expect([waiting.running, waiting.starts.length]).toEqual([0, 1]);

    const starting = new Stage();
    const second = await starting.supervise();
    starting.die();
    await settle();
    starting.timers.waiting?.run();
    await second.stop();
    expect([starting.running, starting.starts.length]).toEqual([0, 2]);
  });
});
