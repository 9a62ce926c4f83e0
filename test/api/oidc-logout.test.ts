import { env, exports } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { backChannelLogout } from "../../src/identity/oidc/back-channel.ts";
import { endSessionUrl } from "../../src/identity/oidc/logout-url.ts";
import type { NewSession, SessionStore } from "../../src/identity/sessions/store.ts";
import { type Browser, context } from "../support/browser.ts";
import type { Token } from "../support/idp-client.ts";
import { newMapping, newProvider, signInAs, signInUnder, type TestProvider, userOf, whoIs } from "../support/oidc.ts";

const EVENT = { "http://schemas.openid.net/event/backchannel-logout": {} };
const now = () => Math.floor(Date.now() / 1000);

async function send(body: string, type = "application/x-www-form-urlencoded") {
  const response = await exports.default.fetch(
    new Request("http://localhost/auth/oidc/back-channel-logout", {
      method: "POST",
      headers: { "Content-Type": type },
      body,
    }),
  );
  const text = await response.text();
  return { status: response.status, text, headers: response.headers };
}

/** A logout token of the provider, sent as it sends it. */
async function logOut({ idp }: TestProvider, { claims, ...how }: Token) {
  const token = await idp.sign({
    header: { typ: "logout+jwt" },
    ...how,
    claims: { events: EVENT, jti: crypto.randomUUID(), ...claims },
  });
  return { token, ...(await send(`logout_token=${token}`)) };
}

async function provider(): Promise<TestProvider> {
  const made = await newProvider();
  await newMapping(made.id, "ops", "r-operator");
  return made;
}

const alive = async (...browsers: Browser[]) =>
  (await Promise.all(browsers.map(whoIs))).map((person) => person !== null);

describe("back-channel logout", () => {
  it("by sub: all of the person's sessions end with their next request, nobody else's", async () => {
    const idp = await provider();
    const [one, two, other] = [
      await signInAs(idp, "ada", ["ops"], { sid: "s1" }),
      await signInAs(idp, "ada", ["ops"]),
      await signInAs(idp, "bob", ["ops"], { sid: "s3" }),
    ].map(({ browser }) => browser) as [Browser, Browser, Browser];
    expect(await alive(one, two, other)).toEqual([true, true, true]);
    const answer = await logOut(idp, { claims: { sub: "ada" } });
    expect([answer.status, answer.headers.get("Cache-Control"), answer.text]).toEqual([200, "no-store", ""]);
    expect(await alive(one, two, other)).toEqual([false, false, true]);
    const event = await env.DB.prepare(
      "select details from audit_events where action = 'auth.oidc.back_channel_logout' and resource_id = ?",
    )
      .bind(idp.id)
      .first<{ details: string }>();
    expect(JSON.parse(event?.details ?? "")).toEqual({
      user_id: (await userOf(idp, "ada"))?.id,
      by: "sub",
      sessions: 2,
    });
  });

  it("believes a key that was replaced under its id", async () => {
    const idp = await provider();
    const { browser } = await signInAs(idp, "ada", ["ops"]);
    await idp.idp.rotate("the same id");
    expect((await logOut(idp, { claims: { sub: "ada" } })).status).toBe(200);
    expect(await alive(browser)).toEqual([false]);
  });

  it("by sid: that session of the provider ends, and with a sub what has no sid of its own", async () => {
    const idp = await provider();
    const [one, two, without] = [
      await signInAs(idp, "ada", ["ops"], { sid: "s1" }),
      await signInAs(idp, "ada", ["ops"], { sid: "s2" }),
      await signInAs(idp, "ada", ["ops"]),
    ].map(({ browser }) => browser) as [Browser, Browser, Browser];
    expect((await logOut(idp, { claims: { sid: "s1" } })).status).toBe(200);
    expect(await alive(one, two, without)).toEqual([false, true, true]);
    // The sid of one person with the sub of another is nobody's session.
    expect((await logOut(idp, { claims: { sid: "s2", sub: "bob" } })).status).toBe(200);
    expect(await alive(two, without)).toEqual([true, true]);
    expect((await logOut(idp, { claims: { sid: "s2", sub: "ada" } })).status).toBe(200);
    expect(await alive(two, without)).toEqual([false, false]);
  });

  it("a sid of another provider is not ours to end; an unknown person is no error", async () => {
    const [a, b] = [await provider(), await provider()];
    const { browser } = await signInAs(a, "ada", ["ops"], { sid: "shared" });
    expect((await logOut(b, { claims: { sid: "shared", sub: "ada" } })).status).toBe(200);
    expect((await logOut(a, { claims: { sub: "nobody" } })).status).toBe(200);
    expect(await alive(browser)).toEqual([true]);
  });

  it.each(["before", "after"])(
    "by sid, %s the session is there that is just being opened: it does not stay",
    async (when) => {
      const idp = await provider();
      const ctx = context();
      const opened: string[] = [];
      const store = (name: string) => {
        const real = ctx.bindings.SESSION.getByName(name) as unknown as SessionStore;
        return {
          open: async (session: NewSession) => {
            opened.push(session.id);
            const first = when === "after" ? await real.open(session) : null;
            expect((await logOut(idp, { claims: { sid: "s1" } })).status).toBe(200);
            return first ?? real.open(session);
          },
          find: (id: string, at: number) => real.find(id, at),
          revoke: (id: string, at: number) => real.revoke(id, at),
        };
      };
      const SESSION = { getByName: store } as unknown as DurableObjectNamespace;
      const racing = { ...ctx, bindings: { ...ctx.bindings, SESSION } };
      expect(await signInUnder(racing, idp, "ada", ["ops"], { sid: "s1" })).toBe("pre_login_consume_failed");
      const [id = ""] = opened;
      const real = ctx.bindings.SESSION.getByName(id.split("-")[1] ?? "") as unknown as SessionStore;
      expect(await real.touch(id, Date.now())).toBeNull();
    },
  );

  it("a token is used once: sent again it is a 200 that ends nothing", async () => {
    const idp = await provider();
    await signInAs(idp, "ada", ["ops"]);
    const { token, status } = await logOut(idp, { claims: { sub: "ada" } });
    const { browser } = await signInAs(idp, "ada", ["ops"]);
    expect([status, (await send(`logout_token=${token}`)).status]).toEqual([200, 200]);
    expect(await alive(browser)).toEqual([true]);
  });

  describe("a token that is not valid", () => {
    let idp: TestProvider;
    let browser: Browser;
    beforeAll(async () => {
      idp = await provider();
      browser = (await signInAs(idp, "ada", ["ops"], { sid: "s1" })).browser;
    });

    it.each<[string, Token]>([
      ["HS256 with the public key", { claims: {}, by: "hmac of the public key" }],
      ["alg none", { claims: {}, by: "nobody" }],
      ["a stranger's signature", { claims: {}, by: "a stranger" }],
      ["another typ", { claims: {}, header: { typ: "at+jwt" } }],
      ["an issuer that is no provider here", { claims: { iss: "https://stranger.test" } }],
      ["another audience", { claims: { aud: "x" } }],
      ["an issue date long ago", { claims: { iat: now() - 120 } }],
      ["an issue date of the future", { claims: { iat: now() + 240 } }],
      ["no issue date", { claims: { iat: null } }],
      ["an expiry that is over", { claims: { exp: now() - 120 } }],
      ["no events", { claims: { events: null } }],
      ["another event", { claims: { events: { "https://x.test": {} } } }],
      ["an event that is no object", { claims: { events: { [Object.keys(EVENT)[0] ?? ""]: "" } } }],
      ["a nonce, as an ID token has", { claims: { nonce: "n" } }],
      ["neither sub nor sid", { claims: { sub: null } }],
      ["no jti", { claims: { jti: null } }],
      ["a sid that is no text", { claims: { sid: 5 } }],
    ])("%s: 400, and the session lives", async (_what, { claims, ...how }) => {
      const answer = await logOut(idp, { ...how, claims: { sub: "ada", ...claims } });
      expect([answer.status, JSON.parse(answer.text).error]).toEqual([400, "invalid_logout_token"]);
      expect(await alive(browser)).toEqual([true]);
    });

    it("is counted as a refusal of its sender", async () => {
      const ctx = context();
      const claims = { events: EVENT, jti: crypto.randomUUID(), sub: "ada" };
      const forged = await idp.idp.sign({ header: { typ: "logout+jwt" }, by: "a stranger", claims });
      for (const token of [forged, "nonsense"])
        await expect(backChannelLogout(ctx, token)).rejects.toMatchObject({ code: "invalid_logout_token" });
      const counted = () =>
        env.DB.prepare("select sum(count) as count from denied_attempts where reason = ? and address = '192.0.2.7'")
          .bind("logout_token_invalid")
          .first();
      await expect.poll(counted, { timeout: 5_000 }).toEqual({ count: 2 });
    });

    it("no token, two tokens, no token at all, another content type", async () => {
      for (const body of ["", "x=1", "logout_token=", "logout_token=a&logout_token=b", "logout_token=nonsense"])
        expect((await send(body)).status, body).toBe(400);
      expect((await send("{}", "application/json")).status).toBe(415);
      expect((await send(`logout_token=${"x".repeat(70_000)}`)).status).toBe(413);
    });
  });
});

describe("RP-initiated logout", () => {
  const sessionOf = (browser: Browser) => browser.session.split(".")[1] ?? "";

  it("leads to the provider with a hint, and back to a page that a browser may see", async () => {
    const idp = await provider();
    const { browser } = await signInAs(idp, "ada", ["ops"]);
    const url = new URL((await endSessionUrl(context(), sessionOf(browser))) ?? "");
    expect(url.href.split("?")[0]).toBe(`${idp.idp.issuer}/logout`);
    expect(Object.fromEntries(url.searchParams)).toEqual({
      client_id: "certctl",
      id_token_hint: expect.stringMatching(/^[\w-]+\.[\w-]+\.[\w-]+$/),
      post_logout_redirect_uri: "https://console.test/login",
    });
    const answer = await browser.change<{ end_session_url: string }>("POST", "/auth/logout");
    expect([answer.status, answer.body.end_session_url]).toEqual([200, url.href]);
    expect(await alive(browser)).toEqual([false]);
  });

  it("is absent where the provider does not answer; the session ends all the same", async () => {
    const idp = await provider();
    const { browser } = await signInAs(idp, "ada", ["ops"]);
    await env.DB.prepare("update oidc_provider_state set discovery = null where provider_id = ?").bind(idp.id).run();
    await idp.idp.script({ misbehave: { discovery: "error" } });
    expect(await endSessionUrl(context(), sessionOf(browser))).toBeNull();
    expect((await browser.change("POST", "/auth/logout")).status).toBe(204);
    expect(await alive(browser)).toEqual([false]);
    expect(await endSessionUrl(context(), "ses-of-nobody")).toBeNull();
  });

  it("names no way back over plain http to another machine", async () => {
    const idp = await newProvider({ redirect_uri: "http://pki.test/auth/oidc/callback" });
    await newMapping(idp.id, "ops", "r-operator");
    const { browser } = await signInAs(idp, "ada", ["ops"]);
    const url = new URL((await endSessionUrl(context(), sessionOf(browser))) ?? "");
    expect([...url.searchParams.keys()]).toEqual(["client_id", "id_token_hint"]);
  });
});
