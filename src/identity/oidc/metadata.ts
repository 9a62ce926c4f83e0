import { AppError } from "../../platform/errors.ts";
import { checkSecureUrl, outboundFetch } from "../../platform/outbound.ts";
import type { Settings } from "../../platform/settings.ts";

/** What an identity provider says of itself: fetched, and believed only as far as it was checked. */

/** JWS algorithms (RFC 7518 section 3.1, RFC 8037) that may sign a token: never `none`, never a shared secret. */
export const ALGORITHMS = [
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "ES256",
  "ES384",
  "ES512",
  "EdDSA",
] as const;

/** Of OpenID Connect Discovery 1.0 section 3, what is used here; the URLs have been checked. */
export interface Discovery {
  readonly issuer: string;
  readonly authorization_endpoint: string;
  readonly token_endpoint: string;
  readonly jwks_uri: string;
  readonly userinfo_endpoint?: string;
  readonly end_session_endpoint?: string;
  /** Those that may be; all of ours where the provider names none. */
  readonly id_token_signing_alg_values_supported: readonly string[];
  readonly token_endpoint_auth_methods_supported?: readonly string[];
  /** RFC 9207 section 3. */
  readonly authorization_response_iss_parameter_supported: boolean;
}

/** What was found, as far as it can be used, and everything that was wrong with it in words that name the field. */
export interface Inspected<T> {
  readonly value: T;
  readonly problems: readonly string[];
}

/** Two of these (metadata and keys) stay within ten seconds. */
const LIMITS = { timeoutMs: 5_000, maxBytes: 256 * 1024, maxRedirects: 0 };

const REQUIRED_URLS = ["authorization_endpoint", "token_endpoint", "jwks_uri"] as const;
const OPTIONAL_URLS = ["userinfo_endpoint", "end_session_endpoint"] as const;
const MAX_URL = 2000;
const MAX_NAMES = 100;

/**
 * GETs a JSON object from a provider: https (plain http only inside OUTBOUND_ALLOW), at most 5 seconds and 256 KiB, no
 * redirect. Throws AppError with what went wrong: 400 for an address that may not be asked, 502 for the rest.
 */
export async function fetchJson(settings: Settings, url: string): Promise<Record<string, unknown>> {
  const { host } = checkSecureUrl(url, settings.outboundAllow);
  const answer = await outboundFetch(settings, url, { ...LIMITS, headers: { Accept: "application/json" } });
  if (answer.status !== 200) throw misbehaves(`${host} answered ${answer.status} instead of 200`);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: false }).decode(answer.body));
  } catch (cause) {
    throw misbehaves(`${host} answered what is not JSON`, cause);
  }
  if (!isObject(value)) throw misbehaves(`${host} answered JSON that is not an object`);
  return value;
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function misbehaves(message: string, cause?: unknown): AppError {
  return new AppError(502, "upstream_failed", message, { cause });
}

/** Where an issuer's metadata is (section 4.1). */
export function discoveryUrl(issuer: string): string {
  return `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`;
}

/**
 * Checks metadata (section 4.3 and what each use of an endpoint needs). The value has whatever was in order, for a dry run
 * to show; it is a `Discovery` when there is no problem.
 */
export function inspectMetadata(
  settings: Settings,
  issuer: string,
  document: Record<string, unknown>,
): Inspected<Partial<Discovery>> {
  const problems: string[] = [];
  if (document.issuer !== issuer)
    problems.push(`issuer: the document is of ${quoted(document.issuer)}, it must be exactly ${quoted(issuer)}`);

  const urls: Record<string, string> = {};
  for (const name of [...REQUIRED_URLS, ...OPTIONAL_URLS]) {
    const value = document[name];
    if (value === undefined && (OPTIONAL_URLS as readonly string[]).includes(name)) continue;
    const problem = urlProblem(settings, value);
    if (problem === null) urls[name] = value as string;
    else problems.push(`${name}: ${problem}`);
  }

  const offered = names(document.id_token_signing_alg_values_supported);
  const algorithms = offered === null ? [...ALGORITHMS] : ALGORITHMS.filter((alg) => offered.includes(alg));
  if (algorithms.length === 0)
    problems.push(`id_token_signing_alg_values_supported: has none of ${ALGORITHMS.join(", ")}`);
  const methods = names(document.token_endpoint_auth_methods_supported);
  return {
    value: {
      ...(typeof document.issuer === "string" ? { issuer: document.issuer.slice(0, MAX_URL) } : {}),
      ...urls,
      id_token_signing_alg_values_supported: algorithms,
      ...(methods === null ? {} : { token_endpoint_auth_methods_supported: methods }),
      authorization_response_iss_parameter_supported: document.authorization_response_iss_parameter_supported === true,
    },
    problems,
  };
}

/** Why a provider's own URL may not be used; null when it may. The provider chose it, so it is checked as a stranger's. */
function urlProblem(settings: Settings, value: unknown): string | null {
  if (value === undefined) return "is absent";
  if (typeof value !== "string" || value.length > MAX_URL) return `must be a URL of at most ${MAX_URL} characters`;
  try {
    const url = checkSecureUrl(value, settings.outboundAllow);
    return url.hash === "" ? null : "must not have a fragment";
  } catch (error) {
    if (error instanceof AppError) return error.message.replace(/^url: /, "");
    throw error;
  }
}

/** A list of texts; null where there is none. */
export function names(value: unknown): string[] | null {
  if (!Array.isArray(value)) return null;
  return value.filter((one): one is string => typeof one === "string" && one.length <= MAX_NAMES).slice(0, MAX_NAMES);
}

function quoted(value: unknown): string {
  return value === undefined ? "nobody (it is absent)" : JSON.stringify(value).slice(0, 200);
}
