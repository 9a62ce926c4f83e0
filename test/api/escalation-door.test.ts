import { env, exports } from "cloudflare:workers";
import { SignJWT } from "jose";
import { beforeAll, describe, expect, it } from "vitest";
import { newActor } from "../support/actors.ts";
import { administrator, Client } from "../support/api.ts";
import { type Browser, newUser, signIn } from "../support/browser.ts";
import { endedKey, unsignedJwt } from "../support/credentials.ts";

/** Ways around the door: what is shown as a credential, how the request is written, and who sent it. */

const TEAMS = "/api/v1/teams";
const ME = "/api/v1/auth/me";
const nobody = new Client(null);
let admin: Client;
let viewer: Client;

beforeAll(async () => {
  admin = await administrator();
  viewer = (await newActor([{ role_id: "r-viewer" }])).client;
});

/** A request exactly as told; what comes back with it. */
async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  return exports.default.fetch(new Request(`http://localhost${path}`, { redirect: "manual", ...init }));
}

const statusOf = async (path: string, init?: RequestInit) => (await ask(path, init)).status;

describe("a token that is no API key", () => {
  it("JWT algorithm confusion: no JSON Web Token is a credential, whatever it is signed with", async () => {
    const claims = { sub: "root-admin", actor_id: "root-admin", roles: ["r-admin"], iss: "http://pki.test" };
    const sign = (secret: string) =>
      new SignJWT(claims)
        .setProtectedHeader({ alg: "HS256", kid: "test" })
        .setExpirationTime("1h")
        .sign(new TextEncoder().encode(secret));
    const tokens = [unsignedJwt(claims), await sign(String(admin.key)), await sign("test-bootstrap-token")];
    for (const token of tokens) {
      expect(await statusOf(ME, { headers: { Authorization: `Bearer ${token}` } })).toBe(401);
      expect(await statusOf(ME, { headers: { Cookie: `__Host-certctl_session=${token}` } })).toBe(401);
    }
  });

  it("an expired, a revoked, an unknown and a malformed key are answered alike", async () => {
    const told = async (key: string) => {
      const answer = await new Client(key).get<{ error: string; message: string }>(ME);
      return { status: answer.status, error: answer.body.error, message: answer.body.message };
    };
    const past = new Date(Date.now() - 1000).toISOString();
    const [first, ...others] = await Promise.all([
      told(await endedKey({ expires_at: past })),
      told(await endedKey({ revoked_at: past })),
      told(`certctl_${"a".repeat(43)}`),
      told("certctl_short"),
      told(`${String(admin.key).slice(0, -1)}${String(admin.key).endsWith("A") ? "B" : "A"}`),
      told(String(admin.key).toUpperCase()),
      told(`${admin.key}A`),
    ]);
    expect(first).toMatchObject({ status: 401, error: "api_key_invalid" });
    for (const other of others) expect(other).toEqual(first);
  });

  it("a key is no credential in a query string, a body, a cookie, another header or Basic credentials", async () => {
    const key = String(admin.key);
    expect(await statusOf(`${ME}?access_token=${key}&api_key=${key}&token=${key}`)).toBe(401);
    const headers = [
      { Cookie: `__Host-certctl_session=${key}; token=${key}` },
      { "X-API-Key": key },
      { "Proxy-Authorization": `Bearer ${key}` },
      { "X-Forwarded-Authorization": `Bearer ${key}` },
      { Authorization: `Basic ${btoa(`admin:${key}`)}` },
      { Authorization: key },
      { Authorization: `Token ${key}` },
    ];
    for (const shown of headers) expect(await statusOf(ME, { headers: shown }), Object.keys(shown)[0]).toBe(401);
    const form = { method: "POST", body: new URLSearchParams({ access_token: key, name: "x" }) };
    expect(await statusOf(TEAMS, form)).toBe(401);
  });

  it("the scheme's name may be written in any case (RFC 9110 11.1), and two credentials at once are none", async () => {
    const key = String(admin.key);
    expect(await statusOf(ME, { headers: { Authorization: `bearer ${key}` } })).toBe(200);
    for (const [first, second] of [
      [admin.key, viewer.key],
      [viewer.key, admin.key],
      [admin.key, admin.key],
    ]) {
      const headers = new Headers({ Authorization: `Bearer ${first}` });
      headers.append("Authorization", `Bearer ${second}`);
      expect(await statusOf(ME, { headers })).toBe(401);
    }
  });
});

describe("a request that is written another way", () => {
  it("no header changes its method", async () => {
    const team = await admin.create(TEAMS, { name: "Method override" });
    const names = ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"];
    for (const name of names) {
      const answer = await viewer.send("GET", `${TEAMS}/${team.id}`, undefined, { [name]: "DELETE" });
      expect(answer.status).toBe(200);
      expect((await viewer.get(`${TEAMS}/${team.id}?_method=DELETE`)).status).toBe(400);
      const posted = await viewer.post(TEAMS, { name: "x" }, { [name]: "GET" });
      expect(posted.status).toBe(403);
    }
    expect((await admin.get(`${TEAMS}/${team.id}`)).status).toBe(200);
  });

  it("no spelling of a path reaches its route without its check", async () => {
    const spellings = [
      "//api/v1/teams",
      "/api//v1/teams",
      "/api/v1/teams/",
      "/api/v1/teams//",
      "/API/v1/teams",
      "/api/v1/Teams",
      "/api/v1/teams;x=1",
      "/api/v1/teams;/",
      "/api/v1/teams%2f",
      "/api/v1%2fteams",
      "/%61pi/v1/teams",
      "/api/v1/%74eams",
      "/api/v1/./teams",
      "/api/v1/x/../teams",
      "/api/v1/x/%2e%2e/teams",
      "/health/../api/v1/teams",
      "/health/%2e%2e/api/v1/teams",
      "/.well-known/pki/ca/../../../api/v1/teams",
      "/.well-known/pki/..%2f..%2fapi/v1/teams",
      "/api/v1/teams%00",
      "/api/v1/teams%20",
      "/api/v1/teams.json",
      "/api/v1/version/../teams",
      "/api/v1/auth/info%2f..%2f..%2fteams",
      "\\api\\v1\\teams",
    ];
    for (const path of spellings) expect([401, 404], path).toContain(await statusOf(path));
  });

  it("an id that is spelled another way is still the id of the path, or no id", async () => {
    const team = await admin.create(TEAMS, { name: "Spelled" });
    const agent = await admin.create("/api/v1/agents", { name: "spelled", hostname: "spelled.example" });
    const own = new Client(String(agent.api_key));
    for (const id of [`${team.id}/../../agents`, `..%2f..%2fteams%2f${team.id}`, `%2e%2e/teams/${team.id}`])
      expect([401, 403, 404], id).toContain((await own.get(`/api/v1/agents/${id}/work`)).status);
  });

  it("HEAD asks for what GET asks for, and OPTIONS and unknown methods open nothing", async () => {
    expect(await statusOf(TEAMS, { method: "HEAD" })).toBe(401);
    const head = await ask(TEAMS, { method: "HEAD", headers: { Authorization: `Bearer ${viewer.key}` } });
    expect(head.status).toBe(200);
    expect(await head.text()).toBe("");
    for (const method of ["OPTIONS", "PATCH", "PROPFIND", "QUERY"]) {
      const answer = await ask(TEAMS, { method, headers: { Authorization: `Bearer ${admin.key}` } });
      expect([204, 404, 405], method).toContain(answer.status);
      expect(await answer.text()).not.toContain('"data"');
    }
  });

  it("no address that a client writes down is believed", async () => {
    const forged = {
      "X-Forwarded-For": "203.0.113.66",
      "X-Real-IP": "203.0.113.66",
      "CF-Connecting-IP": "203.0.113.66",
      "True-Client-IP": "203.0.113.66",
      Forwarded: "for=203.0.113.66",
      "X-Trusted-Proxy-Secret": "guess",
    };
    const { id } = await newUser(["r-viewer"]);
    const { browser } = await signIn(id);
    await browser.get(ME, forged);
    const seen = await browser.get<{ sessions: { ip_address: string }[] }>("/api/v1/auth/sessions", forged);
    expect(JSON.stringify(seen.body)).not.toContain("203.0.113.66");
    expect((await viewer.post(TEAMS, { name: "x" }, forged)).status).toBe(403);
    const events = await auditDetails();
    expect(events.length).toBeGreaterThan(0);
    expect(events.join("\n")).not.toContain("203.0.113.66");
  });
});

async function auditDetails(): Promise<string[]> {
  const { results } = await env.DB.prepare("select details from audit_events where action = 'auth.denied'").all<{
    details: string;
  }>();
  return results.map(({ details }) => details);
}

describe("a session", () => {
  let browser: Browser;
  let sessionId: string;

  beforeAll(async () => {
    const { id } = await newUser(["r-operator"]);
    ({ browser, session_id: sessionId } = await signIn(id));
  });

  const post = (headers: Record<string, string>, body?: string) => browser.copy().send("POST", TEAMS, headers, body);

  it("CSRF: a form, JSON, a missing content type and no body change nothing without the token", async () => {
    const body = '{"name":"Forged"}';
    const types = ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain", "application/json"];
    for (const type of types) expect((await post({ "Content-Type": type }, body)).status, type).toBe(403);
    expect((await post({}, body)).status).toBe(403);
    expect((await post({})).status).toBe(403);
    expect((await post({ "Content-Type": "application/json", "X-CSRF-Token": "" }, body)).status).toBe(403);
    const list = await admin.get<{ data: { name: string }[] }>(`${TEAMS}?per_page=500`);
    expect(list.body.data.map(({ name }) => name)).not.toContain("Forged");
  });

  it("CSRF: the token of another session, or one in query or body, is none; nor does the right one help another site", async () => {
    const { id } = await newUser(["r-operator"]);
    const other = (await signIn(id)).browser;
    const json = { "Content-Type": "application/json" };
    const body = '{"name":"Forged"}';
    expect((await post({ ...json, "X-CSRF-Token": other.csrf }, body)).status).toBe(403);
    const queried = browser.copy();
    expect((await queried.send("POST", `${TEAMS}?csrf_token=${browser.csrf}`, json, body)).status).toBe(403);
    const own = { ...json, "X-CSRF-Token": browser.csrf };
    expect((await post({ ...own, Origin: "https://evil.example" }, body)).status).toBe(403);
    expect((await post({ ...own, Origin: "null" }, body)).status).toBe(403);
    expect((await post({ ...own, "Sec-Fetch-Site": "cross-site" }, body)).status).toBe(403);
    expect((await post(own, body)).status).toBe(201);
  });

  it("a GET that a foreign page can cause changes nothing, and tells its page nothing", async () => {
    const answer = await browser.copy().get(ME, { Origin: "https://evil.example", "Sec-Fetch-Site": "cross-site" });
    expect(answer.headers.get("Access-Control-Allow-Origin")).toBeNull();
    expect(answer.headers.get("Access-Control-Allow-Credentials")).toBeNull();
  });

  it("fixation: a session id that somebody brings along is never the one that a sign-in opens", async () => {
    const { id } = await newUser(["r-viewer"]);
    const [first, second] = [await signIn(id), await signIn(id)];
    expect(first.session_id).not.toBe(second.session_id);
    const planted = browser.copy().with("session", browser.session.replace(sessionId, second.session_id));
    expect((await planted.get(ME)).status).toBe(401);
  });

  it("is nothing without its signature, with a signature over something else, or cut short", async () => {
    const [version, id, key, mac = ""] = browser.session.split(".");
    const other = mac.startsWith("A") ? `B${mac.slice(1)}` : `A${mac.slice(1)}`;
    const values = [
      [version, id, key].join("."),
      [version, id, key, ""].join("."),
      [version, id, key, other].join("."),
      [version, id, key, mac, mac].join("."),
      ["v2", id, key, mac].join("."),
      [version, key, id, mac].join("."),
      [version, id?.toUpperCase(), key, mac].join("."),
      browser.csrf,
      sessionId,
    ];
    for (const value of values)
      expect((await browser.copy().with("session", value).get(ME)).status, value.slice(0, 90)).toBe(401);
  });

  it("two session cookies at once are none: a sibling host cannot put its own before ours", async () => {
    const { id } = await newUser(["r-viewer"]);
    const other = (await signIn(id)).browser;
    const Cookie = `__Host-certctl_session=${other.session}; __Host-certctl_session=${browser.session}`;
    expect(await statusOf(ME, { headers: { Cookie } })).toBe(401);
  });

  it("an Authorization header counts alone: a bad key is not made good by a cookie, and a key needs no CSRF token", async () => {
    const Cookie = `__Host-certctl_session=${browser.session}`;
    expect(await statusOf(ME, { headers: { Cookie, Authorization: "Bearer certctl_bad" } })).toBe(401);
    const empty = { Cookie, Authorization: "", "Content-Type": "application/json" };
    expect([401, 403]).toContain(await statusOf(TEAMS, { method: "POST", headers: empty, body: '{"name":"Empty"}' }));
    const both = { Cookie, Authorization: `Bearer ${viewer.key}`, "Content-Type": "application/json" };
    const me = (await (await ask(ME, { headers: both })).json()) as { actor_type: string; roles: string[] };
    expect(me).toMatchObject({ actor_type: "APIKey", roles: ["r-viewer"] });
    expect(await statusOf(TEAMS, { method: "POST", headers: both, body: '{"name":"Mixed"}' })).toBe(403);
  });

  it("of somebody else cannot be listed or ended, by id or by name; one's own can", async () => {
    const { id: userId } = await newUser(["r-operator"]);
    const other = await signIn(userId);
    expect((await browser.change("DELETE", `/api/v1/auth/sessions/${other.session_id}`)).status).toBe(403);
    expect((await browser.get(`/api/v1/auth/sessions?actor_id=${userId}`)).status).toBe(403);
    const forgedId = sessionId.replace(/[0-9a-v]{26}$/, other.session_id.slice(-26));
    expect((await browser.change("DELETE", `/api/v1/auth/sessions/${forgedId}`)).status).toBe(404);
    const left = await browser.change("DELETE", "/api/v1/auth/sessions?except=current");
    expect(left.status).toBe(200);
    expect((await other.browser.get(ME)).status).toBe(200);
    expect((await other.browser.change("DELETE", `/api/v1/auth/sessions/${other.session_id}`)).status).toBe(204);
    expect((await other.browser.get(ME)).status).toBe(401);
  });
});

it("nobody's request finds out whether an object exists", async () => {
  const team = await admin.create(TEAMS, { name: "Hidden" });
  const answers = await Promise.all([`${TEAMS}/${team.id}`, `${TEAMS}/t-absent`].map((path) => nobody.get(path)));
  const [known, absent] = answers.map(({ status, body }) => ({ status, error: body.error, message: body.message }));
  expect(known).toEqual(absent);
  const { client } = await newActor([]);
  const refused = await Promise.all([`${TEAMS}/${team.id}`, `${TEAMS}/t-absent`].map((path) => client.get(path)));
  expect(refused.map(({ status }) => status)).toEqual([403, 403]);
  expect(refused[0]?.body.message).toBe(refused[1]?.body.message);
});

it("open redirect: a browser is sent to a provider or to a path of this server, whatever the address asks for", async () => {
  const { provider_id } = await newUser();
  const places = [
    "https://evil.example/",
    "//evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/%09/evil.example".replace("%09", "\t"),
    "javascript:alert(1)",
    "http:evil.example",
    "evil.example",
    "/..//evil.example",
    " /docs",
  ];
  for (const place of places) {
    const query = new URLSearchParams({ provider: provider_id, return_to: place });
    const answer = await ask(`/auth/oidc/login?${query}`);
    expect([answer.status, answer.headers.get("Location")], place).toEqual([400, null]);
  }
  const refused = await ask(
    "/auth/oidc/callback?error=https://evil.example&error_description=x&error_uri=//evil.example",
  );
  expect(refused.status).toBe(302);
  expect(refused.headers.get("Location")).toMatch(/^\/login\?error=oidc_failed&reason=[a-z_]+$/);
  const out = await ask("/auth/logout?post_logout_redirect_uri=https://evil.example&return_to=//evil.example", {
    method: "POST",
  });
  expect([out.status, out.headers.get("Location")]).toEqual([204, null]);
});
