import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type RunningServer, startServer } from "../support/server.ts";
import { type Api, bootstrap, text } from "./support/api.ts";
import { CLIENT, type IdentityProvider, startIdentityProvider } from "./support/identity-provider.ts";
import { type Fault, type ScriptedProvider, startScriptedProvider } from "./support/scripted-provider.ts";
import { type Page, WebBrowser } from "./support/web.ts";

/** Sign-in against providers on loopback: panva's oidc-provider as it is, and one that does wrong on demand. */

let server: RunningServer;
let admin: Api;
const started: { close(): Promise<void> }[] = [];

beforeAll(async () => {
  server = await startServer({ vars: { OUTBOUND_ALLOW: "127.0.0.0/8" } });
  admin = await bootstrap(server.url, server.bootstrapToken);
});

afterAll(async () => {
  await server?.stop();
  for (const idp of started) await idp.close();
});

/** Registers a provider here; answers its id. */
async function register(name: string, issuer_url: string): Promise<string> {
  const body = {
    name,
    issuer_url,
    client_id: CLIENT.id,
    client_secret: CLIENT.secret,
    redirect_uri: `${server.url}/auth/oidc/callback`,
    scopes: ["openid", "profile", "email", "groups"],
  };
  return text(await admin.post("/api/v1/auth/oidc/providers", body), "id");
}

async function map(provider_id: string, group_name: string, role_id: string): Promise<string> {
  const body = { provider_id, group_name, role_id };
  return text(await admin.post("/api/v1/auth/oidc/group-mappings", body), "id");
}

const login = (browser: WebBrowser, provider: string) =>
  browser.visit(`${server.url}/auth/oidc/login?provider=${provider}&return_to=/docs/`);

/** The reason that a login page was opened with; null for another page. */
function reasonOf({ url }: Page): string | null {
  return url.pathname === "/login" && url.searchParams.get("error") === "oidc_failed"
    ? url.searchParams.get("reason")
    : null;
}

async function rolesOf(browser: WebBrowser): Promise<string[] | null> {
  const page = await browser.send(new URL(`${server.url}/api/v1/auth/me`));
  return page.status === 200 ? JSON.parse(page.text).roles : null;
}

describe("oidc-provider", () => {
  let idp: IdentityProvider;
  let provider: string;

  beforeAll(async () => {
    idp = await startIdentityProvider(server.url);
    started.push(idp);
    provider = await register("The real one", idp.issuer);
    await map(provider, "ops", "r-operator");
    await map(provider, "eyes", "r-viewer");
  });

  /** Signs a person in; answers their browser. */
  async function signIn(person: string, groups: string[]): Promise<WebBrowser> {
    idp.person = person;
    idp.groups.set(person, groups);
    const browser = new WebBrowser();
    const page = await login(browser, provider);
    expect([page.url.href, page.status]).toEqual([`${server.url}/docs/`, 200]);
    return browser;
  }

  it("signs in with the roles of the groups, and a session that may do what they allow", async () => {
    const browser = await signIn("ada", ["ops", "choir"]);
    expect(await rolesOf(browser)).toEqual(["r-operator"]);
    const host = new URL(server.url).host;
    expect(browser.cookie(host, "__Host-certctl_oidc_pending")).toBeUndefined();
    const csrf = browser.cookie(host, "__Host-certctl_csrf") ?? "";
    const create = (headers: Record<string, string>) =>
      browser.send(new URL(`${server.url}/api/v1/teams`), {
        method: "POST",
        headers: { "Content-Type": "application/json", ...headers },
        body: JSON.stringify({ name: "Team of Ada" }),
      });
    expect((await create({})).status).toBe(403);
    expect((await create({ "X-CSRF-Token": csrf })).status).toBe(201);
    expect((await browser.send(new URL(`${server.url}/api/v1/auth/roles`))).status).toBe(403);
  });

  it("changed groups take roles along and bring others, in sessions from before too", async () => {
    const before = await signIn("bob", ["ops", "eyes"]);
    expect((await rolesOf(before))?.sort()).toEqual(["r-operator", "r-viewer"]);
    await signIn("bob", ["eyes"]);
    expect(await rolesOf(before)).toEqual(["r-viewer"]);
    idp.groups.set("bob", ["choir"]);
    expect(reasonOf(await login(new WebBrowser(), provider))).toBe("unmapped_groups");
    expect(await rolesOf(before)).toEqual([]);
  });

  it("a rotated key is fetched when a token names it", async () => {
    await signIn("ada", ["ops"]);
    await idp.rotate();
    expect(await rolesOf(await signIn("ada", ["ops"]))).toEqual(["r-operator"]);
  });

  it("a code is good for one browser and one time", async () => {
    idp.person = "ada";
    const victim = new WebBrowser();
    const stopped = await victim.visit(`${server.url}/auth/oidc/login?provider=${provider}`, (next) =>
      next.href.startsWith(`${server.url}/auth/oidc/callback`),
    );
    const callback = stopped.headers.get("Location") ?? "";
    const other = new WebBrowser();
    await other.visit(
      `${server.url}/auth/oidc/login?provider=${provider}`,
      (next) => next.port !== String(server.port),
    );
    expect(reasonOf(await other.visit(callback))).toBe("state_mismatch");
    expect((await new WebBrowser().visit(callback)).status).toBe(400);
    expect(reasonOf(await victim.visit(callback))).toBe("pre_login_consume_failed");
    expect(await rolesOf(victim)).toBeNull();
  });

  it("signing out here leads to the provider, whose back-channel logout ends the other session of the same sign-in", async () => {
    const browser = await signIn("eve", ["ops"]);
    const host = new URL(server.url).host;
    const elsewhere = await signIn("eve", ["ops"]);
    // The provider still knows this browser: a second session here under one session there. It would end the first one, were
    // the first one's cookie still shown.
    const first = browser.cookie(host, "__Host-certctl_session") ?? "";
    browser.forget(host);
    expect((await login(browser, provider)).status).toBe(200);
    const asFirst = () =>
      fetch(`${server.url}/api/v1/auth/me`, { headers: { Cookie: `__Host-certctl_session=${first}` } });
    expect((await asFirst()).status).toBe(200);

    const answer = await browser.send(new URL(`${server.url}/auth/logout`), {
      method: "POST",
      headers: { "X-CSRF-Token": browser.cookie(host, "__Host-certctl_csrf") ?? "" },
    });
    expect(answer.status).toBe(200);
    expect(await rolesOf(browser)).toBeNull();
    expect((await asFirst()).status).toBe(200);

    const question = await browser.visit(JSON.parse(answer.text).end_session_url);
    const xsrf = /name="xsrf" value="([^"]+)"/.exec(question.text)?.[1] ?? "";
    const done = await browser.submit(`${idp.issuer}/session/end/confirm`, { xsrf, logout: "yes" });
    expect([done.url.href, done.status]).toEqual([`${server.url}/login`, 200]);
    expect((await asFirst()).status).toBe(401);
    // Another sign-in of the same person at the provider has another sid.
    expect(await rolesOf(elsewhere)).toEqual(["r-operator"]);
  });

  it("the login page says why and is no dead end", async () => {
    const page = await new WebBrowser().visit(`${server.url}/login?error=oidc_failed&reason=unmapped_groups`);
    expect([page.status, page.headers.get("Content-Type")]).toEqual([200, expect.stringContaining("text/html")]);
    expect(page.headers.get("Content-Security-Policy")).toContain("script-src 'self'");
    expect(page.text).toContain('src="/assets/login.js"');
    expect((await new WebBrowser().visit(`${server.url}/assets/login.js`)).text).toContain("unmapped_groups");
  });
});

describe("a provider that does wrong", () => {
  let count = 0;

  /** A new one, registered: nothing is remembered of another. */
  async function begin(): Promise<{ idp: ScriptedProvider; provider: string }> {
    const idp = await startScriptedProvider();
    started.push(idp);
    const provider = await register(`Scripted ${++count}`, idp.issuer);
    await map(provider, "ops", "r-operator");
    return { idp, provider };
  }

  const seconds = (offset: number) => Math.floor(Date.now() / 1000) + offset;

  it.each<[string, () => Record<string, unknown>, string | null]>([
    ["that is right signs in", () => ({}), null],
    ["with another nonce", () => ({ nonce: "of another sign-in" }), "nonce_mismatch"],
    ["without a nonce", () => ({ nonce: undefined }), "nonce_mismatch"],
    ["of another issuer", () => ({ iss: "http://127.0.0.1:1" }), "id_token_iss_mismatch"],
    ["that has expired", () => ({ exp: seconds(-120) }), "token_expired"],
    ["for another client", () => ({ aud: "other" }), "audience_mismatch"],
  ])("an ID token %s", async (_what, claims, reason) => {
    const { idp, provider } = await begin();
    idp.claims = claims();
    const browser = new WebBrowser();
    const page = await login(browser, provider);
    expect([reasonOf(page), (await rolesOf(browser)) !== null]).toEqual([reason, reason === null]);
    expect(page.status).toBe(200);
  });

  describe.each<Fault>(["hangs", "answers 500", "serves 100 MB"])("that %s", (fault) => {
    it.each([
      ["/.well-known/openid-configuration", "provider_unreachable"],
      ["/jwks", "jwks_unreachable"],
      ["/token", fault === "answers 500" ? "token_exchange_failed" : "provider_unreachable"],
    ] as const)("at %s: the browser ends at the login page, and the server goes on", async (endpoint, reason) => {
      const { idp, provider } = await begin();
      idp.faults = { [endpoint]: fault };
      expect(reasonOf(await login(new WebBrowser(), provider))).toBe(reason);
      expect((await admin.send("GET", "/health")).status).toBe(200);
    });
  });
});
