import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Session } from "../../durable-objects/session.ts";
import { endSessionsOf, openSession, rotateCsrfOf } from "../../src/identity/sessions/sessions.ts";
import { forgetSigningKeys, rotateSigningKeys, signingKey } from "../../src/identity/sessions/signing-keys.ts";
import type { NewSession } from "../../src/identity/sessions/store.ts";
import { auditCount } from "../support/api.ts";
import { context, newUser, signIn } from "../support/browser.ts";

const ME = "/api/v1/auth/me";
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const WEEK = 7 * 24 * HOUR;

const { SESSION } = env as unknown as { SESSION: DurableObjectNamespace<Session> };

interface KeyRow {
  id: string;
  sealed_key: string;
  retired_at: string | null;
}

async function keys(): Promise<KeyRow[]> {
  return (await env.DB.prepare("select * from session_keys order by created_at").all<KeyRow>()).results;
}

const keyOf = (cookie: string) => cookie.split(".")[2];

/** Sessions that outlive any key. */
const longLived = () => context({ CERTCTL_SESSION_ABSOLUTE_TIMEOUT: "90d", CERTCTL_SESSION_IDLE_TIMEOUT: "90d" });

beforeEach(async () => {
  await env.DB.prepare("delete from session_keys").run();
  forgetSigningKeys();
});

afterEach(() => {
  vi.useRealTimers();
});

describe("the signing key of sessions", () => {
  it("is made on first need, once, however many need it at the same moment", async () => {
    const made = await Promise.all(Array.from({ length: 10 }, () => signingKey(context())));
    const rows = await keys();
    expect(rows).toHaveLength(1);
    expect(new Set(made.map(({ id }) => id))).toEqual(new Set([rows[0]?.id]));
  });

  it("is sealed at rest, for this purpose alone", async () => {
    const { id } = await signingKey(context());
    const [row] = await keys();
    const sealed = row?.sealed_key ?? "";
    expect((await context().sealer.open(sealed, `session|${id}`)).length).toBe(32);
    await expect(context().sealer.open(sealed, "session|sk-other")).rejects.toThrow("does not open");
  });

  it("is replaced by the sweep when its time has come and not before; of two sweeps that race one does it", async () => {
    const start = Date.now();
    const first = (await signingKey(context())).id;
    vi.setSystemTime(start + WEEK - MINUTE);
    await rotateSigningKeys(context());
    expect((await keys()).map(({ id }) => id)).toEqual([first]);
    vi.setSystemTime(start + WEEK + MINUTE);
    await Promise.all([rotateSigningKeys(context()), rotateSigningKeys(context())]);
    const rows = await keys();
    expect(rows.map(({ retired_at }) => retired_at === null)).toEqual([false, true]);
    expect((await signingKey(context())).id).toBe(rows[1]?.id);
    expect(await auditCount("auth.session_key.rotate", rows[1]?.id ?? "")).toBe(1);
  });

  it("verifies on after its retirement for as long as a session lives, and then no longer, swept or not", async () => {
    const start = Date.now();
    const { browser } = await signIn((await newUser()).id, longLived());
    const retirement = start + WEEK + MINUTE;
    vi.setSystemTime(retirement);
    await rotateSigningKeys(context());
    const after = await signIn((await newUser()).id, longLived());
    expect(keyOf(after.browser.session)).not.toBe(keyOf(browser.session));
    expect((await browser.get(ME)).status).toBe(200);
    vi.setSystemTime(retirement + 8 * HOUR);
    await rotateSigningKeys(context());
    expect(await keys()).toHaveLength(2);
    expect((await browser.get(ME)).status).toBe(200);
    vi.setSystemTime(retirement + 8 * HOUR + 2 * MINUTE);
    expect((await browser.get(ME)).status).toBe(401);
    expect((await after.browser.get(ME)).status).toBe(200);
    await rotateSigningKeys(context());
    expect((await keys()).map(({ id }) => id)).toEqual([keyOf(after.browser.session)]);
    expect((await browser.get(ME)).status).toBe(401);
  });

  it("that was rotated elsewhere is known here at once to verify, and within a minute to sign", async () => {
    const start = Date.now();
    const user = await newUser();
    const before = await signIn(user.id);
    await env.DB.prepare("update session_keys set retired_at = ?").bind(new Date(start).toISOString()).run();
    const elsewhere = context();
    const sealed = await elsewhere.sealer.seal(new Uint8Array(32).fill(7), "session|sk-00000000000000000000000000");
    await env.DB.prepare("insert into session_keys values ('sk-00000000000000000000000000', ?, ?, null)")
      .bind(sealed, new Date(start).toISOString())
      .run();
    vi.setSystemTime(start + MINUTE - 1000);
    expect(keyOf((await signIn(user.id)).browser.session)).toBe(keyOf(before.browser.session));
    vi.setSystemTime(start + MINUTE + 1000);
    const after = await signIn(user.id);
    expect(keyOf(after.browser.session)).toBe("sk-00000000000000000000000000");
    expect((await before.browser.get(ME)).status).toBe(200);
    forgetSigningKeys();
    expect((await after.browser.get(ME)).status).toBe(200);
  });

  it("that nobody can open any more signs nobody in, and breaks nothing else", async () => {
    const { browser } = await signIn((await newUser()).id);
    await env.DB.prepare("update session_keys set sealed_key = 'v1.gone.AAAA.AAAA'").run();
    forgetSigningKeys();
    expect((await browser.get(ME)).status).toBe(401);
    expect((await browser.get("/health")).status).toBe(200);
  });
});

describe("the object of an actor's sessions", () => {
  const session = (id: string, changes: Partial<NewSession> = {}): NewSession => ({
    id,
    actor_id: "u-test",
    actor_type: "User",
    ip_address: "local",
    user_agent: "",
    idle_ms: HOUR,
    absolute_ms: 8 * HOUR,
    now: 0,
    ...changes,
  });

  const storage = <T>(stub: DurableObjectStub<Session>, work: (storage: DurableObjectStorage) => T | Promise<T>) =>
    runInDurableObject(stub, (_, state) => work(state.storage));

  it("holds a hundred sessions: the oldest makes room", async () => {
    const stub = SESSION.getByName("hundred");
    for (let i = 0; i < 100; i++)
      expect((await stub.open(session(`ses-${i}`, { now: 100 - i }))).displaced).toEqual([]);
    expect((await stub.open(session("ses-100"))).displaced).toEqual(["ses-0"]);
    const held = await stub.list(101);
    expect(held).toHaveLength(100);
    expect(held[0]?.id).toBe("ses-100");
    expect(await stub.touch("ses-0", 101)).toBeNull();
  });

  it("makes room only for a real need: what has ended is not held", async () => {
    const stub = SESSION.getByName("room");
    for (let i = 0; i < 100; i++) await stub.open(session(`ses-${i}`));
    expect((await stub.open(session("ses-new", { now: HOUR }))).displaced).toEqual([]);
    expect((await stub.list(HOUR)).map(({ id }) => id)).toEqual(["ses-new"]);
  });

  it("records a displaced session's end as the user's own", async () => {
    const user = await newUser();
    const first = await signIn(user.id);
    for (let i = 0; i < 100; i++) await openSession(context(), { id: user.id, type: "User" });
    expect((await first.browser.get(ME)).status).toBe(401);
    expect(await auditCount("auth.session.revoke", first.session_id)).toBe(1);
  });

  it("writes a request down at most every half minute, or twentieth of the idle time", async () => {
    const stub = SESSION.getByName("writes");
    const seen = (id: string) =>
      storage(
        stub,
        ({ sql }) => sql.exec<{ at: number }>("select last_seen_at as at from session where id = ?", id).one().at,
      );
    await stub.open(session("ses-hour"));
    await stub.open(session("ses-minute", { idle_ms: MINUTE }));
    await stub.touch("ses-hour", 29_999);
    await stub.touch("ses-minute", 2_999);
    expect([await seen("ses-hour"), await seen("ses-minute")]).toEqual([0, 0]);
    await stub.touch("ses-hour", 30_000);
    await stub.touch("ses-minute", 3_000);
    expect([await seen("ses-hour"), await seen("ses-minute")]).toEqual([30_000, 3_000]);
    // A clock that is behind takes nothing away.
    await stub.touch("ses-hour", 10_000);
    expect(await seen("ses-hour")).toBe(30_000);
  });

  it("lets go at the very millisecond: idle or absolute, whichever is first", async () => {
    const stub = SESSION.getByName("ends");
    await stub.open(session("ses-idle"));
    expect(await stub.find("ses-idle", HOUR - 1)).toMatchObject({ idle_expires_at: HOUR, last_seen_at: 0 });
    expect(await stub.touch("ses-idle", HOUR)).toBeNull();
    await stub.open(session("ses-absolute", { idle_ms: 24 * HOUR }));
    expect(await stub.touch("ses-absolute", 8 * HOUR - 1)).toMatchObject({ absolute_expires_at: 8 * HOUR });
    expect(await stub.find("ses-absolute", 8 * HOUR - 1)).toMatchObject({ idle_expires_at: 8 * HOUR });
    expect(await stub.touch("ses-absolute", 8 * HOUR)).toBeNull();
    expect(await stub.revoke("ses-absolute", 8 * HOUR)).toBe(false);
  });

  it("keeps sessions, and forgets revoked ones, when its memory goes", async () => {
    const stub = SESSION.getByName("evicted");
    const now = Date.now();
    await stub.open(session("ses-kept", { now }));
    await stub.open(session("ses-gone", { now }));
    await stub.rotateCsrf();
    expect(await stub.revoke("ses-gone", now)).toBe(true);
    await evictDurableObject(stub);
    const again = SESSION.getByName("evicted");
    expect(await again.touch("ses-kept", now)).toMatchObject({ actor_id: "u-test", csrf_generation: 1 });
    expect(await again.touch("ses-gone", now)).toBeNull();
  });

  it("revokes all but one, counts those that held, and does nothing the second time", async () => {
    const stub = SESSION.getByName("all");
    await stub.open(session("ses-kept", { now: HOUR }));
    await stub.open(session("ses-short", { now: HOUR, idle_ms: 1000 }));
    await stub.open(session("ses-gone", { now: HOUR }));
    expect(await stub.revokeAll(HOUR + 2000, "ses-kept")).toBe(1);
    expect(await stub.revokeAll(HOUR + 2000, "ses-kept")).toBe(0);
    expect(await stub.revokeAll(HOUR + 2000, null)).toBe(1);
  });

  it("removes what has reached its end by its alarm, and leaves no storage behind the last; then begins anew", async () => {
    const stub = SESSION.getByName("alarm");
    const now = Date.now();
    const turn = (at: number) =>
      runInDurableObject(stub, (object) => {
        object.now = () => at;
      });
    const tables = () => storage(stub, ({ sql }) => sql.exec("select name from sqlite_master").toArray().length);
    const ids = () => storage(stub, ({ sql }) => sql.exec<{ id: string }>("select id from session").toArray());
    await stub.open(session("ses-first", { now }));
    await stub.open(session("ses-second", { now: now + HOUR }));
    await turn(now + 8 * HOUR);
    expect(await runDurableObjectAlarm(stub)).toBe(true);
    expect(await ids()).toEqual([{ id: "ses-second" }]);
    await turn(now + 9 * HOUR);
    expect(await runDurableObjectAlarm(stub)).toBe(true);
    expect(await tables()).toBe(0);
    expect(await runDurableObjectAlarm(stub)).toBe(false);
    expect(await stub.touch("ses-second", now + HOUR)).toBeNull();
    await stub.open(session("ses-third", { now }));
    expect(await stub.touch("ses-third", now)).not.toBeNull();
  });

  it("that never held a session answers, and stores nothing", async () => {
    const nobody = { id: "u-nobody", type: "User" } as const;
    expect(await endSessionsOf(context(), nobody)).toBe(0);
    await rotateCsrfOf(context(), nobody);
    const stub = SESSION.getByName("nobody");
    expect([await stub.list(0), await stub.revoke("ses-x", 0), await stub.find("ses-x", 0)]).toEqual([[], false, null]);
    expect(await storage(stub, ({ sql }) => sql.exec("select name from sqlite_master").toArray())).toEqual([]);
  });
});
