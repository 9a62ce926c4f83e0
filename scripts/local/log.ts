import { writeSync } from "node:fs";
import { unusable } from "./state.ts";

const STDOUT = 1;
const STDERR = 2;
/** How long to wait for a slow reader of a pipe. */
const PATIENCE_MS = 50;

let lost = 0;

/** Writes one line to stderr; stdout carries only the ready line. */
export function note(message: string): void {
  logLine(`certctl-edge: ${message}`);
}

/** Writes a log line unchanged. */
export function logLine(line: string): void {
  if (lost > 0 && writeLine(STDERR, `\ncertctl-edge: ${lost} lines of the log could not be written`)) lost = 0;
  if (!writeLine(STDERR, line)) lost++;
}

/** Writes the ready line. */
export function sayReady(line: string): void {
  if (!writeLine(STDOUT, line)) note(`stdout takes nothing: ${line}`);
}

/**
 * Writes a line; returns whether all of it was written. A full disk, a closed pipe or a closed terminal is not fatal
 * here: Node's own streams would throw, and would not resume when there is space again.
 */
function writeLine(fd: number, line: string): boolean {
  const bytes = Buffer.from(`${line}\n`);
  const deadline = Date.now() + PATIENCE_MS;
  for (let written = 0; written < bytes.length; ) {
    try {
      written += writeSync(fd, bytes, written);
    } catch (error) {
      const busy = error instanceof Error && "code" in error && error.code === "EAGAIN";
      if (!busy || Date.now() > deadline) return false;
    }
  }
  return true;
}

/**
 * Ends the process with the reason: one line for an operator's error or an unusable file, anything else with its stack.
 */
export function fail(error: unknown): never {
  note(reasonOf(error));
  process.exit(1);
}

/** The message for the operator. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if ("code" in error && error.code === "start_failed") return error.message;
  if ("syscall" in error && "path" in error) return unusable(String(error.path), error).message;
  return error.stack ?? error.message;
}
