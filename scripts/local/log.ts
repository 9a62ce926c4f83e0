/** One line to stderr; stdout carries nothing but the ready line. */
export function note(message: string): void {
  process.stderr.write(`certctl-edge: ${message}\n`);
}

/** Ends the process with the reason: an operator's error as one line, anything else with its stack. */
export function fail(error: unknown): never {
  const known = error instanceof Error && "code" in error && error.code === "start_failed";
  if (known) note(error.message);
  else note(error instanceof Error ? (error.stack ?? error.message) : String(error));
  process.exit(1);
}
