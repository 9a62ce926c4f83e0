import { AppError } from "../../platform/errors.ts";
import { checkSecureUrl, outboundFetch } from "../../platform/outbound.ts";
import type { Settings } from "../../platform/settings.ts";

/** Fetches an identity provider's metadata and checks everything that is used. */

/** Allowed JWS algorithms (RFC 7518 section 3.1, RFC 8037) for tokens: never `none`, never a shared secret. */
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

/** The fields of OpenID Connect Discovery 1.0 section 3 used here; URLs have been checked. */
export interface Discovery {
  readonly issuer: string;
  readonly authorization_endpoint: string;
  readonly token_endpoint: string;
  readonly jwks_uri: string;
  readonly userinfo_endpoint?: string;
  readonly end_session_endpoint?: string;
  /** The allowed ones; all of ours if the provider lists none. */
  readonly id_token_signing_alg_values_supported: readonly string[];
  readonly token_endpoint_auth_methods_supported?: readonly string[];
  /** RFC 9207 section 3. */
  readonly authorization_response_iss_parameter_supported: boolean;
}

/** The usable part of a document, and every problem in words that name the field. */
export interface Inspected<T> {
  readonly value: T;
  readonly problems: readonly string[];
}

/** Two such fetches (metadata and keys) stay within ten seconds. */
const LIMITS = { timeoutMs: 5_000, maxBytes: 256 * 1024, maxRedirects: 0 };

const REQUIRED_URLS = ["authorization_endpoint", "token_endpoint", "jwks_uri"] as const;
const OPTIONAL_URLS = ["userinfo_endpoint", "end_session_endpoint"] as const;
const MAX_URL = 2000;
const MAX_NAMES = 100;

/**
 * GETs a JSON object from a provider: https (plain http only within OUTBOUND_ALLOW), at most 5 seconds and 256 KiB, no
 * redirects. Throws AppError: 400 for an address that is not allowed, 502 otherwise.
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

/** The metadata URL of an issuer (section 4.1). */
export function discoveryUrl(issuer: string): string {
  return `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`;
}

/**
 * Checks metadata (section 4.3 and the requirements of each endpoint used). The value contains every valid field, for a
 * dry run to show; without problems it is a complete `Discovery`.
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

/** Why a URL from the metadata may not be used; null if it may. It is checked like any untrusted URL. */
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

/** A list of strings, or null. */
export function names(value: unknown): string[] | null {
  if (!Array.isArray(value)) return null;
  return value.filter((one): one is string => typeof one === "string" && one.length <= MAX_NAMES).slice(0, MAX_NAMES);
}

function quoted(value: unknown): string {
  return value === undefined ? "nobody (it is absent)" : JSON.stringify(value).slice(0, 200);
}
