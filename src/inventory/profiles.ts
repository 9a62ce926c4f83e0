import { z } from "@hono/zod-openapi";
import { eq, type SQL, sql } from "drizzle-orm";
import { forgetActors } from "../identity/actors.ts";
import { endScope } from "../identity/scope-end.ts";
import { LEAF_EKUS } from "../pki/certificate.ts";
import type { Context } from "../platform/context.ts";
import { rowExists } from "../platform/database.ts";
import { invalid } from "../platform/errors.ts";
import { resource } from "../platform/resource.ts";
import { lineSchema, nameSchema, textSchema } from "../platform/rows.ts";
import { checkPattern, matchesPattern } from "./name-patterns.ts";
import { KEY_FAMILIES, type KeyAlgorithmRule, profiles as table } from "./table.ts";

/** Seconds: only below this may a profile be short-lived. */
const SHORT_LIVED_BELOW = 3600;

export type Profile = typeof table.$inferSelect;

const keyRule = z
  .strictObject({ algorithm: z.enum(KEY_FAMILIES), min_size: z.number().int() })
  .openapi("KeyAlgorithmRule");

const ekus = z.array(z.enum(LEAF_EKUS)).min(1).max(LEAF_EKUS.length);

/** Validity is in whole seconds and starts slightly in the past. */
const SHORTEST = 10;

const attribute = lineSchema.trim().min(1).max(64);

const subject = z.strictObject({
  organization: attribute.optional(),
  organizational_unit: attribute.optional(),
  country: z
    .string()
    .regex(/^[A-Z]{2}$/, "must be two capital letters (ISO 3166)")
    .optional(),
});

const fields = {
  name: nameSchema,
  description: textSchema.default(""),
  allowed_key_algorithms: z
    .array(keyRule)
    .min(1)
    .max(10)
    .default([
      { algorithm: "ECDSA", min_size: 256 },
      { algorithm: "RSA", min_size: 2048 },
    ]),
  max_ttl_seconds: z.number().int().min(0).max(3_155_760_000).default(0),
  allowed_ekus: ekus.default(["serverAuth"]),
  required_san_patterns: z.array(z.string().min(1)).max(50).default([]).openapi({
    description:
      "Every name of a certificate must match one of these as a whole. Regular expressions of a safe subset: literals, `.`, classes, `?`, `*`, `+`, `{m,n}` on one character, `|` between whole alternatives.",
  }),
  spiffe_uri_pattern: z.string().default("").openapi({
    description: "Every spiffe:// URI of a certificate must match this as a whole; the same subset of expressions.",
  }),
  allow_short_lived: z.boolean().default(false),
  must_staple: z.boolean().default(false),
  subject: subject.default({}),
  enabled: z.boolean().default(true),
};

/** Constraints on certificates: keys, lifetime, usages, names. */
export const profiles = resource({
  name: "Profile",
  kind: "certificate profile",
  idPrefix: "prof-",
  table,
  scope: "profile_id",
  answer: z
    .object({
      id: z.string(),
      name: z.string(),
      description: z.string(),
      allowed_key_algorithms: z.array(keyRule),
      max_ttl_seconds: z.number().int(),
      allowed_ekus: ekus,
      required_san_patterns: z.array(z.string()),
      spiffe_uri_pattern: z.string(),
      allow_short_lived: z.boolean(),
      must_staple: z.boolean(),
      subject,
      enabled: z.boolean(),
      created_at: z.string().openapi({ format: "date-time" }),
      updated_at: z.string().openapi({ format: "date-time" }),
    })
    .openapi("CertificateProfile"),
  create: z.object(fields),
  prepare: async (ctx, { row, before }) => {
    if (row) checkProfile(row);
    return row ? {} : { statements: await endScope(ctx, "profile", before.id), committed: forgetActors };
  },
});

/** Condition: the profile exists. */
export function profileExists(id: string): SQL {
  return rowExists(table, eq(table.id, id));
}

function checkProfile(profile: Profile): void {
  for (const [i, rule] of profile.allowed_key_algorithms.entries())
    checkKeyRule(`allowed_key_algorithms.${i}.min_size`, rule);
  if (profile.allow_short_lived && profile.max_ttl_seconds >= SHORT_LIVED_BELOW)
    throw invalid(
      "allow_short_lived",
      `short-lived certificates live less than an hour: max_ttl_seconds must be below ${SHORT_LIVED_BELOW}`,
    );
  if (profile.allow_short_lived && profile.max_ttl_seconds === 0)
    throw invalid("max_ttl_seconds", `a short-lived profile needs a limit of ${SHORTEST} to 3599 seconds`);
  if (profile.max_ttl_seconds > 0 && profile.max_ttl_seconds < SHORTEST)
    throw invalid("max_ttl_seconds", `must be 0, which sets no limit, or at least ${SHORTEST}`);
  const { allowed_ekus } = profile;
  if (new Set(allowed_ekus).size < allowed_ekus.length)
    throw invalid("allowed_ekus", "an extended key usage stands twice");
  if (allowed_ekus.includes("timeStamping") && allowed_ekus.length > 1)
    throw invalid(
      "allowed_ekus",
      "timeStamping must stand alone (RFC 3161 section 2.3): make a profile of its own for it",
    );
  for (const [i, pattern] of profile.required_san_patterns.entries())
    checkPattern(`required_san_patterns.${i}`, pattern);
  if (profile.spiffe_uri_pattern !== "") checkPattern("spiffe_uri_pattern", profile.spiffe_uri_pattern);
}

function checkKeyRule(field: string, { algorithm, min_size }: KeyAlgorithmRule): void {
  if (algorithm === "RSA" && (min_size < 2048 || min_size > 8192))
    throw invalid(field, "an RSA key has 2048 to 8192 bits");
  if (algorithm === "ECDSA" && ![256, 384, 521].includes(min_size))
    throw invalid(field, "an ECDSA curve has 256, 384 or 521 bits");
  if (algorithm === "Ed25519" && min_size !== 256) throw invalid(field, "an Ed25519 key has 256 bits");
}

/** The profile, or null. */
export function profileQuery(ctx: Context, id: string | SQL | null) {
  return ctx.db
    .select()
    .from(table)
    .where(id === null ? sql`0` : eq(table.id, id));
}

/** Whether the profile allows a key of this family and size (bits). */
export function allowsKey(
  profile: Pick<Profile, "allowed_key_algorithms">,
  key: { algorithm: string; size: number },
): boolean {
  return profile.allowed_key_algorithms.some((rule) => rule.algorithm === key.algorithm && key.size >= rule.min_size);
}

/**
 * Whether the profile allows this name: it must match one of `required_san_patterns`, and a SPIFFE ID the SPIFFE
 * pattern.
 */
export function allowsName(
  profile: Pick<Profile, "required_san_patterns" | "spiffe_uri_pattern">,
  name: string,
): boolean {
  const spiffe = profile.spiffe_uri_pattern !== "" && /^spiffe:\/\//i.test(name);
  if (spiffe) return matchesPattern(profile.spiffe_uri_pattern, name);
  if (profile.required_san_patterns.length === 0) return true;
  return profile.required_san_patterns.some((pattern) => matchesPattern(pattern, name));
}
