import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { endSession, endSessionsOf, openSession, pruneSignIns } from "../../src/identity/sessions/sessions.ts";
import { shardOf } from "../../src/identity/sessions/store.ts";
import { oidcSessions } from "../../src/identity/table.ts";
import { newActor, roleWith } from "../support/actors.ts";
import { auditCount } from "../support/api.ts";
import { type Browser, context, newUser, signIn } from "../support/browser.ts";

const SESSIONS = "/api/v1/auth/sessions";
const ME = "/api/v1/auth/me";

interface AuthSession {
  readonly id: string;
  readonly [field: string]: unknown;
}

type List = { sessions: AuthSession[] };

const idsOf = async (browser: Browser, query = "") =>
  (await browser.get<List>(`${SESSIONS}${query}`)).body.sessions.map(({ id }) => id);

/** A well-formed id that is nobody's. */
const ABSENT = `ses-${"0".repeat(32)}-${"0".repeat(26)}`;

let admin: Browser;

beforeAll(async () => {
  admin = (await signIn((await newUser(["r-admin"])).id)).browser;
});

describe("the list of sessions", () => {
  it("shows a person's own, the newest first, without a right", async () => {
    const user = await newUser();
    const first = await signIn(user.id);
    const second = await signIn(user.id);
    const list = await first.browser.get<List>(SESSIONS);
    expect(list.status).toBe(200);
    expect(list.body.sessions.map(({ id }) => id)).toEqual([second.session_id, first.session_id]);
    const [shown] = list.body.sessions;
    expect(shown).toMatchObject({
      actor_id: user.id,
      actor_type: "User",
      ip_address: "192.0.2.7",
      user_agent: "Test Browser",
      revoked: false,
    });
    const at = (field: string) => Date.parse(String(shown?.[field]));
    expect(at("idle_expires_at") - at("last_seen_at")).toBe(3_600_000);
    expect(at("absolute_expires_at") - at("created_at")).toBe(8 * 3_600_000);
    expect(await idsOf(first.browser, `?actor_id=${user.id}`)).toEqual(await idsOf(first.browser));
  });

  it("tells nothing that opens a session", async () => {
    const { browser } = await signIn((await newUser()).id);
    const text = JSON.stringify((await browser.get(SESSIONS)).body);
    expect(text).not.toContain(browser.csrf);
    expect(text).not.toContain(browser.session.split(".")[3]);
  });

  it("of somebody else needs auth.session.list.all, everywhere", async () => {
    const user = await newUser();
    const { session_id } = await signIn(user.id);
    const query = `?actor_id=${user.id}`;
    const lister = await signIn((await newUser([await roleWith(["auth.session.list"])])).id);
    const scoped = { permission: "auth.session.list.all", scope_type: "profile", scope_id: "prof-x" } as const;
    const narrow = await signIn((await newUser([await roleWith([scoped])])).id);
    for (const one of [lister, narrow, await signIn((await newUser(["r-operator"])).id)]) {
      expect((await one.browser.get(`${SESSIONS}${query}`)).status).toBe(403);
      expect((await one.browser.get(`${SESSIONS}?actor_id=u-absent`)).status).toBe(403);
    }
    const all = await signIn((await newUser([await roleWith(["auth.session.list.all"])])).id);
    expect(await idsOf(all.browser, query)).toEqual([session_id]);
    expect(await idsOf(all.browser, `${query}&actor_type=User`)).toEqual([session_id]);
    expect(await idsOf(all.browser, `${query}&actor_type=APIKey`)).toEqual([]);
    expect(await idsOf(all.browser, "?actor_id=u-absent")).toEqual([]);
  });

  it("of an API key is that of the key's actor", async () => {
    const { client, actorId } = await newActor([]);
    const { session_id } = await openSession(context(), { id: actorId, type: "APIKey" });
    const user = await newUser();
    const query = `?actor_id=${user.id}`;
    expect((await client.get<List>(SESSIONS)).body.sessions.map(({ id }) => id)).toEqual([session_id]);
    expect((await client.get<List>(`${SESSIONS}?actor_id=${actorId}`)).body.sessions).toHaveLength(1);
    expect((await client.get(`${SESSIONS}?actor_id=${actorId}&actor_type=User`)).status).toBe(403);
    expect((await client.get(`${SESSIONS}${query}`)).status).toBe(403);
  });

  it("refuses what it cannot read, and nobody without a credential", async () => {
    expect((await admin.get(`${SESSIONS}?actor_type=Robot`)).body.message).toContain("actor_type");
    expect((await admin.get(`${SESSIONS}?actor_id=`)).status).toBe(400);
    expect((await admin.get(`${SESSIONS}?actor_id=${"x".repeat(256)}`)).status).toBe(400);
    const { browser } = await signIn((await newUser()).id);
    browser.jar.clear();
    expect((await browser.get(SESSIONS)).status).toBe(401);
  });
});

describe("revoking a session", () => {
  it("of one's own needs no right, ends it at once and is on record", async () => {
    const user = await newUser();
    const here = await signIn(user.id);
    const there = await signIn(user.id);
    expect((await here.browser.change("DELETE", `${SESSIONS}/${there.session_id}`)).status).toBe(204);
    expect((await there.browser.get(ME)).status).toBe(401);
    expect((await here.browser.get(ME)).status).toBe(200);
    expect(await auditCount("auth.session.revoke", there.session_id)).toBe(1);
    expect((await here.browser.change("DELETE", `${SESSIONS}/${there.session_id}`)).status).toBe(404);
    expect(await auditCount("auth.session.revoke", there.session_id)).toBe(1);
  });

  it("of somebody else without the right is the same 403 whether it exists or not, and does nothing", async () => {
    const victim = await signIn((await newUser()).id);
    const shard = await shardOf({ type: "User", id: "u-absent" });
    const { browser } = await signIn((await newUser(["r-operator"])).id);
    const answers = await Promise.all(
      [victim.session_id, ABSENT, `ses-${shard}-${"0".repeat(26)}`].map((id) =>
        browser.change("DELETE", `${SESSIONS}/${id}`),
      ),
    );
    expect(answers.map(({ status }) => status)).toEqual([403, 403, 403]);
    expect(new Set(answers.map(({ body }) => `${body.error} ${body.message}`)).size).toBe(1);
    expect((await victim.browser.get(ME)).status).toBe(200);
    expect(await auditCount("auth.session.revoke", victim.session_id)).toBe(0);
  });

  it("of somebody else works with auth.session.revoke held everywhere; then an absent one is a 404", async () => {
    const victim = await signIn((await newUser()).id);
    const scoped = { permission: "auth.session.revoke", scope_type: "issuer", scope_id: "iss-x" } as const;
    const narrow = await signIn((await newUser([await roleWith([scoped])])).id);
    expect((await narrow.browser.change("DELETE", `${SESSIONS}/${victim.session_id}`)).status).toBe(403);
    const { client, actorId } = await newActor([{ role_id: await roleWith(["auth.session.revoke"]) }]);
    expect((await client.delete(`${SESSIONS}/${victim.session_id}`)).status).toBe(204);
    expect((await victim.browser.get(ME)).status).toBe(401);
    expect((await client.delete(`${SESSIONS}/${victim.session_id}`)).status).toBe(404);
    expect((await client.delete(`${SESSIONS}/${ABSENT}`)).body.error).toBe("not_found");
    const query = "select actor, actor_type from audit_events where action = ? and resource_id = ?";
    const event = await env.DB.prepare(query).bind("auth.session.revoke", victim.session_id).first();
    expect(event).toEqual({ actor: actorId, actor_type: "APIKey" });
  });

  it("that has ended already is none: no event tells of it", async () => {
    const user = await newUser();
    const actor = { id: user.id, type: "User" } as const;
    const { session_id } = await signIn(user.id, context({ CERTCTL_SESSION_IDLE_TIMEOUT: "1s" }));
    const later = { ...context(), clock: { now: () => new Date(Date.now() + 1001) } };
    expect(await endSession(later, { id: session_id, actor })).toBe(false);
    expect(await auditCount("auth.session.revoke", session_id)).toBe(0);
    const held = await signIn(user.id);
    expect(await endSession(context(), { id: held.session_id, actor })).toBe(true);
    expect(await endSession(context(), { id: held.session_id, actor })).toBe(false);
    expect(await auditCount("auth.session.revoke", held.session_id)).toBe(1);
  });

  it("with an id of another form is a 400 that says so", async () => {
    for (const id of ["ses-1", "t-team", ABSENT.toUpperCase(), `${ABSENT}0`, encodeURIComponent("ses-../x"), "%00"]) {
      const answer = await admin.change("DELETE", `${SESSIONS}/${id}`);
      expect([id, answer.status]).toEqual([id, 400]);
      expect(answer.body.message).toContain("id");
    }
  });

  it("takes what back-channel logout knows of it along", async () => {
    const user = await newUser();
    const ctx = context();
    const opened = await Promise.all([1, 2, 3].map(() => signIn(user.id)));
    const row = (session_id: string, expires_at: string) =>
      ctx.db
        .insert(oidcSessions)
        .values({ session_id, provider_id: user.provider_id, user_id: user.id, sid: `sid-${session_id}`, expires_at });
    const later = new Date(Date.now() + 3_600_000).toISOString();
    for (const { session_id } of opened) await row(session_id, later);
    const left = async () =>
      (await env.DB.prepare("select session_id from oidc_sessions where user_id = ?").bind(user.id).all()).results.map(
        ({ session_id }) => session_id,
      );
    const [first, second, third] = opened.map(({ session_id }) => session_id);
    await admin.change("DELETE", `${SESSIONS}/${first}`);
    expect(new Set(await left())).toEqual(new Set([second, third]));
    expect(await endSessionsOf(ctx, { id: user.id, type: "User" }, third)).toBe(1);
    expect(await left()).toEqual([third]);
    await pruneSignIns(context());
    expect(await left()).toEqual([third]);
    vi.setSystemTime(Date.now() + 3_600_001);
    await pruneSignIns(context());
    vi.useRealTimers();
    expect(await left()).toEqual([]);
  });
});

describe("revoking all sessions but the current one", () => {
  it("ends the others, each on record, and counts them", async () => {
    const user = await newUser();
    const [here, ...others] = await Promise.all([1, 2, 3].map(() => signIn(user.id)));
    const stranger = await signIn((await newUser()).id);
    const answer = await here?.browser.change("DELETE", `${SESSIONS}?except=current`);
    expect(answer).toMatchObject({ status: 200, body: { revoked_count: 2 } });
    expect((await here?.browser.get(ME))?.status).toBe(200);
    for (const other of others) {
      expect((await other.browser.get(ME)).status).toBe(401);
      expect(await auditCount("auth.session.revoke", other.session_id)).toBe(1);
    }
    expect((await stranger.browser.get(ME)).status).toBe(200);
    expect((await here?.browser.change("DELETE", `${SESSIONS}?except=current`))?.body).toEqual({ revoked_count: 0 });
  });

  it("asked with an API key ends all of that key's actor: none is current", async () => {
    const { client, actorId } = await newActor([]);
    await openSession(context(), { id: actorId, type: "APIKey" });
    await openSession(context(), { id: actorId, type: "APIKey" });
    const answer = await client.delete(`${SESSIONS}?except=current`);
    expect(answer).toMatchObject({ status: 200, body: { revoked_count: 2 } });
    expect((await client.get(ME)).status).toBe(200);
  });

  it("must be asked for in so many words", async () => {
    for (const query of ["", "?except=", "?except=none", "?except=CURRENT"])
      expect((await admin.change("DELETE", `${SESSIONS}${query}`)).body.message).toContain("except");
    expect((await admin.get(ME)).status).toBe(200);
  });
});
