import type { Actor } from "./actor.ts";

/**
 * An error that knows its HTTP status. Handlers throw it; the door writes it in the route's error form, by default the
 * envelope `{error, message, request_id}`. `code` is stable snake_case; `message` names the field and says what would
 * be right.
 */
export class AppError extends Error {
  readonly status: number;
  readonly code: string;
  readonly headers: Readonly<Record<string, string>>;
  /** The actor, when a valid credential is refused; used for the audit trail. */
  readonly actor: Actor | null;

  constructor(
    status: number,
    code: string,
    message: string,
    options: { headers?: Record<string, string>; actor?: Actor; cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause });
    this.name = "AppError";
    this.status = status;
    this.code = code;
    this.headers = options.headers ?? {};
    this.actor = options.actor ?? null;
  }
}

/** 400. `field` is the JSON path or parameter that is wrong; `message` says what would be right. */
export function invalid(field: string, message: string, code = "invalid_request"): AppError {
  return new AppError(400, code, field === "" ? message : `${field}: ${message}`);
}

export function unauthorized(
  message = "a valid API key is required: Authorization: Bearer <key>",
  code = "unauthorized",
  challenge: string | null = 'Bearer realm="certctl-edge"',
): AppError {
  return new AppError(401, code, message, { headers: challenge === null ? {} : { "WWW-Authenticate": challenge } });
}

export function forbidden(message: string, code = "forbidden"): AppError {
  return new AppError(403, code, message);
}

/** 404. `kind` is the API's word ("team"); `id` as requested. */
export function notFound(kind: string, id: string): AppError {
  return new AppError(404, "not_found", `${kind} ${JSON.stringify(id)} does not exist`);
}

export function conflict(code: string, message: string): AppError {
  return new AppError(409, code, message);
}

/** 409: another request changed the same rows first. `repeatedly` reads them again and retries. */
export class ChangedMeanwhile extends AppError {
  constructor(message = "others change this at the same time: read again and repeat") {
    super(409, "changed_meanwhile", message);
  }
}

export function gone(code: string, message: string): AppError {
  return new AppError(410, code, message);
}

export function preconditionFailed(message: string): AppError {
  return new AppError(412, "precondition_failed", message);
}

export function tooLarge(limit: number): AppError {
  return new AppError(413, "body_too_large", `the body of this route may have at most ${limit} bytes`);
}

export function unsupportedMediaType(expected: string): AppError {
  return new AppError(415, "unsupported_media_type", `Content-Type must be ${expected}`);
}

/** 503 with Retry-After: `retryAfter` seconds. */
export function unavailable(code: string, message: string, retryAfter = 5, cause?: unknown): AppError {
  return new AppError(503, code, message, { headers: { "Retry-After": String(retryAfter) }, cause });
}

/** 503: no space left to store anything. */
export function storageFull(cause?: unknown): AppError {
  return unavailable(
    "storage_full",
    "the disk of this server is full, or nearly: nothing new is stored until there is space; repeat the request then",
    30,
    cause,
  );
}

/** Whether a database or file system error means out of space. */
export function isStorageError(error: unknown): boolean {
  return [error, error instanceof Error ? error.cause : null].some(
    (one) => one instanceof Error && /SQLITE_FULL|disk is full|ENOSPC|No space left/.test(one.message),
  );
}

/** 429 with Retry-After: `retryAfter` seconds. */
export function tooManyRequests(message: string, retryAfter: number): AppError {
  return new AppError(429, "rate_limited", message, {
    headers: { "Retry-After": String(Math.max(1, Math.ceil(retryAfter))) },
  });
}

/**
 * Whether the same request may succeed shortly: our own 503s, and errors that an overloaded or restarted Durable Object
 * or database marks as such.
 */
export function isTemporary(error: unknown): boolean {
  if (error instanceof AppError && error.status === 503) return true;
  const marks = [error, error instanceof Error ? error.cause : null] as ({
    overloaded?: true;
    retryable?: true;
  } | null)[];
  return marks.some((mark) => mark?.overloaded === true || mark?.retryable === true);
}
