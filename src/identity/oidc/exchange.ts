import { OAuth2Tokens } from "arctic";
import type { Context } from "../../platform/context.ts";
import { AppError } from "../../platform/errors.ts";
import { type OutboundAnswer, type OutboundOptions, outboundFetch } from "../../platform/outbound.ts";
import type { Claims } from "./claims.ts";
import { SignInFailure } from "./failure.ts";

/**
 * Limits of the two requests of a sign-in to the provider. They use outboundFetch, which bounds time and size and here
 * follows no redirects; arctic's own request does neither, so only its response parser is used.
 */
const LIMITS = { timeoutMs: 10_000, maxBytes: 256 * 1024, maxRedirects: 0 };

export interface Client {
  readonly id: string;
  /** Null for a public client. */
  readonly secret: string | null;
  readonly redirectUri: string;
}

export interface TokenSet {
  readonly idToken: string;
  /** Null if the provider returns none. */
  readonly accessToken: string | null;
}

/**
 * Exchanges a code for tokens (RFC 6749 section 4.1.3, RFC 7636 section 4.5). `methods` are the client authentication
 * methods the provider supports.
 */
export async function exchangeCode(
  ctx: Context,
  endpoint: string,
  methods: readonly string[] | undefined,
  client: Client,
  grant: { readonly code: string; readonly verifier: string },
): Promise<TokenSet> {
  const form = new URLSearchParams({
    grant_type: "authorization_code",
    code: grant.code,
    redirect_uri: client.redirectUri,
    code_verifier: grant.verifier,
  });
  const headers: Record<string, string> = {
    Accept: "application/json",
    "Content-Type": "application/x-www-form-urlencoded",
  };
  // OpenID Connect Discovery 1.0 section 3: the default is client_secret_basic.
  const basic = methods === undefined || methods.includes("client_secret_basic");
  if (client.secret !== null && basic) headers.Authorization = basicCredentials(client.id, client.secret);
  else form.set("client_id", client.id);
  if (client.secret !== null && !basic) {
    if (!methods.includes("client_secret_post"))
      throw new SignInFailure("token_exchange_failed", `the provider takes no client secret: ${methods.join(" ")}`);
    form.set("client_secret", client.secret);
  }
  const answer = await ask(ctx, endpoint, { method: "POST", headers, body: form.toString() });
  return tokensOf(answer);
}

/** RFC 6749 section 2.3.1: both parts are form-encoded before they are joined. */
function basicCredentials(id: string, secret: string): string {
  const encoded = [id, secret].map((part) => new URLSearchParams({ v: part }).toString().slice(2));
  return `Basic ${btoa(encoded.join(":"))}`;
}

function tokensOf(answer: OutboundAnswer): TokenSet {
  const data = jsonObject(answer);
  if (answer.status !== 200 || data === null)
    throw new SignInFailure("token_exchange_failed", `the token endpoint answered ${answer.status} ${errorOf(data)}`);
  try {
    const tokens = new OAuth2Tokens(data);
    return { idToken: tokens.idToken(), accessToken: "access_token" in data ? bearer(tokens) : null };
  } catch (cause) {
    throw new SignInFailure("token_exchange_failed", "the token endpoint answered without usable tokens", cause);
  }
}

/** The access token, if it is a bearer token: the userinfo endpoint accepts no other. */
function bearer(tokens: OAuth2Tokens): string {
  if (tokens.tokenType().toLowerCase() !== "bearer") throw new Error("token_type is not Bearer");
  return tokens.accessToken();
}

/**
 * The claims of the userinfo endpoint (OpenID Connect Core 1.0 section 5.3). Throws if their subject differs (section
 * 5.3.2): a substituted access token would otherwise bring in another person's groups.
 */
export async function fetchUserinfo(
  ctx: Context,
  endpoint: string | undefined,
  accessToken: string | null,
  subject: string,
): Promise<Claims> {
  if (endpoint === undefined || accessToken === null)
    throw new SignInFailure("userinfo_failed", "the provider has no userinfo endpoint or gave no access token");
  const headers = { Accept: "application/json", Authorization: `Bearer ${accessToken}` };
  const answer = await ask(ctx, endpoint, { headers });
  const claims = jsonObject(answer);
  if (answer.status !== 200 || claims === null)
    throw new SignInFailure("userinfo_failed", `the userinfo endpoint answered ${answer.status} and no JSON object`);
  if (claims.sub !== subject) throw new SignInFailure("userinfo_failed", "sub: is not that of the ID token");
  return claims;
}

async function ask(ctx: Context, endpoint: string, options: OutboundOptions): Promise<OutboundAnswer> {
  try {
    return await outboundFetch(ctx.settings, endpoint, { ...options, ...LIMITS });
  } catch (error) {
    if (error instanceof AppError) throw new SignInFailure("provider_unreachable", error.message, error);
    throw error;
  }
}

function jsonObject(answer: OutboundAnswer): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: false }).decode(answer.body));
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : null;
  } catch {
    return null;
  }
}

/** RFC 6749 section 5.2: the provider's error code, cleaned for logging. */
function errorOf(data: Claims | null): string {
  return typeof data?.error === "string" ? data.error.replace(/[^\x20-\x7e]/g, "").slice(0, 60) : "";
}
