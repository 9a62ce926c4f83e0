/** Writes one JSON line per event. Fields must be safe to keep: no secrets, no bodies, no SQL parameters. */
export interface Log {
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
}

export type LogFields = Readonly<Record<string, string | number | boolean | null | undefined>>;

export function consoleLog(base: LogFields): Log {
  const line = (level: string, event: string, fields: LogFields = {}) =>
    JSON.stringify({ level, event, ...base, ...fields });
  return {
    info: (event, fields) => console.log(line("info", event, fields)),
    warn: (event, fields) => console.warn(line("warn", event, fields)),
    error: (event, fields) => console.error(line("error", event, fields)),
  };
}

/**
 * The loggable part of an unknown error: its name and the first line of its message. Drizzle puts SQL and parameters
 * into its message, so for those errors only the cause is logged.
 */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return "non-error thrown";
  const inner = error.message.startsWith("Failed query") && error.cause instanceof Error ? error.cause : error;
  return `${inner.name}: ${(inner.message.split("\n")[0] ?? "").slice(0, 300)}`;
}
