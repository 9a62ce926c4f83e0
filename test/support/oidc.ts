import { env } from "cloudflare:workers";
import { finishSignIn, startSignIn } from "../../src/identity/oidc/sign-in.ts";
import { oidcGroupMappings, oidcProviders } from "../../src/identity/table.ts";
import type { Context } from "../../src/platform/context.ts";
import { randomId } from "../../src/platform/ids.ts";
import { utf8 } from "../../src/platform/text.ts";
import type { Answer } from "./api.ts";
import { Browser, context } from "./browser.ts";
import { type Script, type Token, testIdp } from "./idp-client.ts";
import { providerRow } from "./provider-row.ts";

export const REDIRECT_URI = "https://console.test/auth/oidc/callback";

/** A provider here, written straight into the database, and its other side. */
export interface TestProvider {
  readonly id: string;
  readonly idp: ReturnType<typeof testIdp>;
}

type Row = typeof oidcProviders.$inferSelect;

/** A provider with a secret (`client_secret` of null: a public client). */
export async function newProvider(
  over: Partial<Row> & { client_secret?: string | null } = {},
  idp = testIdp(),
): Promise<TestProvider> {
  const ctx = context();
  const now = ctx.clock.now().toISOString();
  const id = randomId(ctx.random, "op-");
  const { client_secret = "s3cret", ...row } = over;
  const sealed_client_secret = client_secret === null ? "" : await ctx.sealer.seal(utf8(client_secret), `oidc|${id}`);
  const own = {
    issuer_url: idp.issuer,
    sealed_client_secret,
    redirect_uri: REDIRECT_URI,
    scopes: ["openid", "profile"],
  };
  await ctx.db.insert(oidcProviders).values(providerRow(id, now, { ...own, ...row }));
  return { id, idp };
}

/** Group to role; answers the mapping's id. */
export async function newMapping(provider_id: string, group_name: string, role_id: string): Promise<string> {
  const ctx = context();
  const id = randomId(ctx.random, "grm-");
  await ctx.db.insert(oidcGroupMappings).values({
    id,
    tenant_id: "t-default",
    provider_id,
    group_name,
    role_id,
    scope_type: "global",
    scope_id: "",
    created_by: "test",
    created_at: ctx.clock.now().toISOString(),
  });
  return id;
}

export interface Started {
  readonly browser: Browser;
  readonly url: URL;
  readonly state: string;
  readonly nonce: string;
}

/** A browser that was sent to the provider. */
export async function begin(provider: TestProvider, browser = new Browser(), more = ""): Promise<Started> {
  const { status, headers, body } = await browser.get(`/auth/oidc/login?provider=${provider.id}${more}`);
  if (status !== 302) throw new Error(`login: ${status} ${JSON.stringify(body)}`);
  const url = new URL(headers.get("Location") ?? "");
  if (!url.href.startsWith(`${provider.idp.issuer}/authorize?`)) throw new Error(`login: sent to ${url.href}`);
  return {
    browser,
    url,
    state: url.searchParams.get("state") ?? "",
    nonce: url.searchParams.get("nonce") ?? "",
  };
}

/** The way back, with an ID token of these claims; `query` replaces parameters (null leaves one out). */
export async function comeBack(
  { idp }: TestProvider,
  { browser, state, nonce }: Started,
  token: Token & { readonly answer?: Readonly<Record<string, unknown>> },
  query: Readonly<Record<string, string | null>> = {},
): Promise<Answer<{ error?: string; message?: string }>> {
  const code = crypto.randomUUID();
  await idp.script({ codes: { [code]: { ...token, claims: { nonce, ...token.claims } } } } satisfies Script);
  const parameters = Object.entries({ code, state, iss: idp.issuer, ...query }).flatMap(([name, value]) =>
    value === null ? [] : [[name, value] as [string, string]],
  );
  return browser.get(`/auth/oidc/callback?${new URLSearchParams(parameters)}`);
}

/** A whole sign-in of somebody with these groups. */
export async function signInAs(
  provider: TestProvider,
  sub: string,
  groups: readonly string[],
  claims: Readonly<Record<string, unknown>> = {},
) {
  const started = await begin(provider);
  const answer = await comeBack(provider, started, { claims: { sub, groups, ...claims } });
  return { ...started, answer };
}

/** The reason with which an answer leads to the login page; null for any other answer. */
export function reasonOf({ status, headers }: Pick<Answer, "status" | "headers">): string | null {
  const url = new URL(headers.get("Location") ?? "", "http://localhost");
  if (status !== 302 || url.pathname !== "/login" || url.searchParams.get("error") !== "oidc_failed") return null;
  return url.searchParams.get("reason");
}

/** A sign-in in a context of its own; answers the reason it failed with, or where it leads. */
export async function signInUnder(
  ctx: Context,
  provider: TestProvider,
  sub: string,
  groups: string[],
  more: Readonly<Record<string, unknown>> = {},
): Promise<string> {
  const start = await startSignIn(ctx, provider.id, "/");
  const { searchParams } = new URL(start.headers?.Location ?? "");
  const code = crypto.randomUUID();
  const claims = { sub, groups, nonce: searchParams.get("nonce"), ...more };
  await provider.idp.script({ codes: { [code]: { claims } } });
  const browser = new Browser().keep(start.cookies ?? []);
  const query = { code, state: searchParams.get("state") ?? "", iss: provider.idp.issuer };
  const reply = await finishSignIn(ctx, query, browser.request("/auth/oidc/callback"));
  const answer = { status: reply.status, headers: new Headers(reply.headers) };
  return reasonOf(answer) ?? answer.headers.get("Location") ?? "";
}

/** A user's row by its subject; null when there is none. */
export async function userOf(provider: TestProvider, sub: string): Promise<{ id: string } | null> {
  return env.DB.prepare("select id from users where oidc_provider_id = ? and oidc_subject = ?")
    .bind(provider.id, sub)
    .first<{ id: string }>();
}

/** Who a browser is to the API: null when nobody. */
export async function whoIs(browser: Browser): Promise<{ actor_id: string; roles: string[] } | null> {
  const { status, body } = await browser.get<{ actor_id: string; roles: string[] }>("/api/v1/auth/me");
  return status === 200 ? body : null;
}
