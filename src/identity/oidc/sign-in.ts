import { CodeChallengeMethod, generateCodeVerifier, generateState, OAuth2Client } from "arctic";
import { and, eq, or } from "drizzle-orm";
import { addressKey } from "../../platform/caller.ts";
import type { Context } from "../../platform/context.ts";
import { runBatch } from "../../platform/database.ts";
import { AppError, conflict, invalid, notFound, tooManyRequests } from "../../platform/errors.ts";
import { type Reply, raw } from "../../platform/route.ts";
import { utf8 } from "../../platform/text.ts";
import { noteDenied } from "../denied.ts";
import type { ActorRef } from "../grants.ts";
import { onceFor } from "../once.ts";
import { endReplaced, endSession, openSession, rotateCsrfOf } from "../sessions/sessions.ts";
import { oidcProviders, oidcSessions, users } from "../table.ts";
import { ensureBootstrapProvider } from "./bootstrap-provider.ts";
import { type Claims, checkEmailDomain, personOf, sidOf, subjectOf } from "./claims.ts";
import { type Discovery, discover, type Provider, ProviderError } from "./discovery.ts";
import { type Client, exchangeCode, fetchUserinfo, type TokenSet } from "./exchange.ts";
import { type Reason, SignInFailure } from "./failure.ts";
import { groupsAt } from "./groups.ts";
import { verifiedByKeysOf, verifyIdToken } from "./id-token.ts";
import { clearedPending, keepPending, localPath, type Pending, pendingCookie, takePending } from "./pending.ts";
import { resync } from "./resync.ts";

/**
 * Sign-in with an identity provider: OpenID Connect Core 1.0 section 3.1 (authorization code flow) with PKCE (RFC 7636)
 * and issuer identification (RFC 9207). The state of a sign-in is single use and bound to the browser that began it.
 */

/** Sign-ins that one address may begin per minute. */
const STARTS = { limit: 60, windowMs: 60_000 };

/** Longer ID tokens make the logout URL too long for servers, so the logout omits the hint. */
const MAX_HINT = 6000;

/**
 * Redirects the browser to the provider. Throws 404 for an unknown provider, 409 for a disabled one, 400 if several are
 * enabled and none is named.
 */
export async function startSignIn(ctx: Context, provider: string | undefined, returnTo: string): Promise<Reply> {
  const return_to = localPath(returnTo);
  await brake(ctx);
  await ensureBootstrapProvider(ctx);
  const row = await providerNamed(ctx, provider);
  let discovery: Discovery;
  try {
    discovery = await discover(ctx, row);
  } catch (error) {
    if (error instanceof ProviderError) return toLoginPage(ctx, error.reason, error.message, []);
    throw error;
  }
  const [state, nonce, verifier] = [generateState(), generateState(), generateCodeVerifier()];
  const url = new OAuth2Client(row.client_id, null, row.redirect_uri).createAuthorizationURLWithPKCE(
    discovery.authorization_endpoint,
    state,
    CodeChallengeMethod.S256,
    verifier,
    [...row.scopes],
  );
  url.searchParams.set("nonce", nonce);
  const cookie = await keepPending(ctx, state, { provider_id: row.id, nonce, verifier, return_to });
  return redirect(url.href, [cookie]);
}

/** Only if the address is known; otherwise one caller would lock out everyone. */
async function brake(ctx: Context): Promise<void> {
  const address = addressKey(ctx.caller.address);
  if (address === null || !ctx.settings.auth.rateLimits) return;
  const { allowed, retry_after_ms } = await onceFor(ctx, "oidc-login", address).attempt(
    address,
    STARTS.limit,
    STARTS.windowMs,
  );
  if (!allowed) throw tooManyRequests("too many sign-ins begin at this address", retry_after_ms / 1000);
}

/** The provider with that id or name; if none is named, the only enabled one. */
async function providerNamed(ctx: Context, name: string | undefined): Promise<Provider> {
  if (name === undefined) {
    const [only, other] = await ctx.db.select().from(oidcProviders).where(eq(oidcProviders.enabled, true)).limit(2);
    if (!only) throw new AppError(404, "no_provider", "no identity provider is enabled on this server");
    if (other) throw invalid("provider", "is required: several providers are enabled", "provider_required");
    return only;
  }
  const rows = await ctx.db
    .select()
    .from(oidcProviders)
    .where(or(eq(oidcProviders.id, name), eq(oidcProviders.name, name)))
    .limit(2);
  const row = rows.find(({ id }) => id === name) ?? rows[0];
  if (!row) throw notFound("identity provider", name);
  if (!row.enabled) throw conflict("provider_disabled", `identity provider ${JSON.stringify(name)} is disabled`);
  return row;
}

/** The query of the provider's redirect. */
export interface CallbackQuery {
  readonly code?: string | undefined;
  readonly state?: string | undefined;
  readonly iss?: string | undefined;
  readonly error?: string | undefined;
}

/**
 * Handles the provider's redirect: opens a session and sends the browser to where it wanted to go. A known failure is
 * audited and shown on the login page; it ends this browser's pending sign-in only if it belongs to that sign-in.
 * Throws 400 if the request is not a provider's answer to this browser.
 */
export async function finishSignIn(ctx: Context, query: CallbackQuery, request: Request): Promise<Reply> {
  const known: { provider_id?: string; subject?: string } = {};
  const cookie = pendingCookie(request);
  try {
    if (query.error !== undefined && (!query.state || cookie === null))
      throw new SignInFailure("pre_login_consume_failed", "an error without a sign-in of this browser");
    if (!(query.code || query.error) || !query.state)
      throw invalid("", "code and state are required: this is where a provider sends browsers to");
    if (cookie === null)
      throw invalid(
        "",
        "this browser sent no cookie of a sign-in: begin it again, on the host of the provider's redirect_uri",
        "missing_pre_login_cookie",
      );
    const pending = await takePending(ctx, query.state, cookie);
    known.provider_id = pending.provider_id;
    const provider = await enabledProvider(ctx, pending.provider_id);
    if (query.error !== undefined || !query.code) throw refusedByProvider(provider, query);
    const vouched = await vouchedFor(ctx, provider, pending, { ...query, code: query.code });
    known.subject = subjectOf(vouched.claims);
    return await signIn(ctx, provider, vouched, pending.return_to, request);
  } catch (error) {
    if (!(error instanceof SignInFailure || error instanceof ProviderError)) throw error;
    await recordFailure(ctx, error.reason, known);
    // Anyone can link to this URL, so it must not end a sign-in that it does not belong to.
    return toLoginPage(ctx, error.reason, error.message, known.provider_id === undefined ? [] : [clearedPending()]);
  }
}

function toLoginPage(ctx: Context, reason: Reason, message: string, cookies: readonly string[]): Reply {
  ctx.log.warn("oidc.login_failed", { reason, message });
  return redirect(`/login?${new URLSearchParams({ error: "oidc_failed", reason })}`, cookies);
}

/** RFC 6749 section 4.1.2.1. The provider's error text is not shown: anyone can put text into a link. */
function refusedByProvider(provider: Provider, { error = "", iss }: CallbackQuery): SignInFailure {
  if (iss !== undefined && iss !== provider.issuer_url)
    return new SignInFailure("iss_param_mismatch", "iss: names another provider");
  const reason = error === "access_denied" ? "access_denied" : "provider_error";
  return new SignInFailure(reason, `the provider answered ${error.replace(/[^\x20-\x7e]/g, "").slice(0, 60)}`);
}

async function enabledProvider(ctx: Context, id: string): Promise<Provider> {
  const [row] = await ctx.db
    .select()
    .from(oidcProviders)
    .where(and(eq(oidcProviders.id, id), eq(oidcProviders.enabled, true)));
  if (!row) throw new SignInFailure("provider_disabled", "the provider is disabled or deleted");
  return row;
}

interface Vouched {
  /** The ID token's claims, merged over those of the userinfo endpoint if it is used. */
  readonly claims: Claims;
  /** Null: the provider omitted them. */
  readonly groups: readonly string[] | null;
  /** The provider's session id, from the ID token only; empty if absent. */
  readonly sid: string;
  readonly idToken: string;
}

/** The verified claims of the person. */
async function vouchedFor(
  ctx: Context,
  provider: Provider,
  pending: Pending,
  query: CallbackQuery & { code: string },
): Promise<Vouched> {
  const discovery = await discover(ctx, provider);
  checkIssuerParameter(query.iss, discovery);
  const tokens = await exchangeCode(
    ctx,
    discovery.token_endpoint,
    discovery.token_endpoint_auth_methods_supported,
    await clientOf(ctx, provider),
    { code: query.code, verifier: pending.verifier },
  );
  const expected = {
    issuer: discovery.issuer,
    clientId: provider.client_id,
    algorithms: discovery.id_token_signing_alg_values_supported,
    nonce: pending.nonce,
    iatWindowSeconds: provider.iat_window_seconds,
    accessToken: tokens.accessToken,
    now: ctx.clock.now(),
  };
  const told = await verifiedByKeysOf(ctx, provider, (key) => verifyIdToken(tokens.idToken, key, expected));
  const known = await withUserinfo(ctx, provider, discovery, tokens, told);
  return { ...known, sid: sidOf(told), idToken: tokens.idToken };
}

/** RFC 9207 section 2.4: prevents mix-up attacks. */
function checkIssuerParameter(iss: string | undefined, discovery: Discovery): void {
  if (iss === undefined && discovery.authorization_response_iss_parameter_supported === true)
    throw new SignInFailure("iss_param_missing", "iss: the provider promises it and did not send it");
  if (iss !== undefined && iss !== discovery.issuer)
    throw new SignInFailure("iss_param_mismatch", "iss: names another provider");
}

async function clientOf(ctx: Context, provider: Provider): Promise<Client> {
  const { client_id, sealed_client_secret, redirect_uri } = provider;
  const secret =
    sealed_client_secret === ""
      ? null
      : new TextDecoder().decode(await ctx.sealer.open(sealed_client_secret, `oidc|${provider.id}`));
  return { id: client_id, secret, redirectUri: redirect_uri };
}

/** The ID token is signed, so its claims win. Groups come from userinfo if the ID token has none or omits them. */
async function withUserinfo(
  ctx: Context,
  provider: Provider,
  discovery: Discovery,
  tokens: TokenSet,
  told: Claims,
): Promise<Pick<Vouched, "claims" | "groups">> {
  const groups = groupsAt(told, provider);
  if (!provider.fetch_userinfo) return { claims: told, groups };
  const more = await fetchUserinfo(ctx, discovery.userinfo_endpoint, tokens.accessToken, subjectOf(told));
  const claims = { ...more, ...told };
  if (groups !== null && groups.length > 0) return { claims, groups };
  const others = groupsAt(more, provider);
  return { claims, groups: others === null || others.length > 0 ? others : groups };
}

async function signIn(
  ctx: Context,
  provider: Provider,
  { claims, groups, sid, idToken }: Vouched,
  returnTo: string,
  request: Request,
): Promise<Reply> {
  checkEmailDomain(claims, provider.allowed_email_domains);
  const { user, changed } = await resync(ctx, { provider, person: personOf(claims), groups });
  if (changed) await rotateCsrfOf(ctx, user);
  const cookies = await open(ctx, provider, user, sid, idToken);
  await endReplaced(ctx, request, user);
  return redirect(returnTo, [...cookies, clearedPending()]);
}

/**
 * Opens a session. Its provider session is recorded before it exists and checked again afterwards: disabling the
 * provider, deactivating the user or a logout in between has already ended the user's sessions, so this one ends too.
 */
async function open(
  ctx: Context,
  provider: Provider,
  user: ActorRef,
  sid: string,
  idToken: string,
): Promise<readonly string[]> {
  const { session_id, cookies } = await openSession(ctx, user, {
    by: "oidc",
    record: async ({ session_id, absolute_expires_at }) => {
      await ctx.sealer.register(ctx.db, ctx.clock.now());
      const hint = idToken.length <= MAX_HINT ? await ctx.sealer.seal(utf8(idToken), `id-token|${session_id}`) : null;
      const row = {
        session_id,
        provider_id: provider.id,
        user_id: user.id,
        sid,
        sealed_id_token: hint,
        expires_at: new Date(absolute_expires_at).toISOString(),
      };
      return [ctx.db.insert(oidcSessions).values(row)];
    },
  });
  const failure = await endedMeanwhile(ctx, session_id);
  if (!failure) return cookies;
  await endSession(ctx, { id: session_id, actor: user }, { reason: "sign_in_failed" }, user);
  throw failure;
}

/** Why a session just opened must end; null if it may stay. */
async function endedMeanwhile(ctx: Context, session_id: string): Promise<SignInFailure | null> {
  const [row] = await ctx.db
    .select({ enabled: oidcProviders.enabled, deactivated_at: users.deactivated_at })
    .from(oidcSessions)
    .innerJoin(oidcProviders, eq(oidcProviders.id, oidcSessions.provider_id))
    .innerJoin(users, eq(users.id, oidcSessions.user_id))
    .where(eq(oidcSessions.session_id, session_id));
  if (!row) return new SignInFailure("pre_login_consume_failed", "the session was ended while it was opened");
  if (!row.enabled) return new SignInFailure("provider_disabled", "the provider was disabled");
  return row.deactivated_at === null ? null : new SignInFailure("user_deactivated", "the user was deactivated");
}

/**
 * Writes one audit row if the provider authenticated a subject. Other failures are only counted, so that a script
 * cannot fill the log.
 */
async function recordFailure(
  ctx: Context,
  reason: Reason,
  { provider_id, subject }: { provider_id?: string; subject?: string },
): Promise<void> {
  if (provider_id === undefined || subject === undefined) return noteDenied(ctx, ctx.caller, `oidc_${reason}`);
  await runBatch(ctx.db, [
    ctx.audit("auth.oidc.login_failed", provider_id, { reason, subject, address: ctx.caller.address }),
  ]);
}

function redirect(location: string, cookies: readonly string[]): Reply {
  return { ...raw(302, null, { Location: location }), cookies };
}
