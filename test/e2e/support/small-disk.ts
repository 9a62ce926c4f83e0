import { execFileSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmdirSync, rmSync, statfsSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, it } from "vitest";

/** A disk of its own (a tmpfs), so small that it is soon full. */
export class SmallDisk {
  readonly path = mkdtempSync(path.join(tmpdir(), "certctl-disk-"));
  readonly #fill = path.join(this.path, "fill");

  constructor(megabytes: number) {
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", `size=${megabytes}m`, "tmpfs", this.path], { stdio: "pipe" });
    } catch (error) {
      rmdirSync(this.path);
      throw error;
    }
  }

  free(): number {
    const { bavail, bsize } = statfsSync(this.path);
    return bavail * bsize;
  }

  /** Takes everything but so many bytes; 0: until nothing more can be written. */
  fill(leave = 0): void {
    const fd = openSync(this.#fill, "a");
    const chunk = Buffer.alloc(4096);
    try {
      while (this.free() > leave || leave === 0) writeSync(fd, chunk);
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "ENOSPC")) throw error;
    } finally {
      closeSync(fd);
    }
  }

  /** Gives back what `fill` took. */
  empty(): void {
    rmSync(this.#fill, { force: true });
  }

  remove(): void {
    execFileSync("umount", ["-l", this.path]);
    rmdirSync(this.path);
  }
}

/** Tests that need disks of their own. Where nobody may mount one, the name of the one test that is left says so. */
export function describeOnSmallDisk(name: string, tests: () => void): void {
  try {
    new SmallDisk(1).remove();
  } catch (error) {
    const why = error instanceof Error ? error.message.split("\n").join(" ") : String(error);
    console.warn(`NOT TESTED: ${name}: no tmpfs can be mounted here: ${why}`);
    describe(name, () => it(`is NOT TESTED here: no tmpfs can be mounted: ${why}`, () => {}));
    return;
  }
  describe(name, tests);
}
