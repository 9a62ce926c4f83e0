import { z } from "@hono/zod-openapi";

/** Error text for a violated bound, giving both ends: "must be from 1 to 500". */

/** Null if the issue is not about a bound. */
export function rangeText(schema: z.ZodType, issue: z.core.$ZodIssue): string | null {
  if (issue.code !== "too_big" && issue.code !== "too_small") return null;
  // A custom message in the schema takes precedence.
  if (!/^Too (big|small): /.test(issue.message)) return null;
  const { minimum, maximum } = { ...boundOf(issue), ...boundsAt(schema, issue.path) };
  const what = UNITS[issue.origin];
  if (what === undefined) return null;
  if (minimum === undefined || minimum === 0) return `must ${what.verb} at most ${maximum}${what.unit}`;
  if (maximum === undefined) return `must ${what.verb} at least ${minimum}${what.unit}`;
  if (minimum === maximum) return `must ${what.verb} exactly ${minimum}${what.unit}`;
  return `must ${what.verb} from ${minimum} to ${maximum}${what.unit}`;
}

const UNITS: Readonly<Record<string, { readonly verb: string; readonly unit: string }>> = {
  number: { verb: "be", unit: "" },
  int: { verb: "be", unit: "" },
  string: { verb: "have", unit: " characters" },
  array: { verb: "have", unit: " entries" },
};

interface Bounds {
  readonly minimum?: number | undefined;
  readonly maximum?: number | undefined;
}

function boundOf(issue: z.core.$ZodIssueTooBig | z.core.$ZodIssueTooSmall): Bounds {
  return issue.code === "too_big" ? { maximum: Number(issue.maximum) } : { minimum: Number(issue.minimum) };
}

/** The bounds of the schema at a path; empty if the path cannot be followed. */
function boundsAt(schema: z.core.$ZodType, path: readonly PropertyKey[]): Bounds {
  let at: z.core.$ZodType | undefined = schema;
  for (const step of path) {
    at = at && inner(at);
    if (at instanceof z.ZodObject) at = at.shape[String(step)];
    else if (at instanceof z.ZodArray) at = at.element;
    else if (at instanceof z.ZodRecord) at = at.valueType;
    else return {};
  }
  const checks = (at && inner(at)._zod.def.checks) ?? [];
  return Object.assign({}, ...checks.map((check) => boundOfCheck(check._zod.def)));
}

type CheckDef = z.core.$ZodCheckDef & { minimum?: number; maximum?: number; value?: unknown; inclusive?: boolean };

function boundOfCheck(check: CheckDef): Bounds {
  const next = check.inclusive === false ? 1 : 0;
  switch (check.check) {
    case "min_length":
      return { minimum: check.minimum };
    case "max_length":
      return { maximum: check.maximum };
    case "greater_than":
      return { minimum: Number(check.value) + next };
    case "less_than":
      return { maximum: Number(check.value) - next };
    default:
      return {};
  }
}

/** Unwraps optional, nullable, default and preprocessing schemas. */
function inner(schema: z.core.$ZodType): z.core.$ZodType {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodNullable || schema instanceof z.ZodDefault)
    return inner(schema.unwrap());
  if (schema instanceof z.ZodPipe) return inner(schema.in instanceof z.ZodTransform ? schema.out : schema.in);
  return schema;
}
