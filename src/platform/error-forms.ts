import { z } from "@hono/zod-openapi";
import type { AppError } from "./errors.ts";

/**
 * Serialisation of errors. The API uses the envelope; a protocol with its own error format declares it on its routes.
 */
export interface ErrorForm {
  /** Content-Type. */
  readonly type: string;
  readonly schema: z.ZodType;
  write(error: AppError, requestId: string): string;
}

export const ENVELOPE: ErrorForm = {
  type: "application/json",
  schema: z.object({ error: z.string(), message: z.string(), request_id: z.string() }).openapi("ErrorResponse", {
    description: "Every error of the API: a stable snake_case code, what was wrong and what would be right.",
  }),
  write: (error, requestId) => JSON.stringify({ error: error.code, message: error.message, request_id: requestId }),
};

/**
 * Problem Details (RFC 7807), with the error code and request id as extension members. `typeOf` returns the type URI of
 * an error.
 */
export function problem(typeOf: (error: AppError) => string): ErrorForm {
  return {
    type: "application/problem+json",
    schema: z
      .object({ type: z.string(), status: z.number(), detail: z.string(), error: z.string(), request_id: z.string() })
      .openapi("ProblemDetails", { description: "An error of a protocol that answers Problem Details (RFC 7807)." }),
    write: (error, requestId) =>
      JSON.stringify({
        type: typeOf(error),
        status: error.status,
        detail: error.message,
        error: error.code,
        request_id: requestId,
      }),
  };
}

/** One line of plain text (RFC 7030 section 4.2.3). The request id is in the X-Request-ID header. */
export const TEXT: ErrorForm = {
  type: "text/plain; charset=utf-8",
  schema: z.string(),
  write: (error) => `${error.message}\n`,
};
