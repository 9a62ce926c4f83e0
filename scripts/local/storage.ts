import { randomFillSync } from "node:crypto";
import { closeSync, openSync, rmSync, statfsSync, statSync, writeSync } from "node:fs";
import path from "node:path";
import { SYSTEM_TIMERS, type Timers } from "./timers.ts";

const MEBIBYTE = 1024 * 1024;
/** The default of CERTCTL_STORAGE_RESERVE_MB: this, or 5 % of the disk if that is less. */
const DEFAULT_RESERVE = 200 * MEBIBYTE;
const DEFAULT_SHARE = 0.05;
/** The size of the file that holds further space against other programs: this, or an eighth of the disk. */
const MAX_HELD = 32 * MEBIBYTE;
const HELD_SHARE = 1 / 8;
/** The file is released only below this: if it went earlier, whatever fills the disk would take its space too. */
const SPENT = 256 * 1024;
const EVERY_MS = 100;

/** The disk under a state directory. Bytes; `free` is what this user may still allocate. */
export interface Disk {
  readonly free: number;
  readonly total: number;
}

export interface StorageOptions {
  readonly stateDir: string;
  /** Bytes; null: the default. 0: watch nothing. */
  readonly reserve: number | null;
  note(message: string): void;
  /** Whether the disk was spent before the reserve file was deleted. */
  readonly spent?: boolean;
  readonly measure?: (stateDir: string) => Disk;
  readonly timers?: Timers;
}

export interface StorageWatch {
  /** Whether less than the reserve is left. */
  isFull(): boolean;
  stop(): void;
}

/**
 * Watches the disk of a state directory. The disk is full when less than the reserve is free; callers of `isFull` then
 * store nothing new. The file `reserve` is created while there is space. If something else fills the disk anyway, the
 * file is deleted, and its space goes to writes that must still happen (revocations, CRLs, the databases' own writes on
 * reads). The disk then counts as full until there is room for reserve and file.
 */
export function watchStorage(options: StorageOptions): StorageWatch {
  const { stateDir, note, measure = measureDisk, timers = SYSTEM_TIMERS } = options;
  const file = reserveOf(stateDir);
  let held = statSync(file, { throwIfNoEntry: false })?.size ?? 0;
  let full = options.spent === true;
  let blind = false;
  let denied = false;
  let handle: unknown = null;

  const release = () => {
    rmSync(file, { force: true });
    held = 0;
  };

  /** Null if the disk cannot be measured: the last result stays in force, and the log says so once. */
  const measured = () => {
    try {
      const disk = measure(stateDir);
      blind = false;
      return disk;
    } catch (error) {
      if (!blind) note(`cannot measure the disk of ${stateDir}: ${error instanceof Error ? error.message : error}`);
      blind = true;
      return null;
    }
  };

  const look = () => {
    const disk = measured();
    if (!disk) return;
    const { free, total } = disk;
    const reserve = options.reserve ?? Math.min(DEFAULT_RESERVE, total * DEFAULT_SHARE);
    const wanted = Math.floor(Math.min(MAX_HELD, total * HELD_SHARE));
    // Hysteresis: recovering needs slightly more space than going full.
    const roomy = free >= 1.1 * reserve + wanted - held;
    if (full ? roomy : free < reserve) {
      full = !full;
      note(full ? fullMessage(stateDir, { free, reserve }) : spaceMessage(stateDir, free));
    }
    if (full && held > 0 && free < SPENT) release();
    if (!full && held === 0 && roomy && !denied) {
      held = fill(file, wanted);
      denied = held === 0;
      if (denied) note(`cannot make ${file}: when something else fills the disk, nothing is left for revocations`);
    }
  };

  const turn = () => {
    look();
    handle = timers.setTimeout(turn, EVERY_MS);
  };

  if (full && options.reserve !== 0) note(fullMessage(stateDir));
  if (options.reserve === 0) {
    release();
    return { isFull: () => false, stop: () => {} };
  }
  turn();
  return {
    isFull() {
      look();
      return full;
    },
    stop: () => timers.clearTimeout(handle),
  };
}

/** Whether the disk is so full that writes fail. */
export function isSpent(directory: string): boolean {
  return measureDisk(directory).free < SPENT;
}

/** For a start on a spent disk: deletes an earlier reserve file; returns whether the disk was spent. */
export function relieve(stateDir: string): boolean {
  const spent = isSpent(stateDir);
  if (spent) rmSync(reserveOf(stateDir), { force: true });
  return spent;
}

function reserveOf(stateDir: string): string {
  return path.join(stateDir, "reserve");
}

function measureDisk(stateDir: string): Disk {
  const { bavail, blocks, bsize } = statfsSync(stateDir);
  return { free: bavail * bsize, total: blocks * bsize };
}

/** Makes a file of this many bytes that no file system can compress; returns its size, 0 on failure. */
function fill(file: string, bytes: number): number {
  const chunk = randomFillSync(Buffer.alloc(Math.min(bytes, MEBIBYTE)));
  try {
    const fd = openSync(file, "w", 0o600);
    try {
      for (let written = 0; written < bytes; )
        written += writeSync(fd, chunk, 0, Math.min(chunk.length, bytes - written));
    } finally {
      closeSync(fd);
    }
    return bytes;
  } catch {
    rmSync(file, { force: true });
    return 0;
  }
}

function fullMessage(stateDir: string, left?: { free: number; reserve: number }): string {
  const what = left
    ? `has ${megabytes(left.free)} left, less than the reserve of ${megabytes(left.reserve)}`
    : "was full at the start";
  return `ERROR: the disk of ${stateDir} ${what}: nothing new is stored (503 storage_full) until there is space; OCSP, CRLs, \
reads and revocations go on`;
}

function spaceMessage(stateDir: string, free: number): string {
  return `the disk of ${stateDir} has ${megabytes(free)} left: everything is stored again`;
}

function megabytes(bytes: number): string {
  return `${(bytes / MEBIBYTE).toFixed(1)} MB`;
}
