import { env } from "cloudflare:workers";
import { afterEach, describe, expect, it, vi } from "vitest";
import { authenticateSession } from "../../src/identity/sessions/authenticate.ts";
import { rotateCsrfOf } from "../../src/identity/sessions/sessions.ts";
import { Browser, context, newUser, signIn } from "../support/browser.ts";

const TEAMS = "/api/v1/teams";
const MINUTE = 60_000;
const JSON_TYPE = { "Content-Type": "application/json" };

afterEach(() => {
  vi.useRealTimers();
});

/** An administrator in a browser, and whether a team of that name came into being. */
async function administrator() {
  const user = await newUser(["r-admin"]);
  const { browser, session_id } = await signIn(user.id);
  const exists = async (name: string) =>
    (await browser.get<{ data: { name: string }[] }>(`${TEAMS}?per_page=500`)).body.data.some(
      (team) => team.name === name,
    );
  return { user, browser, session_id, exists };
}

describe("a state-changing request with a session", () => {
  it("works with the session's own token", async () => {
    const { browser, exists } = await administrator();
    expect((await browser.change("POST", TEAMS, { name: "csrf own token" })).status).toBe(201);
    expect(await exists("csrf own token")).toBe(true);
  });

  it("finds the token in each answer's header too: a page of another host cannot read the cookie", async () => {
    const { browser } = await administrator();
    const told = (await browser.get("/api/v1/auth/me")).headers.get("X-CSRF-Token") ?? "";
    expect(told).toBe(browser.csrf);
    const refused = await browser.send("POST", TEAMS, JSON_TYPE, JSON.stringify({ name: "csrf by header" }));
    expect([refused.status, refused.headers.get("X-CSRF-Token")]).toEqual([403, told]);
    const headers = { ...JSON_TYPE, "X-CSRF-Token": told };
    expect((await browser.send("POST", TEAMS, headers, JSON.stringify({ name: "csrf by header" }))).status).toBe(201);
    expect((await new Browser().get("/api/v1/auth/info")).headers.has("X-CSRF-Token")).toBe(false);
  });

  it("is refused without it: by form, by JSON, as text, without a content type, by any method", async () => {
    const { browser, exists } = await administrator();
    const body = JSON.stringify({ name: "csrf without token" });
    const sent: [string, string, Record<string, string>, string | undefined][] = [
      ["POST", TEAMS, { "Content-Type": "application/x-www-form-urlencoded" }, "name=csrf+without+token"],
      ["POST", TEAMS, { "Content-Type": "multipart/form-data; boundary=x" }, "--x--"],
      ["POST", TEAMS, { "Content-Type": "text/plain" }, body],
      ["POST", TEAMS, JSON_TYPE, body],
      ["POST", TEAMS, {}, undefined],
      ["PUT", `${TEAMS}/t-any`, JSON_TYPE, body],
      ["DELETE", `${TEAMS}/t-any`, {}, undefined],
      ["DELETE", "/api/v1/auth/sessions?except=current", {}, undefined],
      ["POST", `${TEAMS}?X-CSRF-Token=${browser.csrf}`, JSON_TYPE, body],
    ];
    for (const [method, path, headers, text] of sent) {
      const answer = await browser.send(method, path, headers, text);
      expect([method, headers, answer.status, answer.body.error]).toEqual([method, headers, 403, "csrf_failed"]);
    }
    expect(await exists("csrf without token")).toBe(false);
  });

  it("is refused with a token that is not this session's", async () => {
    const { user, browser, exists } = await administrator();
    const sibling = await signIn(user.id);
    const stranger = await signIn((await newUser(["r-admin"])).id);
    const own = browser.csrf;
    const wrong = {
      nothing: "",
      "another session of the same user": sibling.browser.csrf,
      "another user's session": stranger.browser.csrf,
      "a shortened token": own.slice(0, -1),
      "a lengthened token": `${own}A`,
      "the session cookie itself": browser.session,
      "the signature of the session cookie": browser.session.split(".")[3] ?? "",
      "two tokens": `${own}, ${own}`,
    };
    for (const [what, token] of Object.entries(wrong)) {
      const headers = { ...JSON_TYPE, "X-CSRF-Token": token };
      const answer = await browser.send("POST", TEAMS, headers, JSON.stringify({ name: "csrf wrong token" }));
      expect([what, answer.status, answer.body.error]).toEqual([what, 403, "csrf_failed"]);
    }
    // A cookie that somebody managed to set beside the header proves nothing: the token is compared to the session's.
    const planted = browser.copy().with("csrf", "A".repeat(43));
    const answer = await planted.change("POST", TEAMS, { name: "csrf wrong token" });
    expect([answer.status, answer.body.error]).toEqual([403, "csrf_failed"]);
    expect(await exists("csrf wrong token")).toBe(false);
  });

  it("is refused when the browser says that another site made it, even with the token", async () => {
    const { browser } = await administrator();
    const send = (headers: Record<string, string>) =>
      browser.send("POST", TEAMS, { ...JSON_TYPE, "X-CSRF-Token": browser.csrf, ...headers }, "{}");
    for (const headers of [
      { "Sec-Fetch-Site": "cross-site" },
      { "Sec-Fetch-Site": "same-site" },
      { Origin: "https://evil.test" },
      { Origin: "http://localhost.evil.test" },
      { Origin: "http://localhost:8080" },
      { Origin: "null" },
      { Origin: "https://evil.test", "Sec-Fetch-Site": "same-origin" },
      { Origin: "http://localhost", "Sec-Fetch-Site": "cross-site" },
    ])
      expect([headers, (await send(headers)).body.error]).toEqual([headers, "csrf_failed"]);
    // The empty body is what is wrong with these: they came in.
    for (const headers of [
      { Origin: "http://localhost", "Sec-Fetch-Site": "same-origin" },
      { Origin: "https://localhost" },
      { Origin: "http://pki.test" },
      { "Sec-Fetch-Site": "none" },
    ])
      expect([headers, (await send(headers)).status]).toEqual([headers, 400]);
  });

  it("of an origin that the configuration names needs the token as well, and works with it", async () => {
    const { user, browser } = await administrator();
    const ctx = context({ CERTCTL_CORS_ORIGINS: "https://console.example.com" });
    const request = (headers: Record<string, string>) =>
      new Request(`http://localhost${TEAMS}`, {
        method: "POST",
        headers: {
          Cookie: `__Host-certctl_session=${browser.session}`,
          "Sec-Fetch-Site": "cross-site",
          Origin: "https://console.example.com",
          ...headers,
        },
      });
    const found = await authenticateSession(ctx, request({ "X-CSRF-Token": browser.csrf }));
    expect(found?.actor.id).toBe(user.id);
    await expect(authenticateSession(ctx, request({}))).rejects.toMatchObject({ status: 403, code: "csrf_failed" });
    const sibling = request({ "X-CSRF-Token": browser.csrf, Origin: "https://console.example.com.evil.test" });
    await expect(authenticateSession(ctx, sibling)).rejects.toMatchObject({ status: 403, code: "csrf_failed" });
  });

  it("that is refused is on record as the user's own attempt, and does not keep the session alive", async () => {
    const { user, browser } = await administrator();
    const start = Date.now();
    vi.setSystemTime(start + 50 * MINUTE);
    for (const headers of [{}, { "X-CSRF-Token": browser.csrf, "Sec-Fetch-Site": "cross-site" }])
      expect((await browser.send("POST", TEAMS, { ...JSON_TYPE, ...headers }, "{}")).status).toBe(403);
    expect((await browser.send("POST", "/auth/logout")).status).toBe(403);
    const { results } = await env.DB.prepare(
      "select actor_type, resource_id, json_extract(details, '$.reason') as reason from audit_events where action = 'auth.denied' and actor = ?",
    )
      .bind(user.id)
      .all<{ resource_id: string }>();
    const attempt = { actor_type: "User", reason: "csrf_failed" };
    expect(results.sort((a, b) => a.resource_id.localeCompare(b.resource_id))).toEqual([
      { ...attempt, resource_id: "createTeam" },
      { ...attempt, resource_id: "postAuthLogout" },
    ]);
    vi.setSystemTime(start + 61 * MINUTE);
    expect((await browser.get(TEAMS)).status).toBe(401);
  });

  it("that comes in keeps the session alive", async () => {
    const { browser } = await administrator();
    const start = Date.now();
    vi.setSystemTime(start + 50 * MINUTE);
    expect((await browser.change("POST", TEAMS, { name: "csrf alive" })).status).toBe(201);
    vi.setSystemTime(start + 100 * MINUTE);
    expect((await browser.get(TEAMS)).status).toBe(200);
  });

  it("with a cookie that does not hold is a 401 and not a 403", async () => {
    const { browser } = await administrator();
    const stale = browser.copy();
    await browser.change("POST", "/auth/logout");
    expect((await stale.send("POST", TEAMS, JSON_TYPE, "{}")).status).toBe(401);
  });

  it("is not needed to read: safe methods work without a token", async () => {
    const { browser } = await administrator();
    const bare = new Browser().with("session", browser.session);
    expect((await bare.send("GET", TEAMS)).status).toBe(200);
    expect((await bare.send("HEAD", TEAMS)).status).toBe(200);
  });
});

describe("a CSRF token that was rotated", () => {
  it("is refused, and the refusal delivers the present one", async () => {
    const { user, browser } = await administrator();
    const before = browser.csrf;
    await rotateCsrfOf(context(), { id: user.id, type: "User" });
    const refused = await browser.change("POST", TEAMS, { name: "csrf rotated" });
    expect([refused.status, refused.body.error]).toEqual([403, "csrf_failed"]);
    expect(browser.csrf).not.toBe(before);
    expect((await browser.change("POST", TEAMS, { name: "csrf rotated" })).status).toBe(201);
  });

  it("is delivered with the next answer, once, with the life that the session still has", async () => {
    const { user, browser } = await administrator();
    expect((await browser.get(TEAMS)).headers.getSetCookie()).toEqual([]);
    await rotateCsrfOf(context(), { id: user.id, type: "User" });
    const [delivered, ...others] = (await browser.get(TEAMS)).headers.getSetCookie();
    expect(others).toEqual([]);
    expect(delivered).toMatch(/^__Host-certctl_csrf=[\w-]{43}; Max-Age=28[78]\d\d; Path=\/; .*; Secure; SameSite=Lax$/);
    expect((await browser.get(TEAMS)).headers.getSetCookie()).toEqual([]);
    expect((await browser.change("POST", TEAMS, { name: "csrf delivered" })).status).toBe(201);
  });

  it("is another one in each of the user's sessions, and nobody else's changes", async () => {
    const { user, browser } = await administrator();
    const sibling = await signIn(user.id);
    const stranger = await signIn((await newUser(["r-admin"])).id);
    await rotateCsrfOf(context(), { id: user.id, type: "User" });
    const old = sibling.browser.csrf;
    await Promise.all([browser, sibling.browser, stranger.browser].map((one) => one.get(TEAMS)));
    expect(sibling.browser.csrf).not.toBe(old);
    expect(sibling.browser.csrf).not.toBe(browser.csrf);
    expect((await stranger.browser.change("POST", TEAMS, { name: "csrf stranger" })).status).toBe(201);
  });

  it("comes back to a browser that lost the cookie", async () => {
    const { browser } = await administrator();
    const bare = new Browser().with("session", browser.session);
    await bare.get(TEAMS);
    expect(bare.csrf).toBe(browser.csrf);
  });
});
