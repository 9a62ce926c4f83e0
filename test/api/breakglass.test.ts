import { createExecutionContext, waitOnExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { forgetActors } from "../../src/identity/actors.ts";
import { recorded } from "../../src/identity/breakglass/events.ts";
import { login } from "../../src/identity/breakglass/login.ts";
import { hashPassword, isOutdated, verifyPassword, withSlot } from "../../src/identity/breakglass/password.ts";
import { systemRandom } from "../../src/platform/context.ts";
import { runBatch } from "../../src/platform/database.ts";
import { parseSettings } from "../../src/platform/settings.ts";
import { postAlert } from "../../src/record/alerts.ts";
import { makeApp } from "../../worker/app.ts";
import { workKinds } from "../../worker/handlers.ts";
import { actorWith, roleWith } from "../support/actors.ts";
import { type Answer, administrator, auditCount, Client } from "../support/api.ts";
import { Browser, context, newUser, signIn } from "../support/browser.ts";
import { perform, runOne } from "../support/work.ts";

const path = "/api/v1/auth/breakglass/credentials";
const door = "/auth/breakglass/login";
const PASSWORD = "correct horse battery";
const anybody = new Client(null);
let admin: Client;

beforeAll(async () => {
  admin = await administrator();
});

/** A user with a break-glass password. */
async function withPassword(roles: readonly string[] = ["r-viewer"]): Promise<string> {
  const { id } = await newUser(roles);
  expect((await admin.post(path, { actor_id: id, password: PASSWORD })).status).toBe(201);
  return id;
}

/** The trusted proxy that tells this address. */
const from = (address: string) => ({ "X-Trusted-Proxy-Secret": "test-proxy-secret", "X-Forwarded-For": address });

/** One attempt, repeated while the isolate hashes for others. */
async function attempt(actor_id: string, password: string, headers: Record<string, string> = {}): Promise<Answer> {
  for (;;) {
    const answer = await anybody.post(door, { actor_id, password }, headers);
    if (answer.status !== 503) return answer;
    expect(answer.headers.get("Retry-After")).not.toBeNull();
  }
}

/** An attempt in a browser, which keeps the cookies. */
async function attemptIn(browser: Browser, actor_id: string, password = PASSWORD) {
  const body = JSON.stringify({ actor_id, password });
  return browser.send("POST", door, { "Content-Type": "application/json" }, body);
}

/** The reasons of an account's failed attempts with how often each is on record. */
async function failures(actorId: string): Promise<Record<string, number>> {
  const { results } = await env.DB.prepare(
    `select json_extract(details, '$.reason') as reason, count(*) as n from audit_events
     where action = 'auth.breakglass.login_failed' and resource_id = ? group by 1`,
  )
    .bind(actorId)
    .all<{ reason: string; n: number }>();
  return Object.fromEntries(results.map(({ reason, n }) => [reason, n]));
}

describe("switched off, which it is by default", () => {
  it.each([
    ["POST", door],
    ["GET", door],
    ["GET", path],
    ["POST", path],
    ["DELETE", path],
    ["POST", `${path}/u-1/unlock`],
    ["DELETE", `${path}/u-1`],
  ])("%s %s is a path that does not exist, with or without a credential", async (method, at) => {
    expect(parseSettings({}).auth.breakglass.enabled).toBe(false);
    const ask = async (pathname: string, key: string | null) => {
      const headers: Record<string, string> = { "X-Request-ID": "req-off-test", "Content-Type": "application/json" };
      if (key !== null) headers.Authorization = `Bearer ${key}`;
      const waiter = createExecutionContext();
      const off = { ...env, CERTCTL_BREAKGLASS_ENABLED: "false" };
      const body = method === "POST" ? { body: JSON.stringify({ actor_id: "u-1", password: PASSWORD }) } : {};
      const request = new Request(`http://localhost${pathname}`, { method, headers, ...body });
      const response = await makeApp().fetch(request, off, waiter);
      await waitOnExecutionContext(waiter);
      return { status: response.status, text: await response.text(), allow: response.headers.get("Allow") };
    };
    const nowhere = "/auth/nowhere";
    for (const key of [null, admin.key]) {
      const answer = await ask(at, key);
      expect(answer.status).toBe(404);
      const reference = await ask(nowhere, key);
      expect({ ...answer, text: answer.text.replace(at, nowhere) }).toEqual(reference);
    }
  });
});

describe("a break-glass password", () => {
  it("is set by who holds auth.breakglass.admin, once for each user, and never shown", async () => {
    const { id } = await newUser(["r-viewer"]);
    const first = await admin.post(path, { actor_id: id, password: PASSWORD });
    expect(first.status).toBe(201);
    expect(first.body).toMatchObject({
      actor_id: id,
      created_by: "root-admin",
      failed_attempts: 0,
      locked_until: null,
    });
    expect(first.body.id).toMatch(/^bg-/);
    const second = await admin.post(path, { actor_id: id, password: `${PASSWORD} 2` });
    expect(second.status).toBe(200);
    expect(second.body.id).toBe(first.body.id);
    expect(await auditCount("auth.breakglass.password_set", id)).toBe(2);
    const listed = await admin.get<{ data: { id: string }[] }>(`${path}?per_page=500`);
    expect(listed.body.data.map((row) => row.id)).toContain(first.body.id);
    const { results: events } = await env.DB.prepare("select * from audit_events").all();
    const { results: rows } = await env.DB.prepare("select * from breakglass_credentials").all();
    const everything = JSON.stringify([first.body, second.body, listed.body, events]);
    expect(JSON.stringify([everything, rows])).not.toContain("battery");
    expect(everything).not.toContain("scrypt");
    expect(rows.map((row) => row.password_hash)).toContainEqual(
      expect.stringMatching(/^\$scrypt\$ln=15,r=8,p=1\$[A-Za-z0-9_-]{22}\$[A-Za-z0-9_-]{43}$/),
    );
    expect((await attempt(id, PASSWORD)).status).toBe(401);
    expect((await attempt(id, `${PASSWORD} 2`)).status).toBe(204);
  });

  it.each([
    ["x".repeat(11), 400],
    ["x".repeat(12), 201],
    ["é".repeat(128), 201],
    ["é".repeat(128).concat("x"), 400],
    ["", 400],
  ])("of %j is a %i", async (password, status) => {
    const { id } = await newUser();
    const answer = await admin.post(path, { actor_id: id, password });
    expect(answer.status).toBe(status);
    if (status === 400) expect(answer.body.message).toContain("password");
    if (status === 400 && password !== "") expect(JSON.stringify(answer.body)).not.toContain(password);
  });

  it("is for users who exist and are active", async () => {
    expect((await admin.post(path, { actor_id: "u-none", password: PASSWORD })).status).toBe(404);
    expect((await admin.post(path, { actor_id: "root-admin", password: PASSWORD })).status).toBe(404);
    const { id } = await newUser();
    await deactivate(id);
    const answer = await admin.post(path, { actor_id: id, password: PASSWORD });
    expect(answer.status).toBe(409);
    expect(answer.body).toMatchObject({ error: "user_deactivated" });
  });

  it("is given by nobody who lacks a right of that user", async () => {
    const keeper = await actorWith([{ role_id: await roleWith(["auth.breakglass.admin", "cert.read"]) }]);
    const { id: chief } = await newUser(["r-admin"]);
    const refused = await keeper.post(path, { actor_id: chief, password: PASSWORD });
    expect(refused.status).toBe(403);
    expect(refused.body).toMatchObject({ error: "privilege_exceeded" });
    const { id: small } = await newUser([await roleWith(["cert.read"])]);
    expect((await keeper.post(path, { actor_id: small, password: PASSWORD })).status).toBe(201);
    const operator = await actorWith([{ role_id: "r-operator" }]);
    const answers = [
      await operator.get(path),
      await operator.post(path, { actor_id: small, password: PASSWORD }),
      await operator.post(`${path}/${small}/unlock`),
      await operator.delete(`${path}/${small}`),
    ];
    expect(answers.map(({ status }) => status)).toEqual([403, 403, 403, 403]);
  });

  it("set or removed ends the user's sessions; removed opens nothing more", async () => {
    const { id } = await newUser(["r-viewer"]);
    const before = await signIn(id);
    expect((await before.browser.get("/api/v1/auth/me")).status).toBe(200);
    await admin.post(path, { actor_id: id, password: PASSWORD });
    expect((await before.browser.get("/api/v1/auth/me")).status).toBe(401);
    const browser = new Browser();
    expect((await attemptIn(browser, id)).status).toBe(204);
    expect((await browser.get("/api/v1/auth/me")).status).toBe(200);
    expect((await admin.delete(`${path}/${id}`)).status).toBe(204);
    expect((await browser.get("/api/v1/auth/me")).status).toBe(401);
    expect((await attempt(id, PASSWORD)).status).toBe(401);
    expect((await admin.delete(`${path}/${id}`)).status).toBe(404);
    expect((await admin.post(`${path}/${id}/unlock`)).status).toBe(404);
    expect(await auditCount("auth.breakglass.removed", id)).toBe(1);
  });
});

describe("after a crash between the row and the sessions", () => {
  it.each(["set", "removed"])(
    "with the password %s queued work ends the sessions of until then, and no later one",
    async (how) => {
      const id = await withPassword();
      await env.DB.prepare("delete from work where kind = 'auth.breakglass.end_sessions'").run();
      if (how === "set") await admin.post(path, { actor_id: id, password: `${PASSWORD} 2` });
      else await admin.delete(`${path}/${id}`);
      const entry = await env.DB.prepare("select payload from work where kind = 'auth.breakglass.end_sessions'").first<{
        payload: string;
      }>();
      const payload = JSON.parse(entry?.payload ?? "{}");
      expect(payload).toEqual({ user_id: id, until: expect.any(String) });
      const { browser } = await signIn(id);
      await perform(context(), workKinds, "auth.breakglass.end_sessions", payload);
      expect((await browser.get("/api/v1/auth/me")).status).toBe(200);
      const later = { user_id: id, until: new Date(Date.now() + 1000).toISOString() };
      await perform(context(), workKinds, "auth.breakglass.end_sessions", later);
      expect((await browser.get("/api/v1/auth/me")).status).toBe(401);
    },
  );
});

describe("signing in", () => {
  it("opens a session of that user with that user's rights, loudly", async () => {
    const id = await withPassword(["r-auditor"]);
    const browser = new Browser();
    const answer = await attemptIn(browser, id);
    expect(answer.status).toBe(204);
    const cookies = answer.headers.getSetCookie();
    expect(cookies).toContainEqual(expect.stringMatching(/^__Host-certctl_session=v1\..*HttpOnly/));
    expect((await browser.get("/api/v1/auth/me")).body).toMatchObject({
      actor_id: id,
      actor_type: "User",
      roles: ["r-auditor"],
    });
    const event = await env.DB.prepare(
      "select actor, actor_type from audit_events where action = ? and resource_id = ?",
    )
      .bind("auth.breakglass.login", id)
      .first();
    expect(event).toEqual({ actor: id, actor_type: "User" });
    const listed = await admin.get<{ data: { actor_id: string; last_used_at: string }[] }>(`${path}?per_page=500`);
    expect(listed.body.data.find((row) => row.actor_id === id)?.last_used_at).toEqual(expect.any(String));
  });

  it("ends the session that this browser held, and says from where the new one was opened", async () => {
    const id = await withPassword();
    const { browser, session_id } = await signIn((await newUser()).id);
    expect((await attemptIn(browser, id)).status).toBe(204);
    const details = async (action: string, session: string | undefined) =>
      env.DB.prepare("select actor, details from audit_events where action = ? and resource_id = ?")
        .bind(action, session)
        .first<{ actor: string; details: string }>();
    const ended = await details("auth.session.revoke", session_id);
    expect([ended?.actor, JSON.parse(ended?.details ?? "{}").reason]).toEqual([id, "replaced"]);
    const opened = await details("auth.session.open", browser.session.split(".")[1]);
    expect(JSON.parse(opened?.details ?? "{}")).toMatchObject({ actor_id: id, address: "local", by: "breakglass" });
  });

  it("tells nobody who there is: unknown, without a password, wrong, deactivated and locked are one answer", async () => {
    const wrong = await withPassword();
    const locked = await withPassword();
    for (let n = 0; n < 5; n++) await attempt(locked, "not the password");
    const { id: without } = await newUser();
    const gone = await withPassword();
    await deactivate(gone);
    const answers = [
      await attempt("u-nobody", PASSWORD),
      await attempt(without, PASSWORD),
      await attempt(wrong, "not the password"),
      await attempt(locked, PASSWORD),
      await attempt(gone, PASSWORD),
      await attempt(wrong, "short"),
      await attempt(wrong, "x".repeat(1000)),
    ];
    const seen = answers.map(({ status, headers, body }) => {
      const { request_id: _, ...rest } = body;
      const kept = [...headers].filter(([name]) => !["x-request-id", "date"].includes(name));
      return JSON.stringify([status, rest, kept.sort()]);
    });
    expect(answers[0]?.status).toBe(401);
    expect(new Set(seen).size).toBe(1);
    expect(answers.flatMap(({ headers }) => headers.getSetCookie())).toEqual([]);
    expect(await failures(gone)).toEqual({ deactivated: 1 });
    // Anybody can cause these without end: the door counts them, a minute an address in one event.
    expect(await failures("u-nobody")).toEqual({});
    expect(await failures(locked)).toEqual({ wrong_password: 5 });
  });

  it("verifies by scrypt, in either Unicode form and with the parameters that were stored; nothing without a hash", async () => {
    const stored = await hashPassword(systemRandom, PASSWORD);
    expect(await verifyPassword(stored, PASSWORD)).toBe(true);
    expect(await verifyPassword(stored, "another one")).toBe(false);
    expect(await verifyPassword(null, PASSWORD)).toBe(false);
    // The same password in another Unicode form.
    expect(await verifyPassword(await hashPassword(systemRandom, "caf\u00e9 au lait!"), "cafe\u0301 au lait!")).toBe(
      true,
    );
    expect(isOutdated(stored)).toBe(false);
    expect(isOutdated(stored.replace("ln=15", "ln=14"))).toBe(true);
    await expect(verifyPassword(stored.replace("ln=15", "ln=31"), PASSWORD)).rejects.toThrow("memory");
    await expect(verifyPassword("$argon2id$x", PASSWORD)).rejects.toThrow("damaged");
  });

  it("locks after five guesses, however many come at once, and no right password opens it then", async () => {
    const id = await withPassword();
    const answers = await Promise.all(Array.from({ length: 20 }, (_, n) => attempt(id, `guess number ${n}`)));
    expect(answers.map(({ status }) => status)).toEqual(Array(20).fill(401));
    expect(await failures(id)).toEqual({ wrong_password: 5 });
    expect(await auditCount("auth.breakglass.locked", id)).toBe(1);
    expect((await attempt(id, PASSWORD)).status).toBe(401);
    const listed = await admin.get<{ data: { actor_id: string; locked_until: string }[] }>(`${path}?per_page=500`);
    const until = Date.parse(listed.body.data.find((row) => row.actor_id === id)?.locked_until ?? "");
    expect(until).toBeGreaterThan(Date.now() + 14 * 60_000);
    expect((await admin.post(`${path}/${id}/unlock`)).status).toBe(204);
    expect(await auditCount("auth.breakglass.unlocked", id)).toBe(1);
    expect((await attempt(id, PASSWORD)).status).toBe(204);
  });

  it("forgets failures after a success", async () => {
    const id = await withPassword();
    for (let round = 0; round < 2; round++) {
      for (let n = 0; n < 4; n++) expect((await attempt(id, "not the password")).status).toBe(401);
      expect((await attempt(id, PASSWORD)).status).toBe(204);
    }
  });

  it("is tried five times a minute from one address, right or wrong", async () => {
    const id = await withPassword();
    const answers: Answer[] = [];
    for (let n = 0; n < 6; n++)
      answers.push(await anybody.post(door, { actor_id: id, password: PASSWORD }, from("198.51.100.20")));
    expect(answers.map(({ status }) => status)).toEqual([204, 204, 204, 204, 204, 429]);
    expect(Number(answers[5]?.headers.get("Retry-After"))).toBeGreaterThan(0);
    // A header without the proxy's secret names nobody.
    const forged = { "X-Forwarded-For": "198.51.100.20", "CF-Connecting-IP": "198.51.100.20" };
    expect((await attempt(id, PASSWORD, forged)).status).toBe(204);
    expect((await attempt(id, PASSWORD, from("198.51.100.21"))).status).toBe(204);
  });

  it("hashes for two at a time, eight wait for their turn, and the others are told to come again", async () => {
    const id = await withPassword();
    const { promise: gate, resolve: open } = Promise.withResolvers<void>();
    let [now, most, done] = [0, 0, 0];
    const work = async () => {
      most = Math.max(most, ++now);
      await gate;
      now--;
      return ++done;
    };
    const held = Array.from({ length: 10 }, () => withSlot(work));
    await expect(withSlot(work)).rejects.toMatchObject({ status: 503, code: "busy" });
    const refused = await anybody.post(door, { actor_id: id, password: PASSWORD });
    expect([refused.status, refused.headers.get("Retry-After")]).toEqual([503, "1"]);
    open();
    await Promise.all(held);
    expect([done, most]).toEqual([10, 2]);
    const answers = await Promise.all(
      Array.from({ length: 4 }, () => anybody.post(door, { actor_id: id, password: PASSWORD })),
    );
    expect(answers.map(({ status }) => status)).toEqual([204, 204, 204, 204]);
  });

  it("is for a provider that is down, not for one that was disabled: the same 401, and a sign-in on its way ends", async () => {
    const { id, provider_id } = await newUser(["r-viewer"]);
    expect((await admin.post(path, { actor_id: id, password: PASSWORD })).status).toBe(201);
    const enabled = (on: number) =>
      env.DB.prepare("update oidc_providers set enabled = ? where id = ?").bind(on, provider_id).run();
    expect((await attempt(id, PASSWORD)).status).toBe(204);
    await enabled(0);
    const refused = await attempt(id, PASSWORD);
    expect([refused.status, refused.body.error]).toEqual([401, "breakglass_refused"]);
    expect(await failures(id)).toEqual({ provider_disabled: 1 });
    await enabled(1);
    expect((await attempt(id, PASSWORD)).status).toBe(204);
    for (let round = 0; round < 3; round++) {
      const [signedIn] = await Promise.all([attempt(id, PASSWORD), enabled(0)]);
      expect([204, 401]).toContain(signedIn.status);
      expect((await attempt(id, PASSWORD)).status).toBe(401);
      await enabled(1);
    }
  });

  it("is no match for a password that is taken away at that moment", async () => {
    const id = await withPassword();
    for (let round = 0; round < 4; round++) {
      const browser = new Browser();
      const [signedIn, removed] = await Promise.all([attemptIn(browser, id), admin.delete(`${path}/${id}`)]);
      expect(removed.status).toBe(204);
      expect([204, 401]).toContain(signedIn.status);
      expect((await browser.get("/api/v1/auth/me")).status).toBe(401);
      await admin.post(path, { actor_id: id, password: PASSWORD });
    }
  });

  it("hashes anew what was hashed with other parameters", async () => {
    const id = await withPassword();
    // scrypt("correct horse battery", salt 16 times 01, N=2^4, r=8, p=1, 32 bytes), by openssl kdf.
    const old = "$scrypt$ln=4,r=8,p=1$AQEBAQEBAQEBAQEBAQEBAQ$M9tJhK5nfTAO3KeGV7ajbsSVqY6emChdYGSNonyDAno";
    await env.DB.prepare("update breakglass_credentials set password_hash = ? where actor_id = ?").bind(old, id).run();
    expect((await attempt(id, PASSWORD)).status).toBe(204);
    const row = await env.DB.prepare("select password_hash as h from breakglass_credentials where actor_id = ?")
      .bind(id)
      .first<{ h: string }>();
    expect(row?.h).toContain("ln=15");
    expect((await attempt(id, PASSWORD)).status).toBe(204);
  });

  it.each([
    ["text/plain", 415],
    ["application/x-www-form-urlencoded", 415],
  ])("takes no form of another site: %s", async (type, status) => {
    const answer = await anybody.post(door, JSON.stringify({ actor_id: "u", password: PASSWORD }), {
      "Content-Type": type,
    });
    expect(answer.status).toBe(status);
  });
});

describe("an alert", () => {
  const hook = { CERTCTL_ALERT_WEBHOOK_URL: "https://alerts.example/hook" };

  const REACTION = "reaction.alerts";
  const alerts = async () =>
    (
      await env.DB.prepare("select * from work where kind = 'identity.alert' order by rowid").all<{
        id: string;
        payload: string;
      }>()
    ).results;
  /** While this holds the reaction's lease, no wake-up of the queue runs it with the settings of the tests. */
  const lease = (until: string | null) =>
    env.DB.prepare("update work set lease_until = ? where id = ?").bind(until, REACTION).run();

  it("is queued for the record of each attempt, without a secret", async () => {
    const ctx = context(hook);
    const id = await withPassword();
    await runOne(context(), workKinds, REACTION);
    await lease("2099-01-01T00:00:00.000Z");
    await expect(login(ctx, id, "not the password")).rejects.toMatchObject({ status: 401 });
    await login(ctx, id, PASSWORD);
    await lease(null);
    expect(await runOne(ctx, workKinds, REACTION)).toBe("done");
    const results = await alerts();
    const told = results.map(({ payload }) => JSON.parse(payload));
    expect(told.map(({ event }) => event)).toEqual(["auth.breakglass.login_failed", "auth.breakglass.login"]);
    expect(told[0]).toEqual({
      id: expect.stringMatching(/^alert-/),
      event: "auth.breakglass.login_failed",
      actor: id,
      by: expect.any(String),
      address: "192.0.2.7",
      at: expect.any(String),
      request_id: ctx.requestId,
      reason: "wrong_password",
    });
    expect(JSON.stringify(results)).not.toMatch(/battery|not the password|scrypt/);
    // Nobody answers in the tests: the work stays and is tried again.
    expect(await runOne(ctx, workKinds, results[0]?.id ?? "")).toBe("retry");
  });

  it("is posted as JSON until the webhook answers 2xx", async () => {
    const ctx = context(hook);
    const seen: { url: string; method: string | undefined; body: unknown }[] = [];
    const answering = (status: number, headers: Record<string, string> = {}) =>
      (async (url: string, init?: RequestInit) => {
        seen.push({ url, method: init?.method, body: JSON.parse(String(init?.body)) });
        return new Response(null, { status, headers });
      }) as typeof fetch;
    await postAlert(ctx, { event: "x" }, answering(204));
    expect(seen).toEqual([{ url: "https://alerts.example/hook", method: "POST", body: { event: "x" } }]);
    await expect(postAlert(ctx, { event: "x" }, answering(500))).rejects.toThrow("500");
    const elsewhere = answering(302, { Location: "https://elsewhere.example/" });
    await expect(postAlert(ctx, { event: "x" }, elsewhere)).rejects.toThrow("redirect");
    const inside = context({ CERTCTL_ALERT_WEBHOOK_URL: "http://169.254.169.254/hook" });
    await expect(postAlert(inside, { event: "x" }, answering(204))).rejects.toMatchObject({ code: "outbound_refused" });
  });

  it("is neither made nor sent without a webhook: the record and the log are what there is", async () => {
    const ctx = context();
    const before = await alerts();
    await runBatch(ctx.db, recorded(ctx, [{ verb: "unlocked", actor_id: "u-quiet" }]));
    expect(await auditCount("auth.breakglass.unlocked", "u-quiet")).toBe(1);
    expect(await runOne(ctx, workKinds, REACTION)).toBe("done");
    expect(await alerts()).toEqual(before);
    const never = (async () => {
      throw new Error("asked");
    }) as typeof fetch;
    await expect(postAlert(ctx, { event: "x" }, never)).resolves.toBeUndefined();
  });
});

async function deactivate(id: string): Promise<void> {
  await env.DB.prepare("update users set deactivated_at = ? where id = ?").bind(new Date().toISOString(), id).run();
  forgetActors();
}
