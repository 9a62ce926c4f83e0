import type { Timers } from "../../scripts/local/timers.ts";

/** A clock that only moves when told to. */
export class FakeTimers implements Timers {
  time: number;
  waiting: { at: number; run: () => void } | null = null;
  constructor(start: number) {
    this.time = start;
  }
  now() {
    return this.time;
  }
  setTimeout(run: () => void, milliseconds: number) {
    this.waiting = { at: this.time + milliseconds, run };
    return this.waiting;
  }
  clearTimeout(handle: unknown) {
    if (this.waiting === handle) this.waiting = null;
  }
  /** Lets time pass, firing what falls due; what fires may be late by `lateMs`. */
  async pass(milliseconds: number, lateMs = 0) {
    await settle();
    const until = this.time + milliseconds;
    while (this.waiting && this.waiting.at + lateMs <= until) {
      const { at, run } = this.waiting;
      this.waiting = null;
      this.time = at + lateMs;
      run();
      await settle();
    }
    this.time = until;
  }
  /** The machine sleeps: time has passed, and a waiting timer fires only now. */
  async sleep(milliseconds: number) {
    this.time += milliseconds;
    const due = this.waiting;
    this.waiting = null;
    due?.run();
    await settle();
  }
}

/** What is due in this turn of the event loop has run. */
export const settle = () => new Promise((resolve) => setImmediate(resolve));
