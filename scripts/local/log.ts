import { writeSync } from "node:fs";
import { unusable } from "./state.ts";

const STDOUT = 1;
const STDERR = 2;
/** A reader of a pipe that is so long behind is not waited for. */
const PATIENCE_MS = 50;

let lost = 0;

/** One line to stderr; stdout carries nothing but the ready line. */
export function note(message: string): void {
  logLine(`certctl-edge: ${message}`);
}

/** A line of the log as it is. */
export function logLine(line: string): void {
  if (lost > 0 && writeLine(STDERR, `\ncertctl-edge: ${lost} lines of the log could not be written`)) lost = 0;
  if (!writeLine(STDERR, line)) lost++;
}

/** The ready line. */
export function sayReady(line: string): void {
  if (!writeLine(STDOUT, line)) note(`stdout takes nothing: ${line}`);
}

/**
 * Writes a line and says whether it is written whole. A full disk, a closed pipe or a terminal that has gone ends nothing: Node's
 * own streams would throw, and take nothing more when there is space again.
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
 * Ends the process with the reason: an operator's error as one line, and so a file that cannot be used; anything else with
 * its stack.
 */
export function fail(error: unknown): never {
  note(reasonOf(error));
  process.exit(1);
}

/** What the operator is told of an error. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if ("code" in error && error.code === "start_failed") return error.message;
  if ("syscall" in error && "path" in error) return unusable(String(error.path), error).message;
  return error.stack ?? error.message;
}
