import type { Claims } from "./claims.ts";
import { SignInFailure } from "./failure.ts";

/** Reads a person's groups from a provider's claims. Pure. */

/** Columns of an identity provider. */
export interface GroupsClaim {
  readonly groups_claim_path: string;
  /** `string-array` or `json-path`. */
  readonly groups_claim_format: string;
}

const MAX_GROUPS = 2000;
/** Longer group names are ignored: no mapping can have one. */
const MAX_GROUP_NAME = 512;

/** A member name, an element index, or the wildcard. */
type Step = string | number | typeof ALL;
const ALL = Symbol("*");

const SEGMENT =
  /\.(?:(\*)|([^.*[\]'"?$\s()]+))|\[\s*(?:(\*)|(0|[1-9]\d{0,8})|('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"))\s*\]/y;

/**
 * Parses a JSONPath (RFC 9535) that uses only names, indexes and wildcards: `$.a.b`, `$['a.b']`, `$.a[0]`,
 * `$.a[*].name`. Null for any other text.
 */
export function jsonPathSteps(path: string): readonly Step[] | null {
  if (!path.startsWith("$")) return null;
  const steps: Step[] = [];
  for (let at = 1; at < path.length; at = SEGMENT.lastIndex) {
    SEGMENT.lastIndex = at;
    const match = SEGMENT.exec(path);
    if (!match) return null;
    const [, dotAll, name, all, index, quoted] = match;
    const step = dotAll || all ? ALL : (name ?? (index === undefined ? unquoted(quoted ?? "") : Number(index)));
    if (step === null) return null;
    steps.push(step);
  }
  return steps.length === 0 ? null : steps;
}

/** The value of a string literal (RFC 9535 section 2.3.1.1); null if it contains an invalid escape. */
function unquoted(literal: string): string | null {
  const inside = literal.slice(1, -1);
  const json = literal.startsWith("'") ? inside.replace(/\\'|"/g, (part) => (part === '"' ? '\\"' : "'")) : inside;
  try {
    return JSON.parse(`"${json}"`) as string;
  } catch {
    return null;
  }
}

/** A path that is not a JSONPath is a claim with exactly that name, or else a dot-separated path of names. */
function stepsOf(claims: Claims, { groups_claim_path: path, groups_claim_format: format }: GroupsClaim) {
  const steps = format === "json-path" ? jsonPathSteps(path) : null;
  return steps ?? (Object.hasOwn(claims, path) ? [path] : path.split("."));
}

/**
 * The distinct groups in the claims: a string, a list of strings or, with `json-path`, also the member names of an
 * object whose values are neither false nor null. Empty if there is no such claim; null if the provider omitted it
 * because there are too many groups (OpenID Connect Core 1.0 section 5.6.2; Entra ID's "group overage"). Throws
 * `groups_invalid` for anything else and for more than 2000 groups.
 */
export function groupsAt(claims: Claims, claim: GroupsClaim): readonly string[] | null {
  const steps = stepsOf(claims, claim);
  const found = steps.reduce<readonly unknown[]>(
    (values, step) => values.flatMap((value) => within(value, step)),
    [claims],
  );
  if (found.length === 0 && isLeftOut(claims, steps[0])) return null;
  const names = found.flatMap((value) => namesIn(value, claim));
  if (names.length > MAX_GROUPS)
    throw invalidGroups(claim, `has ${names.length} groups, at most ${MAX_GROUPS} are read`);
  return [...new Set(names.filter((name) => name !== "" && name.length <= MAX_GROUP_NAME && name.isWellFormed()))];
}

function within(value: unknown, step: Step): readonly unknown[] {
  if (Array.isArray(value)) return step === ALL ? value : typeof step === "number" ? value.slice(step, step + 1) : [];
  if (!isObject(value)) return [];
  if (step === ALL) return Object.values(value);
  return typeof step === "string" && Object.hasOwn(value, step) ? [value[step]] : [];
}

function namesIn(value: unknown, claim: GroupsClaim): readonly string[] {
  if (value === null) return [];
  if (typeof value === "string") return [value];
  if (Array.isArray(value)) {
    if (value.every((one) => typeof one === "string")) return value;
    throw invalidGroups(claim, "must be a text or a list of texts");
  }
  if (!isObject(value)) throw invalidGroups(claim, "must be a text or a list of texts");
  if (claim.groups_claim_format !== "json-path")
    throw invalidGroups(claim, "is an object; groups_claim_format json-path reads the names in it");
  return Object.entries(value).flatMap(([name, held]) => (held === false || held === null ? [] : [name]));
}

/** Whether the claim is a distributed claim, to be fetched elsewhere; that is not supported. */
function isLeftOut(claims: Claims, step: Step | undefined): boolean {
  if (typeof step !== "string" || Object.hasOwn(claims, step)) return false;
  const elsewhere = claims._claim_names;
  if (isObject(elsewhere) && Object.hasOwn(elsewhere, step)) return true;
  return step === "groups" && (claims.hasgroups === true || claims.hasgroups === "true");
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function invalidGroups({ groups_claim_path }: GroupsClaim, problem: string): SignInFailure {
  return new SignInFailure("groups_invalid", `${groups_claim_path}: ${problem}`);
}
