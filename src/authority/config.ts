import { z } from "@hono/zod-openapi";
import { invalid } from "../platform/errors.ts";
import { REVOCATION_REASONS, type RevocationReason } from "./ledger.ts";

/** The contract's issuer types. The worker's wiring decides which are available. */
export const ISSUER_TYPES = [
  "ACME",
  "GenericCA",
  "StepCA",
  "VaultPKI",
  "DigiCert",
  "Sectigo",
  "GoogleCAS",
  "AWSACMPCA",
  "Entrust",
  "GlobalSign",
  "EJBCA",
] as const;

const REASONS = Object.keys(REVOCATION_REASONS) as [RevocationReason, ...RevocationReason[]];

/** RFC 5280's names; `key_compromise` is accepted too. */
export const revocationReason = z
  .preprocess(
    (value) =>
      typeof value === "string" ? value.replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()) : value,
    z.enum(REASONS),
  )
  .openapi("RevocationReason", { type: "string", enum: [...REASONS] });

/** Shown in place of a secret field; sent back, it keeps the stored secret. */
export const MASK = "********";

/** Parses a configuration by its type's schema. Throws AppError 400 that names the field. */
export function parseConfig<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const path = ["config", ...(issue?.path ?? []).map(String)].join(".");
  if (issue?.code === "unrecognized_keys")
    throw invalid(`${path}.${issue.keys[0]}`, "is not a field of this configuration");
  throw invalid(path, (issue?.message ?? "is not valid").replace(/^Invalid input: /, ""));
}
