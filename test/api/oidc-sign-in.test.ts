import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { forgetActors } from "../../src/identity/actors.ts";
import { onceFor } from "../../src/identity/once.ts";
import type { NewSession, SessionStore } from "../../src/identity/sessions/store.ts";
import { sha256Hex } from "../../src/platform/text.ts";
import { Browser, context } from "../support/browser.ts";
import type { Script, Token } from "../support/idp-client.ts";
import {
  begin,
  comeBack,
  newMapping,
  newProvider,
  reasonOf,
  signInAs,
  signInUnder,
  type TestProvider,
  userOf,
  whoIs,
} from "../support/oidc.ts";

const now = () => Math.floor(Date.now() / 1000);

async function audits(action: string, resourceId: string): Promise<Record<string, unknown>[]> {
  const { results } = await env.DB.prepare(
    "select actor, details from audit_events where action = ? and resource_id = ? order by timestamp",
  )
    .bind(action, resourceId)
    .all<{ actor: string; details: string }>();
  return results.map(({ actor, details }) => ({ actor, ...JSON.parse(details) }));
}

describe("the way to the provider", () => {
  it("carries state, nonce and an S256 challenge, and binds them to the browser", async () => {
    const provider = await newProvider();
    const browser = new Browser();
    const { url, state, nonce } = await begin(provider, browser);
    expect(Object.fromEntries(url.searchParams)).toEqual({
      response_type: "code",
      client_id: "certctl",
      redirect_uri: "https://console.test/auth/oidc/callback",
      scope: "openid profile",
      code_challenge_method: "S256",
      code_challenge: expect.stringMatching(/^[A-Za-z0-9_-]{43}$/),
      state: expect.stringMatching(/^[A-Za-z0-9_-]{43}$/),
      nonce: expect.stringMatching(/^[A-Za-z0-9_-]{43}$/),
    });
    expect(new Set([state, nonce, browser.jar.get("__Host-certctl_oidc_pending")]).size).toBe(3);
    const again = await browser.get(`/auth/oidc/login?provider=${provider.id}`);
    const [cookie, ...others] = again.headers.getSetCookie();
    expect(others).toEqual([]);
    expect(cookie).toMatch(
      /^__Host-certctl_oidc_pending=[A-Za-z0-9_-]{43}; Max-Age=600; Path=\/; HttpOnly; Secure; SameSite=Lax$/,
    );
  });

  it("says what is wrong with the provider asked for", async () => {
    const browser = new Browser();
    expect((await browser.get("/auth/oidc/login?provider=op-nobody")).status).toBe(404);
    const disabled = await newProvider({ enabled: false });
    const answer = await browser.get(`/auth/oidc/login?provider=${disabled.id}`);
    expect([answer.status, answer.body.error]).toEqual([409, "provider_disabled"]);
    const named = await newProvider({ name: "Staff and friends" });
    expect((await browser.get("/auth/oidc/login?provider=Staff%20and%20friends")).headers.get("Location")).toContain(
      `${named.idp.issuer}/authorize`,
    );
    const several = await browser.get("/auth/oidc/login");
    expect([several.status, several.body.error]).toEqual([400, "provider_required"]);
  });

  it("needs no provider where one alone is enabled", async () => {
    await env.DB.prepare("update oidc_providers set enabled = 0").run();
    expect((await new Browser().get("/auth/oidc/login")).status).toBe(404);
    const { idp } = await newProvider();
    expect((await new Browser().get("/auth/oidc/login")).headers.get("Location")).toContain(`${idp.issuer}/authorize`);
  });

  it("open redirect: another place than a path of ours is a 400, and nobody is sent anywhere", async () => {
    const provider = await newProvider();
    for (const place of [
      "//evil.com",
      "/\\evil.com",
      "https://evil.com",
      "javascript:alert(1)",
      "/\t/evil.com",
      "/.//x",
    ]) {
      const query = `provider=${provider.id}&return_to=${encodeURIComponent(place)}`;
      const answer = await new Browser().get(`/auth/oidc/login?${query}`);
      expect([answer.status, answer.body.error, answer.headers.get("Location")], place).toEqual([
        400,
        "return_to_invalid",
        null,
      ]);
    }
  });

  it("a provider that fails leads to the login page, not to an error in braces", async () => {
    for (const misbehave of [{ discovery: "error" }, { discovery: "huge" }, { jwks: "broken-json" }] as const) {
      const provider = await newProvider();
      await provider.idp.script({ misbehave });
      const answer = await new Browser().get(`/auth/oidc/login?provider=${provider.id}`);
      const reason = "jwks" in misbehave ? "jwks_unreachable" : "provider_unreachable";
      expect(reasonOf(answer), JSON.stringify(misbehave)).toBe(reason);
    }
  });
});

describe("the way back", () => {
  it("signs in with the roles of the groups, and leads to where the browser wanted", async () => {
    const provider = await newProvider({ client_id: "certctl", client_secret: "p%ss:w ö+rd" });
    await newMapping(provider.id, "ops", "r-operator");
    await newMapping(provider.id, "eyes", "r-viewer");
    const started = await begin(provider, new Browser(), "&return_to=%2Fdocs%2F%3Fx%3D1");
    const claims = { sub: "ada", groups: ["ops", "other"], name: "Ada", email: "ada@example.com" };
    const answer = await comeBack(provider, started, { claims });
    expect([answer.status, answer.headers.get("Location")]).toEqual([302, "/docs/?x=1"]);
    expect(answer.headers.get("Cache-Control")).toBe("no-store");
    expect([...started.browser.jar.keys()]).toEqual(["__Host-certctl_session", "__Host-certctl_csrf"]);

    const user = await userOf(provider, "ada");
    expect(await whoIs(started.browser)).toMatchObject({
      actor_id: user?.id,
      actor_type: "User",
      roles: ["r-operator"],
    });
    expect(await audits("auth.oidc.login", user?.id ?? "")).toEqual([
      { actor: user?.id, provider_id: provider.id, groups: 2, roles: ["r-operator"], removed: [] },
    ]);
    const [request] = (await provider.idp.requests()).filter(({ path }) => path === "/token");
    const form = new URLSearchParams(request?.body);
    expect(Object.fromEntries(form)).toEqual({
      grant_type: "authorization_code",
      code: expect.any(String),
      redirect_uri: "https://console.test/auth/oidc/callback",
      code_verifier: expect.stringMatching(/^[A-Za-z0-9_-]{43}$/),
    });
    // RFC 6749 section 2.3.1: form-encoded, then joined.
    expect(atob(request?.authorization?.replace("Basic ", "") ?? "")).toBe("certctl:p%25ss%3Aw+%C3%B6%2Brd");
    const challenge = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(form.get("code_verifier") ?? ""));
    expect(started.url.searchParams.get("code_challenge")).toBe(
      btoa(String.fromCharCode(...new Uint8Array(challenge)))
        .replaceAll("+", "-")
        .replaceAll("/", "_")
        .replace("=", ""),
    );
  });

  it("session fixation: a session that the browser brings along is not the one it gets", async () => {
    const provider = await newProvider();
    await newMapping(provider.id, "ops", "r-operator");
    const { browser } = await signInAs(provider, "ada", ["ops"]);
    const before = browser.session;
    const started = await begin(provider, browser);
    await comeBack(provider, started, { claims: { sub: "ada", groups: ["ops"] } });
    expect(browser.session).not.toBe(before);
    expect(await whoIs(browser)).not.toBeNull();
  });

  it("authenticates by client_secret_post where the provider has only that, and not at all as a public client", async () => {
    const posted = await newProvider({ client_secret: "s&cret" });
    await posted.idp.script({ discovery: { token_endpoint_auth_methods_supported: ["client_secret_post"] } });
    const open = await newProvider({ client_secret: null });
    for (const provider of [posted, open]) {
      await newMapping(provider.id, "ops", "r-operator");
      expect((await signInAs(provider, "ada", ["ops"])).answer.headers.get("Location")).toBe("/");
      const [request] = (await provider.idp.requests()).filter(({ path }) => path === "/token");
      const form = new URLSearchParams(request?.body);
      expect(request?.authorization).toBeNull();
      expect([form.get("client_id"), form.get("client_secret")]).toEqual([
        "certctl",
        provider === posted ? "s&cret" : null,
      ]);
    }
  });

  it("is a 400 without code, state or cookie", async () => {
    const provider = await newProvider();
    const started = await begin(provider);
    for (const query of [{ code: null }, { state: null }]) {
      const answer = await comeBack(provider, started, { claims: { sub: "ada" } }, query);
      expect(answer.status, JSON.stringify(query)).toBe(400);
    }
    const bare = await comeBack(provider, { ...started, browser: new Browser() }, { claims: { sub: "ada" } });
    expect([bare.status, bare.body.error]).toEqual([400, "missing_pre_login_cookie"]);
  });

  it("a provider that says no leads to the login page", async () => {
    const provider = await newProvider();
    const one = await begin(provider);
    const denied = await one.browser.get(`/auth/oidc/callback?error=access_denied&state=${one.state}`);
    expect(reasonOf(denied)).toBe("access_denied");
    expect(one.browser.jar.size).toBe(0);
    const two = await begin(provider);
    const other = await two.browser.get(
      `/auth/oidc/callback?error=%3Cscript%3E&error_description=x&state=${two.state}`,
    );
    expect(reasonOf(other)).toBe("provider_error");
    expect(other.headers.get("Location")).not.toContain("script");
    const three = await begin(provider);
    const iss = encodeURIComponent("https://stranger.test");
    const mixed = await three.browser.get(`/auth/oidc/callback?error=access_denied&state=${three.state}&iss=${iss}`);
    expect(reasonOf(mixed)).toBe("iss_param_mismatch");
  });

  it("no link that somebody else made ends a sign-in that has begun", async () => {
    const provider = await newProvider();
    await newMapping(provider.id, "ops", "r-operator");
    const started = await begin(provider);
    const theirs = await begin(provider);
    for (const query of [
      "error=access_denied",
      "error=access_denied&state=made-up",
      `error=access_denied&state=${theirs.state}`,
      "code=x&state=made-up",
    ]) {
      const answer = await started.browser.get(`/auth/oidc/callback?${query}`);
      expect([query, answer.headers.get("Location")]).toEqual([query, expect.stringContaining("/login?error=")]);
      expect([query, answer.headers.getSetCookie()]).toEqual([query, []]);
    }
    const broken = await newProvider();
    await broken.idp.script({ misbehave: { discovery: "error" } });
    await started.browser.get(`/auth/oidc/login?provider=${broken.id}`);
    const answer = await comeBack(provider, started, { claims: { sub: "ada", groups: ["ops"] } });
    expect(answer.headers.get("Location")).toBe("/");
  });

  it("ends the session that this browser held, whoever's it was, and no other", async () => {
    const provider = await newProvider();
    await newMapping(provider.id, "ops", "r-operator");
    const { browser } = await signInAs(provider, "ada", ["ops"]);
    const elsewhere = await signInAs(provider, "ada", ["ops"]);
    const [, before = ""] = browser.session.split(".");
    const old = browser.copy();
    await comeBack(provider, await begin(provider, browser), { claims: { sub: "bob", groups: ["ops"] } });
    expect(await whoIs(old)).toBeNull();
    expect(await whoIs(elsewhere.browser)).not.toBeNull();
    const [ada, bob] = [await userOf(provider, "ada"), await userOf(provider, "bob")];
    expect(await whoIs(browser)).toMatchObject({ actor_id: bob?.id });
    expect(await audits("auth.session.revoke", before)).toEqual([
      { actor: bob?.id, actor_id: ada?.id, actor_type: "User", reason: "replaced" },
    ]);
  });

  it("is on record with the address and the session that it opened", async () => {
    const provider = await newProvider();
    await newMapping(provider.id, "ops", "r-operator");
    const { browser } = await signInAs(provider, "ada", ["ops"]);
    const user = await userOf(provider, "ada");
    expect(await audits("auth.session.open", browser.session.split(".")[1] ?? "")).toEqual([
      { actor: user?.id, actor_id: user?.id, actor_type: "User", address: "local", user_agent: "", by: "oidc" },
    ]);
  });
});

describe("what is replayed or somebody else's", () => {
  let provider: TestProvider;
  const claims = { sub: "ada", groups: ["ops"] };
  beforeAll(async () => {
    provider = await newProvider();
    await newMapping(provider.id, "ops", "r-operator");
  });

  it("a replayed state is refused, whoever sends it", async () => {
    const started = await begin(provider);
    const before = started.browser.copy();
    expect((await comeBack(provider, started, { claims })).headers.get("Location")).toBe("/");
    expect(reasonOf(await comeBack(provider, { ...started, browser: before }, { claims }))).toBe(
      "pre_login_consume_failed",
    );
  });

  it("of two callbacks with one state that race, one signs in", async () => {
    const started = await begin(provider);
    const answers = await Promise.all(
      [started.browser.copy(), started.browser.copy()].map((browser) =>
        comeBack(provider, { ...started, browser }, { claims }),
      ),
    );
    expect(answers.map(reasonOf).sort()).toEqual(["pre_login_consume_failed", null].sort());
  });

  it("a state of another browser is refused and used up", async () => {
    const mine = await begin(provider);
    const theirs = await begin(provider);
    const swapped = await comeBack(provider, { ...theirs, browser: mine.browser.copy() }, { claims });
    expect(reasonOf(swapped)).toBe("state_mismatch");
    expect(reasonOf(await comeBack(provider, theirs, { claims }))).toBe("pre_login_consume_failed");
    expect((await comeBack(provider, mine, { claims })).headers.get("Location")).toBe("/");
  });

  it("a replayed nonce: an ID token of an earlier sign-in is refused", async () => {
    const first = await begin(provider);
    await comeBack(provider, first, { claims });
    const second = await begin(provider);
    expect(reasonOf(await comeBack(provider, second, { claims: { ...claims, nonce: first.nonce } }))).toBe(
      "nonce_mismatch",
    );
  });

  it("a state that is older than ten minutes is refused", async () => {
    const { browser } = await begin(provider);
    const cookie_hash = await sha256Hex(browser.jar.get("__Host-certctl_oidc_pending") ?? "");
    const started_at = new Date(Date.now() - 601_000).toISOString();
    const pending = { provider_id: provider.id, nonce: "n", verifier: "v", return_to: "/", cookie_hash, started_at };
    await onceFor(context(), "oidc-state", "old").put("old", JSON.stringify(pending), 60_000);
    expect(reasonOf(await browser.get("/auth/oidc/callback?code=x&state=old"))).toBe("pre_login_consume_failed");
  });

  it("a provider that is disabled between the two ways is refused", async () => {
    const other = await newProvider();
    const started = await begin(other);
    await env.DB.prepare("update oidc_providers set enabled = 0 where id = ?").bind(other.id).run();
    expect(reasonOf(await comeBack(other, started, { claims }))).toBe("provider_disabled");
  });
});

describe("a provider that is disabled while somebody signs in", () => {
  it("leaves no session of theirs behind", async () => {
    const provider = await newProvider();
    await newMapping(provider.id, "ops", "r-operator");
    const ctx = context();
    const opened: string[] = [];
    const store = (name: string) => {
      const real = ctx.bindings.SESSION.getByName(name) as unknown as SessionStore;
      return {
        open: async (session: NewSession) => {
          await env.DB.prepare("update oidc_providers set enabled = 0 where id = ?").bind(provider.id).run();
          opened.push(session.id);
          return real.open(session);
        },
        find: (id: string, at: number) => real.find(id, at),
        revoke: (id: string, at: number) => real.revoke(id, at),
      };
    };
    const SESSION = { getByName: store } as unknown as DurableObjectNamespace;
    const racing = { ...ctx, bindings: { ...ctx.bindings, SESSION } };
    expect(await signInUnder(racing, provider, "ada", ["ops"])).toBe("provider_disabled");
    const [id = ""] = opened;
    const real = ctx.bindings.SESSION.getByName(id.split("-")[1] ?? "") as unknown as SessionStore;
    expect(await real.touch(id, Date.now())).toBeNull();
  });
});

describe("what the provider answers", () => {
  const claims = { sub: "ada", groups: ["ops"] };
  type Case = [
    what: string,
    token: Partial<Token> & { answer?: object },
    query: object,
    script: Script,
    reason: string,
  ];
  const stranger = "https://stranger.test";

  it.each<Case>([
    [
      "an algorithm confusion: HS256 keyed with the public key",
      { by: "hmac of the public key" },
      {},
      {},
      "alg_rejected",
    ],
    ["no signature at all (alg none)", { by: "nobody" }, {}, {}, "alg_rejected"],
    ["a stranger's signature", { by: "a stranger" }, {}, {}, "signature_invalid"],
    ["an unknown key", { header: { kid: "unknown" } }, {}, {}, "signature_invalid"],
    ["another issuer", { claims: { iss: stranger } }, {}, {}, "id_token_iss_mismatch"],
    ["another audience", { claims: { aud: "x" } }, {}, {}, "audience_mismatch"],
    ["several audiences without azp", { claims: { aud: ["certctl", "x"] } }, {}, {}, "azp_mismatch"],
    ["another azp", { claims: { azp: "x" } }, {}, {}, "azp_mismatch"],
    ["another nonce", { claims: { nonce: "x" } }, {}, {}, "nonce_mismatch"],
    ["no nonce", { claims: { nonce: null } }, {}, {}, "nonce_mismatch"],
    ["an expired token", { claims: { exp: now() - 120 } }, {}, {}, "token_expired"],
    ["an old token", { claims: { iat: now() - 400 } }, {}, {}, "iat_window"],
    ["a token of the future", { claims: { iat: now() + 120 } }, {}, {}, "iat_window"],
    ["another access token's hash", { claims: { at_hash: "x" } }, {}, {}, "at_hash_mismatch"],
    ["no subject", { claims: { sub: null } }, {}, {}, "id_token_invalid"],
    ["no ID token", { answer: { id_token: null } }, {}, {}, "token_exchange_failed"],
    ["a token that is no bearer token", { answer: { token_type: "DPoP" } }, {}, {}, "token_exchange_failed"],
    ["another issuer in the address", {}, { iss: stranger }, {}, "iss_param_mismatch"],
    ["no issuer in the address although it promises one", {}, { iss: null }, {}, "iss_param_missing"],
    ["that the code is unknown", {}, { code: "made-up" }, {}, "token_exchange_failed"],
    ["500", {}, {}, { misbehave: { token: "error" } }, "token_exchange_failed"],
    ["what is not JSON", {}, {}, { misbehave: { token: "broken-json" } }, "token_exchange_failed"],
    ["JSON that is no object", {}, {}, { misbehave: { token: "not-an-object" } }, "token_exchange_failed"],
    ["100 MB", {}, {}, { misbehave: { token: "huge" } }, "provider_unreachable"],
    ["a redirect", {}, {}, { misbehave: { token: "redirect" } }, "provider_unreachable"],
    ["groups that cannot be read", { claims: { groups: [1] } }, {}, {}, "groups_invalid"],
    ["no groups", { claims: { groups: null } }, {}, {}, "groups_missing"],
    ["groups that nobody mapped", { claims: { groups: ["x"] } }, {}, {}, "unmapped_groups"],
  ])("%s: refused by name, without a user or a session", async (_what, token, query, script, reason) => {
    const provider = await newProvider();
    await newMapping(provider.id, "ops", "r-operator");
    const started = await begin(provider);
    await provider.idp.script(script);
    const answer = await comeBack(
      provider,
      started,
      { ...token, claims: { ...claims, ...token.claims } } as Token,
      query as Record<string, string | null>,
    );
    expect(reasonOf(answer)).toBe(reason);
    expect([...started.browser.jar.keys()]).toEqual([]);
    expect(await userOf(provider, "ada")).toBeNull();
  });

  it("no issuer in the address is fine where the provider promises none", async () => {
    const provider = await newProvider();
    await newMapping(provider.id, "ops", "r-operator");
    await provider.idp.script({ discovery: { authorization_response_iss_parameter_supported: false } });
    const started = await begin(provider);
    expect((await comeBack(provider, started, { claims }, { iss: null })).headers.get("Location")).toBe("/");
  });

  it("a rejected signature counts in the provider's status, once each", async () => {
    const provider = await newProvider();
    for (const token of [{ by: "a stranger" }, { by: "nobody" }, { header: { kid: "unknown" } }] as const)
      await comeBack(provider, await begin(provider), { claims, ...token });
    const row = await env.DB.prepare("select rejected_jws_count as n from oidc_provider_state where provider_id = ?")
      .bind(provider.id)
      .first<{ n: number }>();
    expect(row?.n).toBe(3);
  });

  it("a rotated key is fetched and signs in", async () => {
    const provider = await newProvider();
    await newMapping(provider.id, "ops", "r-operator");
    await signInAs(provider, "ada", ["ops"]);
    await provider.idp.rotate();
    expect((await signInAs(provider, "ada", ["ops"])).answer.headers.get("Location")).toBe("/");
  });

  it("a key that was replaced under its id is fetched and signs in; strangers' signatures fetch once in half a minute", async () => {
    const provider = await newProvider();
    await newMapping(provider.id, "ops", "r-operator");
    const strangers = async () =>
      reasonOf(await comeBack(provider, await begin(provider), { claims, by: "a stranger" }));
    const rejected = () =>
      env.DB.prepare("select rejected_jws_count as n from oidc_provider_state where provider_id = ?")
        .bind(provider.id)
        .first<number>("n");
    await signInAs(provider, "ada", ["ops"]);
    await provider.idp.rotate("the same id");
    expect((await signInAs(provider, "ada", ["ops"])).answer.headers.get("Location")).toBe("/");
    expect([await provider.idp.asked("/jwks"), await rejected()]).toEqual([2, 0]);
    for (let i = 0; i < 3; i++) expect(await strangers()).toBe("signature_invalid");
    expect([await provider.idp.asked("/jwks"), await rejected()]).toEqual([2, 3]);
    // Whatever ails the provider, a signature that does not hold is told as that.
    await env.DB.prepare("update oidc_provider_state set attempted_at = null where provider_id = ?")
      .bind(provider.id)
      .run();
    await provider.idp.script({ misbehave: { jwks: "error" } });
    expect(await strangers()).toBe("signature_invalid");
    expect([await provider.idp.asked("/jwks"), await rejected()]).toEqual([3, 4]);
  });

  it("email domains: each verdict by name, for a person who is known by then and on record", async () => {
    const provider = await newProvider({ allowed_email_domains: ["example.com"] });
    await newMapping(provider.id, "ops", "r-operator");
    const verdict = async (more: object) => reasonOf((await signInAs(provider, "ada", ["ops"], { ...more })).answer);
    expect(await verdict({})).toBe("email_missing_but_required");
    expect(await verdict({ email: "ada@evil.org" })).toBe("email_domain_not_allowed");
    expect(await verdict({ email: "ada@example.com", email_verified: false })).toBe("email_not_verified");
    expect(await verdict({ email: "ada@EXAMPLE.com", email_verified: true })).toBeNull();
    expect(
      (await audits("auth.oidc.login_failed", provider.id)).map(({ reason, subject }) => [reason, subject]),
    ).toEqual([
      ["email_missing_but_required", "ada"],
      ["email_domain_not_allowed", "ada"],
      ["email_not_verified", "ada"],
    ]);
  });

  it("userinfo: brings groups for the same subject, and fails for another", async () => {
    const provider = await newProvider({ fetch_userinfo: true, groups_claim_path: "realm.groups" });
    await newMapping(provider.id, "ops", "r-operator");
    await provider.idp.script({ userinfo: { sub: "ada", realm: { groups: "ops" }, name: "Ada of userinfo" } });
    const { browser, answer } = await signInAs(provider, "ada", []);
    expect(answer.headers.get("Location")).toBe("/");
    expect((await whoIs(browser))?.roles).toEqual(["r-operator"]);
    const asked = (await provider.idp.requests()).find(({ path }) => path === "/userinfo");
    expect(asked?.authorization).toBe("Bearer an-access-token");
    expect(reasonOf((await signInAs(provider, "eve", [])).answer)).toBe("userinfo_failed");
    await provider.idp.script({ misbehave: { userinfo: "error" } });
    expect(reasonOf((await signInAs(provider, "ada", [])).answer)).toBe("userinfo_failed");
  });
});

describe("groups and roles", () => {
  it("changed groups take their roles along and bring new ones; grants by hand stay", async () => {
    const provider = await newProvider();
    await newMapping(provider.id, "ops", "r-operator");
    await newMapping(provider.id, "eyes", "r-viewer");
    const { browser } = await signInAs(provider, "ada", ["ops", "eyes"]);
    const user = (await userOf(provider, "ada"))?.id ?? "";
    await env.DB.prepare(
      `insert into actor_roles (id, actor_id, actor_type, role_id, scope_type, scope_id, mapping_id, granted_by, created_at)
        values ('ar-by-hand', ?, 'User', 'r-auditor', 'global', '', '', 'root', '2026-01-01T00:00:00.000Z')`,
    )
      .bind(user)
      .run();
    forgetActors();
    expect(new Set((await whoIs(browser))?.roles)).toEqual(new Set(["r-operator", "r-viewer", "r-auditor"]));
    const csrf = browser.csrf;
    await signInAs(provider, "ada", ["eyes"]);
    // The session from before has the rights of now, and another CSRF token.
    expect(new Set((await whoIs(browser))?.roles)).toEqual(new Set(["r-viewer", "r-auditor"]));
    expect(browser.csrf).not.toBe(csrf);
    expect((await signInAs(provider, "ada", [])).answer.headers.get("Location")).toBe("/");
    expect((await whoIs(browser))?.roles).toEqual(["r-auditor"]);
    expect((await audits("auth.oidc.login", user)).map(({ removed }) => removed)).toEqual([
      [],
      ["r-operator"],
      ["r-viewer"],
    ]);
  });

  it("who has no role left is refused, and the roles of the groups that are gone are gone", async () => {
    const provider = await newProvider();
    await newMapping(provider.id, "ops", "r-operator");
    const { browser } = await signInAs(provider, "ada", ["ops"]);
    expect(reasonOf((await signInAs(provider, "ada", ["other"])).answer)).toBe("unmapped_groups");
    expect((await whoIs(browser))?.roles).toEqual([]);
    expect((await browser.get("/api/v1/teams")).status).toBe(403);
    const user = (await userOf(provider, "ada"))?.id ?? "";
    expect(await audits("auth.oidc.roles_removed", user)).toEqual([
      { actor: user, provider_id: provider.id, groups: 1, removed: ["r-operator"] },
    ]);
  });

  it("groups that the provider leaves out, as Entra ID does for many, keep what the last ones gave", async () => {
    const provider = await newProvider();
    await newMapping(provider.id, "ops", "r-operator");
    const { browser } = await signInAs(provider, "ada", ["ops"]);
    const user = (await userOf(provider, "ada"))?.id ?? "";
    const leftOut = { sub: "ada", groups: null, _claim_names: { groups: "src1" } };
    const again = async (claims: object) =>
      comeBack(provider, await begin(provider), { claims: { ...leftOut, ...claims } });
    expect((await again({})).headers.get("Location")).toBe("/");
    expect((await whoIs(browser))?.roles).toEqual(["r-operator"]);
    expect((await audits("auth.oidc.login", user)).at(-1)).toMatchObject({
      groups_overage: true,
      roles: ["r-operator"],
      removed: [],
    });
    // Whoever has nothing yet is told why, and groups that are told count again.
    expect(reasonOf(await again({ sub: "bob" }))).toBe("groups_overage");
    expect(await userOf(provider, "bob")).toBeNull();
    expect(reasonOf((await signInAs(provider, "ada", ["other"])).answer)).toBe("unmapped_groups");
    expect((await whoIs(browser))?.roles).toEqual([]);
  });

  it("groups that the ID token leaves out may come by userinfo", async () => {
    const provider = await newProvider({ fetch_userinfo: true });
    await newMapping(provider.id, "ops", "r-operator");
    const claims = { sub: "ada", groups: null, hasgroups: true };
    const signIn = async (userinfo: object) => {
      await provider.idp.script({ userinfo: { sub: "ada", ...userinfo } });
      return reasonOf(await comeBack(provider, await begin(provider), { claims }));
    };
    expect(await signIn({})).toBe("groups_overage");
    expect(await signIn({ groups: ["ops"] })).toBeNull();
    expect(await signIn({})).toBeNull();
  });

  it("an object of roles gives its names by json-path", async () => {
    const groups_claim_path = "urn:zitadel:iam:org:project:roles";
    const provider = await newProvider({ groups_claim_path, groups_claim_format: "json-path" });
    await newMapping(provider.id, "admin", "r-operator");
    const claims = { [groups_claim_path]: { admin: { "2931": "example.com" } } };
    const { browser } = await signInAs(provider, "ada", [], claims);
    expect((await whoIs(browser))?.roles).toEqual(["r-operator"]);
  });

  it("a removed mapping takes its role along at the next sign-in", async () => {
    const provider = await newProvider();
    const mapping = await newMapping(provider.id, "ops", "r-operator");
    await newMapping(provider.id, "ops", "r-viewer");
    const { browser } = await signInAs(provider, "ada", ["ops"]);
    expect((await whoIs(browser))?.roles).toHaveLength(2);
    await env.DB.prepare("delete from oidc_group_mappings where id = ?").bind(mapping).run();
    await signInAs(provider, "ada", ["ops"]);
    expect((await whoIs(browser))?.roles).toEqual(["r-viewer"]);
  });

  it("a first sign-in that races itself makes one user", async () => {
    const provider = await newProvider();
    await newMapping(provider.id, "ops", "r-operator");
    const both = await Promise.all([1, 2, 3].map(() => signInAs(provider, "ada", ["ops"])));
    expect(both.map(({ answer }) => answer.headers.get("Location"))).toEqual(["/", "/", "/"]);
    const people = await Promise.all(both.map(({ browser }) => whoIs(browser)));
    expect(new Set(people.map((one) => one?.actor_id)).size).toBe(1);
    expect(people.map((one) => one?.roles)).toEqual([["r-operator"], ["r-operator"], ["r-operator"]]);
  });

  it("two providers with one subject are two users", async () => {
    const [a, b] = [await newProvider(), await newProvider()];
    for (const one of [a, b]) await newMapping(one.id, "ops", "r-operator");
    const ids = [];
    for (const one of [a, b]) ids.push((await whoIs((await signInAs(one, "ada", ["ops"])).browser))?.actor_id);
    expect(new Set(ids).size).toBe(2);
  });

  it("a deactivated user is refused, by a row that is not touched", async () => {
    const provider = await newProvider();
    await newMapping(provider.id, "ops", "r-operator");
    await signInAs(provider, "ada", ["ops"], { name: "Ada" });
    await env.DB.prepare("update users set deactivated_at = ? where oidc_provider_id = ?")
      .bind(new Date().toISOString(), provider.id)
      .run();
    expect(reasonOf((await signInAs(provider, "ada", ["ops"], { name: "Eve" })).answer)).toBe("user_deactivated");
    const row = await env.DB.prepare("select display_name, deactivated_at from users where oidc_provider_id = ?")
      .bind(provider.id)
      .first();
    expect(row).toEqual({ display_name: "Ada", deactivated_at: expect.any(String) });
  });
});
