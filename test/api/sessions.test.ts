import { listDurableObjectIds } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { eq } from "drizzle-orm";
import { afterEach, describe, expect, it, vi } from "vitest";
import { forgetActors } from "../../src/identity/actors.ts";
import { endSessionsOf, openSession } from "../../src/identity/sessions/sessions.ts";
import { users } from "../../src/identity/table.ts";
import { newActor } from "../support/actors.ts";
import { auditCount } from "../support/api.ts";
import { Browser, context, newUser, signIn } from "../support/browser.ts";

const ME = "/api/v1/auth/me";
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

afterEach(() => {
  vi.useRealTimers();
});

describe("a session cookie", () => {
  it("names the user who signed in, with the roles of now", async () => {
    const user = await newUser(["r-viewer"]);
    const { browser } = await signIn(user.id);
    const me = await browser.get(ME);
    expect(me).toMatchObject({ status: 200, body: { actor_id: user.id, actor_type: "User", roles: ["r-viewer"] } });
    expect((await browser.get("/api/v1/certificates")).status).toBe(200);
    expect((await browser.change("POST", "/api/v1/teams", { name: "not a viewer's" })).body.error).toBe("forbidden");
  });

  it("is for this host alone, over TLS, out of the page's reach, until the absolute end; the CSRF cookie can be read", async () => {
    const user = await newUser();
    const strict = context({ CERTCTL_SESSION_SAMESITE: "Strict", CERTCTL_SESSION_ABSOLUTE_TIMEOUT: "2h" });
    for (const [ctx, sameSite, seconds] of [
      [context(), "Lax", 8 * 3600],
      [strict, "Strict", 2 * 3600],
    ] as const) {
      const { cookies, absolute_expires_at } = await openSession(ctx, { id: user.id, type: "User" });
      const expires = new Date(Math.floor(absolute_expires_at / 1000) * 1000).toUTCString();
      const [session, csrf] = cookies.map((cookie) => cookie.split("; "));
      const common = ["Path=/", `Max-Age=${seconds}`, `Expires=${expires}`, "Secure", `SameSite=${sameSite}`];
      expect(session?.[0]).toMatch(
        /^__Host-certctl_session=v1\.ses-[0-9a-f]{32}-[0-9a-v]{26}\.sk-[0-9a-v]{26}\.[\w-]{43}$/,
      );
      expect(new Set(session?.slice(1))).toEqual(new Set([...common, "HttpOnly"]));
      expect(csrf?.[0]).toMatch(/^__Host-certctl_csrf=[\w-]{43}$/);
      expect(new Set(csrf?.slice(1))).toEqual(new Set(common));
    }
  });

  it("that was changed in any segment is no credential, and asks no object", async () => {
    const { browser } = await signIn((await newUser()).id);
    const other = await signIn((await newUser()).id);
    const [version = "", session = "", key = "", mac = ""] = browser.session.split(".");
    const [, otherSession = "", , otherMac = ""] = other.browser.session.split(".");
    const changed = (text: string, at: number) =>
      text.slice(0, at) + (text[at] === "0" ? "1" : "0") + text.slice(at + 1);
    const forged = {
      "another version": ["v2", session, key, mac],
      "no version": [session, key, mac],
      "another user's session": [version, otherSession, key, mac],
      "a changed shard": [version, changed(session, 10), key, mac],
      "a changed session": [version, changed(session, session.length - 1), key, mac],
      "a key that does not exist": [version, session, changed(key, key.length - 1), mac],
      "a key of another form": [version, session, "sk-", mac],
      "another session's signature": [version, session, key, otherMac],
      "a changed signature": [version, session, key, changed(mac, 0)],
      "other bits behind the signature": [version, session, key, nextCharacter(mac)],
      "a padded signature": [version, session, key, `${mac}=`],
      "half a signature": [version, session, key, mac.slice(0, 21)],
      "no signature": [version, session, key, ""],
      "a fifth segment": [version, session, key, mac, "x"],
      "upper case": [version, session.toUpperCase(), key, mac],
      "a path for a session": [version, "../../admin", key, mac],
      "a very long session": [version, "ses-".padEnd(100_000, "0"), key, mac],
      "swapped ids": [version, key, session, mac],
    };
    const before = (await listDurableObjectIds(env.SESSION)).length;
    for (const [what, segments] of Object.entries(forged)) {
      const answer = await browser.copy().with("session", segments.join(".")).get(ME);
      expect([what, answer.status, answer.body.error]).toEqual([what, 401, "unauthorized"]);
    }
    expect((await listDurableObjectIds(env.SESSION)).length).toBe(before);
    expect((await browser.get(ME)).status).toBe(200);
  });

  it("that is there twice with two values is no credential: one of them is not ours", async () => {
    const { browser } = await signIn((await newUser()).id);
    const other = await signIn((await newUser()).id);
    const both = `__Host-certctl_session=${browser.session}; __Host-certctl_session=${other.browser.session}`;
    expect((await new Browser().get(ME, { Cookie: both })).status).toBe(401);
    const prefixed = `x__Host-certctl_session=${browser.session}`;
    expect((await new Browser().get(ME, { Cookie: prefixed })).status).toBe(401);
  });

  it("that was set before the sign-in does not become its session", async () => {
    const victim = await newUser();
    const attacker = await signIn((await newUser()).id);
    const planted = attacker.browser.copy();
    const signedIn = await openSession(context(), { id: victim.id, type: "User" });
    planted.keep(signedIn.cookies);
    expect(signedIn.session_id).not.toBe(attacker.session_id);
    expect((await planted.get(ME)).body.actor_id).toBe(victim.id);
    // What the attacker knows is still the attacker's own session and no other.
    expect((await attacker.browser.get(ME)).body.actor_id).not.toBe(victim.id);
    const again = await openSession(context(), { id: victim.id, type: "User" });
    expect(again.session_id).not.toBe(signedIn.session_id);
  });

  it("gives way to an API key that is shown beside it", async () => {
    const { browser } = await signIn((await newUser()).id);
    const { client, actorId } = await newActor([{ role_id: "r-viewer" }]);
    expect((await browser.get(ME, { Authorization: `Bearer ${client.key}` })).body.actor_id).toBe(actorId);
    expect((await browser.get(ME, { Authorization: "Bearer wrong" })).status).toBe(401);
  });
});

/** The last of 43 characters holds four bits of the signature: one with the same four decodes to the same octets. */
function nextCharacter(mac: string): string {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  return mac.slice(0, -1) + alphabet[alphabet.indexOf(mac.slice(-1)) ^ 1];
}

describe("a session ends", () => {
  it("an hour after its last request, and each request pushes that on", async () => {
    const start = Date.now();
    const { browser } = await signIn((await newUser()).id);
    for (const at of [50 * MINUTE, 100 * MINUTE, 150 * MINUTE]) {
      vi.setSystemTime(start + at);
      expect((await browser.get(ME)).status).toBe(200);
    }
    vi.setSystemTime(start + 210 * MINUTE + 1000);
    expect((await browser.get(ME)).status).toBe(401);
  });

  it("at most half a minute before its idle time and never after it, though not every request is written down", async () => {
    const start = Date.now();
    const { browser } = await signIn((await newUser()).id);
    vi.setSystemTime(start + 29_000);
    expect((await browser.get(ME)).status).toBe(200);
    vi.setSystemTime(start + HOUR + 29_000 - 30_000);
    expect((await browser.copy().get(ME)).status).toBe(200);
    vi.setSystemTime(start + HOUR + 29_000 - 30_000 + HOUR + 1000);
    expect((await browser.get(ME)).status).toBe(401);
  });

  it("eight hours after the sign-in, whatever is asked in between", async () => {
    const start = Date.now();
    const { browser } = await signIn((await newUser()).id);
    for (let at = 30 * MINUTE; at < 8 * HOUR; at += 30 * MINUTE) {
      vi.setSystemTime(start + at);
      expect((await browser.get(ME)).status).toBe(200);
    }
    vi.setSystemTime(start + 8 * HOUR - 1000);
    expect((await browser.get(ME)).status).toBe(200);
    vi.setSystemTime(start + 8 * HOUR + 1000);
    expect((await browser.get(ME)).status).toBe(401);
  });

  it("with the very next request after it was revoked, and with all requests of a logout's cookies", async () => {
    const user = await newUser();
    const { browser, session_id } = await signIn(user.id);
    const stolen = browser.copy();
    expect((await stolen.get(ME)).status).toBe(200);
    expect((await browser.change("DELETE", `/api/v1/auth/sessions/${session_id}`)).status).toBe(204);
    expect((await stolen.get(ME)).status).toBe(401);
    expect(browser.jar.size).toBe(0);

    const second = await signIn(user.id);
    const replay = second.browser.copy();
    expect((await second.browser.change("POST", "/auth/logout")).status).toBe(204);
    expect((await replay.get(ME)).status).toBe(401);
    expect((await replay.change("POST", "/api/v1/teams", { name: "replayed" })).status).toBe(401);
  });

  it("with its user's deactivation; one that a session was ended for does not come back", async () => {
    const user = await newUser();
    const ctx = context();
    const { browser } = await signIn(user.id);
    await ctx.db.update(users).set({ deactivated_at: new Date().toISOString() }).where(eq(users.id, user.id));
    forgetActors();
    expect((await browser.get(ME)).status).toBe(401);
    expect(await endSessionsOf(ctx, { id: user.id, type: "User" })).toBe(1);
    await ctx.db.update(users).set({ deactivated_at: null }).where(eq(users.id, user.id));
    forgetActors();
    expect((await browser.get(ME)).status).toBe(401);
  });

  it("for one of many who revoke it at the same moment, with one audit event", async () => {
    const { session_id, browser } = await signIn((await newUser()).id);
    const admin = await signIn((await newUser(["r-admin"])).id);
    const path = `/api/v1/auth/sessions/${session_id}`;
    const answers = await Promise.all(Array.from({ length: 8 }, () => admin.browser.copy().change("DELETE", path)));
    expect(answers.map(({ status }) => status).every((status) => status === 204 || status === 404)).toBe(true);
    expect(answers.some(({ status }) => status === 204)).toBe(true);
    expect(await auditCount("auth.session.revoke", session_id)).toBe(1);
    expect((await browser.get(ME)).status).toBe(401);
  });
});

describe("logout", () => {
  it("without a session clears what cookies there are", async () => {
    const stale = new Browser().with("session", "v1.gone").with("csrf", "gone");
    const answer = await stale.send("POST", "/auth/logout");
    expect(answer.status).toBe(204);
    expect(answer.headers.getSetCookie().map((cookie) => cookie.split("=")[0])).toEqual([
      "__Host-certctl_session",
      "__Host-certctl_csrf",
      "__Host-certctl_oidc_pending",
    ]);
    expect(stale.jar.size).toBe(0);
    expect((await new Browser().send("POST", "/auth/logout")).status).toBe(204);
  });

  it("of somebody else needs their CSRF token: another site signs nobody out", async () => {
    const { browser } = await signIn((await newUser()).id);
    const form = { "Content-Type": "application/x-www-form-urlencoded" };
    expect((await browser.send("POST", "/auth/logout", form, "a=b")).body.error).toBe("csrf_failed");
    expect((await browser.get(ME)).status).toBe(200);
  });

  it("is on record as the user's own", async () => {
    const user = await newUser();
    const { browser, session_id } = await signIn(user.id);
    await browser.change("POST", "/auth/logout");
    const { results } = await env.DB.prepare(
      "select action, actor, actor_type, details from audit_events where resource_id = ? order by seq",
    )
      .bind(session_id)
      .all<{ action: string; actor: string; actor_type: string; details: string }>();
    const own = { actor: user.id, actor_type: "User" };
    const of = { actor_id: user.id, actor_type: "User" };
    expect(results.map(({ details, ...event }) => ({ ...event, details: JSON.parse(details) }))).toEqual([
      { action: "auth.session.open", ...own, details: { ...of, address: "192.0.2.7", user_agent: "Test Browser" } },
      { action: "auth.session.revoke", ...own, details: { ...of, reason: "logout" } },
    ]);
  });
});
