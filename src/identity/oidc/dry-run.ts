import type { Context } from "../../platform/context.ts";
import { AppError, invalid } from "../../platform/errors.ts";
import { inspectKeySet, kidsOf } from "./key-set.ts";
import { discoveryUrl, fetchJson, inspectMetadata, names } from "./metadata.ts";
import { checkIssuerUrl } from "./provider-fields.ts";

/** The result of testing a provider without creating it. */
export interface DryRun {
  readonly discovery_succeeded: boolean;
  readonly jwks_reachable: boolean;
  /** As listed by the provider. */
  readonly supported_alg_values: readonly string[];
  readonly iss_param_supported: boolean;
  readonly issuer_echo?: string;
  readonly authorization_url?: string;
  readonly token_url?: string;
  readonly jwks_uri?: string;
  readonly userinfo_endpoint?: string;
  readonly current_kids: readonly string[];
  readonly errors: readonly string[];
}

const NOTHING: DryRun = {
  discovery_succeeded: false,
  jwks_reachable: false,
  supported_alg_values: [],
  iss_param_supported: false,
  current_kids: [],
  errors: [],
};

/**
 * Fetches a provider's metadata and keys, in at most ten seconds, and reports every problem. Only an issuer_url that is
 * not a URL is a 400. Stores nothing and sends no secret.
 */
export async function dryRun(ctx: Context, issuer_url: string, scopes: readonly string[] | undefined): Promise<DryRun> {
  if (!URL.canParse(issuer_url)) throw invalid("issuer_url", "must be a URL");
  const asked = await attempt("discovery", async () => {
    checkIssuerUrl(ctx.settings, issuer_url);
    return fetchJson(ctx.settings, discoveryUrl(issuer_url));
  });
  if (typeof asked === "string") return { ...NOTHING, errors: [asked, ...scopeProblems(scopes, null)] };
  const { value, problems } = inspectMetadata(ctx.settings, issuer_url, asked);
  const found = {
    ...NOTHING,
    discovery_succeeded: problems.length === 0,
    supported_alg_values: names(asked.id_token_signing_alg_values_supported) ?? [],
    iss_param_supported: value.authorization_response_iss_parameter_supported === true,
    ...(value.issuer === undefined ? {} : { issuer_echo: value.issuer }),
    ...(value.authorization_endpoint === undefined ? {} : { authorization_url: value.authorization_endpoint }),
    ...(value.token_endpoint === undefined ? {} : { token_url: value.token_endpoint }),
    ...(value.jwks_uri === undefined ? {} : { jwks_uri: value.jwks_uri }),
    ...(value.userinfo_endpoint === undefined ? {} : { userinfo_endpoint: value.userinfo_endpoint }),
    errors: [...problems, ...scopeProblems(scopes, names(asked.scopes_supported))],
  };
  const { jwks_uri } = value;
  if (jwks_uri === undefined) return found;
  const document = await attempt("jwks_uri", () => fetchJson(ctx.settings, jwks_uri));
  if (typeof document === "string") return { ...found, errors: [...found.errors, document] };
  const keys = await inspectKeySet(document);
  return {
    ...found,
    jwks_reachable: keys.value.keys.length > 0,
    current_kids: kidsOf(keys.value),
    errors: [...found.errors, ...keys.problems],
  };
}

async function attempt<T>(what: string, work: () => Promise<T>): Promise<T | string> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof AppError) return `${what}: ${error.message.replace(/^(?:url|issuer_url): /, "")}`;
    throw error;
  }
}

/** Compares the wanted scopes with those the provider lists, if it lists any. */
function scopeProblems(wanted: readonly string[] | undefined, supported: readonly string[] | null): string[] {
  if (wanted === undefined) return [];
  const missing = supported === null ? [] : wanted.filter((scope) => !supported.includes(scope));
  return [
    ...(wanted.includes("openid") ? [] : ["scopes: must have openid"]),
    ...missing.map((scope) => `scopes: the provider does not name ${JSON.stringify(scope)} in scopes_supported`),
  ];
}
