import { unusable } from "./state.ts";

/** One line to stderr; stdout carries nothing but the ready line. */
export function note(message: string): void {
  process.stderr.write(`certctl-edge: ${message}\n`);
}

/**
 * Ends the process with the reason: an operator's error as one line, and so a file that cannot be used; anything else with
 * its stack.
 */
export function fail(error: unknown): never {
  note(reasonOf(error));
  process.exit(1);
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if ("code" in error && error.code === "start_failed") return error.message;
  if ("syscall" in error && "path" in error) return unusable(String(error.path), error).message;
  return error.stack ?? error.message;
}
