import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { authenticateSession } from "../../src/identity/sessions/authenticate.ts";
import { sessionStore } from "../../src/identity/sessions/store.ts";
import { ok, type Route, route } from "../../src/platform/route.ts";
import { makeApp } from "../../worker/app.ts";
import { tick } from "../../worker/cron.ts";
import { routes } from "../../worker/routes.ts";
import { newActor } from "../support/actors.ts";
import { administrator, type Client } from "../support/api.ts";
import { newUser, signIn } from "../support/browser.ts";
import { contextAhead } from "../support/context.ts";
import { errorOf, settled, visit } from "../support/door.ts";

/** What `npm start` binds, with a disk that is full when the test says so. */
class Storage {
  full = true;
  fetch = async () => new Response(this.full ? "full" : "ok");
}

const storage = new Storage();
const vars = { STORAGE: storage };
let admin: Client;
const withKey = (key: string | null) => ({ Authorization: `Bearer ${key}` });

beforeAll(async () => {
  admin = await administrator();
});

/** Everything else that changes anything is refused. */
const SERVED = [
  "deactivateAuthUser",
  "deleteAuthKey",
  "exportCertificatePKCS12",
  "oidcBackChannelLogout",
  "postAuthLogout",
  "removeBreakglassCredential",
  "retireAgent",
  "retireIntermediateCA",
  "revokeAgentCredential",
  "revokeAgentRole",
  "revokeAuthKeyRole",
  "revokeAuthRolePermission",
  "revokeAuthSession",
  "revokeAuthSessionsExceptCurrent",
  "revokeAuthUserRole",
  "revokeCertificate",
  "revokeSerial",
];

describe("while the disk is nearly full", () => {
  it("every route that changes anything is refused, but for those that take trust and rights away", async () => {
    const isPki = ({ path }: Route) => path.startsWith("/.well-known/pki/");
    const changing = routes.filter((entry) => entry.method !== "get" && !isPki(entry));
    const served = changing.filter((entry) => entry.whenFull === "served").map((entry) => entry.operationId);
    expect(served.sort()).toEqual(SERVED);
    const refused = changing.filter((entry) => entry.whenFull === "refused" && entry.exists(contextAhead().settings));
    expect(refused.length).toBeGreaterThan(40);
    for (const { method, path } of refused) {
      const asked = path.replace(/\{[a-z_]+\}/g, "x");
      const response = await visit(asked, { method: method.toUpperCase(), headers: withKey(admin.key), vars });
      expect([method, path, response.status, Number(response.headers.get("Retry-After"))]).toEqual([
        method,
        path,
        503,
        30,
      ]);
      expect((await errorOf(response)).error).toBe("storage_full");
    }
  });

  it("reads are served, and sign-ins, which write, are not", async () => {
    const reads = routes.filter((entry) => entry.method === "get" && entry.whenFull === "refused");
    expect(reads.map((entry) => entry.operationId).sort()).toEqual(["finishOIDCLogin", "startOIDCLogin"]);
    for (const path of ["/ready", "/api/v1/certificates", "/api/v1/auth/me"])
      expect([path, (await visit(path, { headers: withKey(admin.key), vars })).status]).toEqual([path, 200]);
  });

  it("who may not is told so first", async () => {
    const { client } = await newActor([{ role_id: "r-viewer" }], "viewer");
    const create = (key: string) => visit("/api/v1/teams", { headers: withKey(key), body: { name: "x" }, vars });
    expect((await create("certctl_nobody")).status).toBe(401);
    expect((await create(client.key ?? "")).status).toBe(403);
  });

  it("a read writes nothing: neither when a key was used nor when a session was seen", async () => {
    const { client, actorId } = await newActor([{ role_id: "r-viewer" }], "reader");
    const used = async () =>
      await env.DB.prepare("select last_used_at from api_keys where actor_id = ?").bind(actorId).first("last_used_at");
    expect((await visit("/api/v1/certificates", { headers: withKey(client.key), vars })).status).toBe(200);
    await settled();
    expect(await used()).toBeNull();

    const { browser, session_id } = await signIn((await newUser(["r-viewer"])).id);
    const shard = session_id.split("-")[1] ?? "";
    const store = sessionStore(contextAhead(), shard);
    const before = (await store.find(session_id, Date.now()))?.last_seen_at;
    const later = contextAhead(600);
    for (const [storageFull, same] of [
      [true, true],
      [false, false],
    ]) {
      const seen = await authenticateSession({ ...later, storageFull: storageFull === true }, browser.request("/"));
      expect(seen?.session_id).toBe(session_id);
      expect((await store.find(session_id, Date.now()))?.last_seen_at === before).toBe(same);
    }
  });

  it("schedules do only what revocations and lists wait for", async () => {
    const sweeps = async () =>
      (await env.DB.prepare("select id from work where id = kind order by id").all<{ id: string }>()).results.map(
        (row) => row.id,
      );
    const controller = { cron: "* * * * *", scheduledTime: Date.now(), noRetry: () => {} } as ScheduledController;
    await tick(controller, { ...env, ...vars }, { waitUntil: () => {} });
    expect(await sweeps()).toEqual(["reaction.alerts", "sweep.ledgers.attune"]);
    await tick(controller, { ...env }, { waitUntil: () => {} });
    expect((await sweeps()).length).toBeGreaterThan(5);
  });
});

describe("a write that has no room", () => {
  /** Routes that fail once, as the runtime lets them, then do their work. */
  function failing(message: string): { app: ReturnType<typeof makeApp>; attempts: () => number } {
    let attempts = 0;
    const one = (method: "get" | "post") =>
      route({
        operationId: `${method}Once`,
        method,
        path: "/once",
        access: { public: "a test" },
        whenFull: "served",
        tag: "Test",
        summary: "Fails once",
        answers: { 200: { description: "Done" } },
        handler: async () => {
          if (attempts++ === 0) throw new Error(message);
          return ok({});
        },
      });
    return { app: makeApp([one("get"), one("post")]), attempts: () => attempts };
  }

  const ask = (app: ReturnType<typeof makeApp>, method: string, bound: object) =>
    app.fetch(new Request("http://localhost/once", { method }), { ...env, ...bound }, { waitUntil: () => {} });
  const UNSPECIFIC = "internal error; reference = 9gt0igu2r1n0h971a3vp1p52";

  it("is a 503 storage_full where the runtime says only that something failed, and what reads is done again", async () => {
    const writes = failing(UNSPECIFIC);
    const refused = await ask(writes.app, "POST", vars);
    expect([refused.status, (await errorOf(refused)).error, writes.attempts()]).toEqual([503, "storage_full", 1]);
    const reads = failing(UNSPECIFIC);
    expect([(await ask(reads.app, "GET", vars)).status, reads.attempts()]).toEqual([200, 2]);
  });

  it("is a 503 wherever a database says it, and anything else stays a 500", async () => {
    const full = failing("D1_ERROR: database or disk is full: SQLITE_FULL");
    expect((await ask(full.app, "POST", {})).status).toBe(503);
    for (const [method, bound] of [
      ["POST", {}],
      ["GET", { STORAGE: Object.assign(new Storage(), { full: false }) }],
    ] as const) {
      const other = failing(UNSPECIFIC);
      expect([(await ask(other.app, method, bound)).status, other.attempts()]).toEqual([500, 1]);
    }
  });
});
