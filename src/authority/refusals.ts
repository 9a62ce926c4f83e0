import { PkiError } from "../pki/errors.ts";
import { AppError, conflict, invalid, unavailable } from "../platform/errors.ts";
import type { Refusal } from "./ledger.ts";

/** Translates a ledger's refusal into an error of the API. */
export function refusalError(refusal: Refusal): AppError {
  switch (refusal.code) {
    case "request_conflict":
    case "ca_exists":
    case "ca_not_active":
    case "ca_absent":
    case "not_on_hold":
      return conflict(refusal.code, refusal.message);
    case "recovering":
      return unavailable(refusal.code, refusal.message, 10);
    case "not_issued":
      return new AppError(404, refusal.code, refusal.message);
    case "ca_invalid":
    case "out_of_bounds":
    case "lint_failed":
    case "expired":
    case "already_revoked":
      return new AppError(400, refusal.code, refusal.message);
  }
}

/** Runs one of our parsers: a fault in the caller's input becomes a 400 that names the field. */
export function translate<T>(field: string, code: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw translated(field, code, error);
  }
}

export function translated(field: string, code: string, error: unknown): unknown {
  return error instanceof PkiError ? invalid(field, error.message, code) : error;
}
