import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { localSettings } from "../../scripts/local/settings.ts";
import { watchStorage } from "../../scripts/local/storage.ts";
import { FakeTimers } from "../support/timers.ts";

const MB = 1024 * 1024;

let stateDir: string;
let file: string;
beforeEach(() => {
  stateDir = mkdtempSync(path.join(tmpdir(), "certctl-edge-storage-"));
  file = path.join(stateDir, "reserve");
});
afterEach(() => rmSync(stateDir, { recursive: true, force: true }));

/** A disk on which `others` leave so much, of which the file takes its part. */
class FakeDisk {
  others = 0;
  readonly total: number;
  broken = false;
  constructor(total: number) {
    this.total = total;
  }
  measure = () => {
    if (this.broken) throw new Error("EIO");
    const held = statSync(file, { throwIfNoEntry: false })?.size ?? 0;
    return { free: this.total - this.others - held, total: this.total };
  };
}

function watch(disk: FakeDisk, reserve: number | null = null) {
  const told: string[] = [];
  const timers = new FakeTimers(0);
  const note = (message: string) => told.push(message);
  return { told, timers, storage: watchStorage({ stateDir, reserve, note, measure: disk.measure, timers }) };
}

describe("the reserve of the disk", () => {
  test("is 5 % of a small disk and 200 MB of a large one, or what the setting says", async () => {
    for (const [total, reserve, setting] of [
      [40 * MB, 2 * MB, null],
      [100_000 * MB, 200 * MB, null],
      [100_000 * MB, 7 * MB, 7 * MB],
    ] as const) {
      const disk = new FakeDisk(total);
      const { storage } = watch(disk, setting);
      const held = statSync(file).size;
      expect(held).toBe(Math.min(32 * MB, total / 8));
      disk.others = total - held - reserve;
      expect([total, storage.isFull()]).toEqual([total, false]);
      disk.others++;
      expect([total, storage.isFull()]).toEqual([total, true]);
      storage.stop();
      rmSync(file, { force: true });
    }
  });

  test("is told to be short and to be there again, once each, without being asked", async () => {
    const disk = new FakeDisk(40 * MB);
    const { told, timers, storage } = watch(disk);
    disk.others = 34 * MB;
    await timers.pass(1_000);
    expect(told).toEqual([
      expect.stringMatching(/^ERROR: the disk of \S+ has 1\.0 MB left, less than .* 2\.0 MB: .*storage_full/),
    ]);
    // At the edge nothing flutters.
    disk.others = 40 * MB - 5 * MB - 2.1 * MB;
    await timers.pass(1_000);
    expect([told.length, storage.isFull()]).toEqual([1, true]);
    disk.others = 10 * MB;
    await timers.pass(1_000);
    expect(told.slice(1)).toEqual([expect.stringContaining("25.0 MB left: everything is stored again")]);
    storage.stop();
    expect(timers.waiting).toBeNull();
  });

  test("gives what it holds when others take the rest, and is full until there is room for all of it again", async () => {
    const disk = new FakeDisk(40 * MB);
    const { timers, storage } = watch(disk);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    disk.others = 35 * MB;
    await timers.pass(1_000);
    expect([existsSync(file), storage.isFull()]).toEqual([false, true]);
    // 5 MB are free, more than the reserve, and they are what is left for revocations.
    await timers.pass(60_000);
    expect([existsSync(file), storage.isFull()]).toEqual([false, true]);
    disk.others = 20 * MB;
    await timers.pass(1_000);
    expect([statSync(file).size, storage.isFull()]).toEqual([5 * MB, false]);
  });

  test("a start on a disk that was spent is full until there is room for all of it", async () => {
    const disk = new FakeDisk(40 * MB);
    disk.others = 35 * MB;
    const told: string[] = [];
    const timers = new FakeTimers(0);
    const note = (message: string) => told.push(message);
    const storage = watchStorage({ stateDir, reserve: null, spent: true, note, measure: disk.measure, timers });
    await timers.pass(1_000);
    expect([existsSync(file), storage.isFull(), told]).toEqual([
      false,
      true,
      [expect.stringContaining("at the start")],
    ]);
    disk.others = 20 * MB;
    await timers.pass(1_000);
    expect([statSync(file).size, storage.isFull(), told.length]).toEqual([5 * MB, false, 2]);
  });

  test("holds nothing where there is no room for it, and takes over what an earlier start held", async () => {
    const disk = new FakeDisk(40 * MB);
    disk.others = 37 * MB;
    const first = watch(disk);
    expect([existsSync(file), first.storage.isFull()]).toEqual([false, false]);
    writeFileSync(file, Buffer.alloc(MB));
    const second = watch(disk);
    expect([statSync(file).size, second.storage.isFull()]).toEqual([MB, false]);
    for (const { storage } of [first, second]) storage.stop();
  });

  test("a disk that cannot be measured is told once, and what was known goes on", async () => {
    const disk = new FakeDisk(40 * MB);
    const { told, timers, storage } = watch(disk);
    disk.broken = true;
    await timers.pass(10_000);
    expect([told, storage.isFull()]).toEqual([[expect.stringContaining("cannot measure the disk")], false]);
  });

  test("0 turns it off", async () => {
    writeFileSync(file, "held before");
    const disk = new FakeDisk(40 * MB);
    disk.others = 40 * MB;
    const { told, timers, storage } = watch(disk, 0);
    expect([existsSync(file), storage.isFull(), timers.waiting, told]).toEqual([false, false, null, []]);
  });

  test("the setting is a whole number of megabytes", () => {
    const reserveOf = (value: string) => localSettings({}, {}, { CERTCTL_STORAGE_RESERVE_MB: value }).storageReserve;
    expect([reserveOf("0"), reserveOf("50"), reserveOf("")]).toEqual([0, 50 * MB, null]);
    for (const value of ["50MB", "-1", "1.5"])
      expect(() => reserveOf(value)).toThrow(/CERTCTL_STORAGE_RESERVE_MB must be a whole number of megabytes/);
  });
});
