import type { z } from "@hono/zod-openapi";
import { invalid } from "../platform/errors.ts";

/** What a secret field of a configuration answers as; sent back, it keeps the secret. */
export const MASK = "********";

/** A configuration by the schema of its type. Throws AppError 400 that names the field. */
export function parseConfig<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const path = ["config", ...(issue?.path ?? []).map(String)].join(".");
  if (issue?.code === "unrecognized_keys")
    throw invalid(`${path}.${issue.keys[0]}`, "is not a field of this configuration");
  throw invalid(path, (issue?.message ?? "is not valid").replace(/^Invalid input: /, ""));
}
