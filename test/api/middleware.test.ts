import { env } from "cloudflare:workers";
import { z } from "@hono/zod-openapi";
import { Hono } from "hono";
import { describe, expect, it } from "vitest";
import { NO_CALLER } from "../../src/platform/context.ts";
import { AppError, forbidden } from "../../src/platform/errors.ts";
import { ok, type RouteSpec, route } from "../../src/platform/route.ts";
import type { authenticate } from "../../worker/authenticate.ts";
import { admit, open } from "../../worker/middleware/admit.ts";
import { body } from "../../worker/middleware/body.ts";
import { cors, preflight } from "../../worker/middleware/cors.ts";
import { failed } from "../../worker/middleware/failed.ts";
import { fallback } from "../../worker/middleware/fallback.ts";
import { found } from "../../worker/middleware/found.ts";
import { handle } from "../../worker/middleware/handle.ts";
import { dateOf, hsts } from "../../worker/middleware/headers.ts";
import { limitAddress } from "../../worker/middleware/limits.ts";
import { type Door, type Middleware, receive, type Visit } from "../../worker/visit.ts";
import { errorOf } from "../support/door.ts";

type Spec = RouteSpec<z.ZodObject, z.ZodObject, z.ZodObject>;

function routeOf(spec: Partial<Spec> = {}) {
  return route({
    operationId: "test",
    method: "post",
    path: "/test",
    access: { authenticated: "a test" },
    tag: "Test",
    summary: "A test",
    answers: { 200: { description: "Done" } },
    handler: async () => ok({}),
    ...spec,
  } as Spec);
}

interface Asked {
  readonly init?: RequestInit & { cf?: object };
  readonly url?: string;
  readonly vars?: Record<string, unknown>;
  readonly visit?: Partial<Visit>;
}

/** A request through these alone; behind them stands an answer that says "through". */
async function pass(
  middleware: readonly Middleware[],
  { init = {}, url = "http://localhost/test", ...asked }: Asked = {},
) {
  const app = new Hono<Door>();
  for (const one of middleware) app.use(one);
  app.all("*", () => new Response("through"));
  app.onError(failed);
  const request = new Request(url, init);
  const visit = receive(request, { ...env, ...asked.vars }, { waitUntil: () => undefined }, "req-test-1234");
  Object.assign(visit, asked.visit);
  return { response: await app.fetch(request, visit), visit };
}

describe("hsts", () => {
  it("is for what came over https alone", async () => {
    const of = async (url: string) => (await pass([hsts], { url })).response.headers.get("Strict-Transport-Security");
    expect(await of("https://localhost/test")).toBe("max-age=31536000");
    expect(await of("http://localhost/test")).toBeNull();
  });
});

describe("the date of an answer", () => {
  it("is that of its second, whichever was asked for before", () => {
    for (const at of [0, 1_999, 1_000, 86_400_000]) expect(dateOf(at)).toBe(new Date(at).toUTCString());
  });
});

describe("cors", () => {
  const vars = { CERTCTL_CORS_ORIGINS: "https://console.example.com" };
  const headers = { Origin: "https://console.example.com", "Access-Control-Request-Method": "PUT" };

  it("lets the pages of an allowed origin read errors as well, and lets the request through", async () => {
    const refuse: Middleware = () => {
      throw forbidden("no");
    };
    for (const [behind, status] of [
      [[], 200],
      [[refuse], 403],
    ] as const) {
      const { response } = await pass([cors, ...behind], { init: { headers }, vars });
      expect([
        response.status,
        response.headers.get("Access-Control-Allow-Origin"),
        response.headers.get("Vary"),
      ]).toEqual([status, headers.Origin, "Origin"]);
    }
  });

  it("answers a preflight for a path of the API, and nothing else", async () => {
    const ask = async (methods: string[], sent: Record<string, string>) =>
      (await pass([preflight(() => methods)], { init: { method: "OPTIONS", headers: sent }, vars })).response;
    const answer = await ask(["GET", "PUT"], headers);
    expect([answer.status, answer.headers.get("Access-Control-Allow-Methods")]).toEqual([204, "GET, PUT"]);
    expect(await (await ask([], headers)).text()).toBe("through");
    expect(await (await ask(["GET"], { Origin: headers.Origin })).text()).toBe("through");
    expect(await (await ask(["GET"], { ...headers, Origin: "https://other.example.com" })).text()).toBe("through");
  });
});

describe("limitAddress", () => {
  it("asks about a known address alone, every twentieth time", async () => {
    const keys: string[] = [];
    const ADDRESS_LIMIT = {
      limit: async ({ key }: { key: string }) => ({ success: keys.push(key) < 1 }),
    };
    const ask = async (address: string) =>
      (await pass([limitAddress], { vars: { ADDRESS_LIMIT }, visit: { caller: { ...NO_CALLER, address } } })).response;
    for (let i = 0; i < 25; i++) expect((await ask("local")).status).toBe(200);
    for (let i = 0; i < 19; i++) expect((await ask("203.0.113.77")).status).toBe(200);
    const refused = await ask("203.0.113.77");
    expect([refused.status, (await errorOf(refused)).error, keys]).toEqual([429, "rate_limited", ["203.0.113.77"]]);
  });
});

describe("found", () => {
  it("is a 404 where the settings have no such route; else the request is of that route", async () => {
    const there = routeOf();
    expect((await pass([found(there)])).visit.route).toBe(there);
    const { response } = await pass([found(routeOf({ exists: () => false }))]);
    expect([response.status, (await errorOf(response)).message]).toEqual([404, expect.stringContaining("/test")]);
  });
});

const actor = { id: "someone", type: "User", tenant_id: "t-default", roles: [], permissions: [] } as const;
const identify: typeof authenticate = async (_ctx, { caller }) => ({
  actor,
  caller: { ...caller, session_id: "ses-1" },
  cookies: ["a=b"],
  csrf_token: "token",
});

describe("admit", () => {
  it("makes the context that of the caller, with what goes out with each answer", async () => {
    const { visit } = await pass([admit(routeOf(), identify)]);
    expect([visit.ctx.actor, visit.ctx.caller.session_id, visit.ctx.requestId]).toEqual([
      actor,
      "ses-1",
      "req-test-1234",
    ]);
    expect([visit.cookies, visit.headers]).toEqual([["a=b"], { "X-CSRF-Token": "token" }]);
  });

  it("inv 7: lets nobody through without the route's permission, and still sends the cookies along", async () => {
    const { response } = await pass([admit(routeOf({ access: "team.write" }), identify)]);
    expect([response.status, response.headers.get("Set-Cookie")]).toEqual([403, "a=b"]);
  });
});

describe("open", () => {
  it("is closed to everybody while the disk is full, or while the route says so", async () => {
    const full: Middleware = ({ env: visit }, next) => {
      visit.ctx = { ...visit.ctx, storageFull: true };
      return next();
    };
    const refused = await pass([full, open(routeOf())]);
    expect([refused.response.status, (await errorOf(refused.response)).error]).toEqual([503, "storage_full"]);
    expect((await pass([full, open(routeOf({ whenFull: "served" }))])).response.status).toBe(200);
    const before = async () => {
      throw new AppError(410, "closed", "closed");
    };
    expect((await pass([open(routeOf({ before }))])).response.status).toBe(410);
  });
});

describe("body", () => {
  it("reads up to the limit, and asks again who sends it where that takes its time", async () => {
    const post = { method: "POST", body: "12345" };
    const limited = routeOf({ body: z.object({}), bodyLimit: 5 });
    const { visit } = await pass([body(limited)], { init: post });
    expect(new TextDecoder().decode(visit.body ?? undefined)).toBe("12345");
    expect((await pass([body(limited)], { init: { ...post, body: "123456" } })).response.status).toBe(413);
    let seconds = 0;
    const slow: Middleware = ({ env: on }, next) => {
      on.ctx = { ...on.ctx, clock: { now: () => new Date(2_000 * seconds++) } };
      return next();
    };
    const letIn = async () => {
      throw forbidden("no more");
    };
    expect((await pass([body(limited)], { init: post, visit: { letIn } })).response.status).toBe(200);
    expect((await pass([slow, body(limited)], { init: post, visit: { letIn } })).response.status).toBe(403);
  });
});

describe("handle", () => {
  it("answers what the handler gives, with what goes out with each answer", async () => {
    const done = routeOf({ handler: async () => ({ ...ok({ a: 1 }, { ETag: '"x"' }), cookies: ["c=d"] }) });
    const { response } = await pass([handle(done)], { visit: { cookies: ["a=b"], headers: { "X-CSRF-Token": "t" } } });
    expect(await response.json()).toEqual({ a: 1 });
    expect(response.headers.getSetCookie()).toEqual(["a=b", "c=d"]);
    expect(Object.fromEntries(response.headers)).toMatchObject({
      "cache-control": "no-store",
      "content-type": "application/json",
      date: expect.stringMatching(/GMT$/),
      etag: '"x"',
      "x-csrf-token": "t",
      "x-request-id": "req-test-1234",
    });
  });

  it("takes an Idempotency-Key of visible ASCII where it creates, and looks at none where it does not", async () => {
    const headers = { "Idempotency-Key": "with a space" };
    const creating = routeOf({ answers: { 201: { description: "Created" } } });
    expect((await pass([handle(creating)], { init: { method: "POST", headers } })).response.status).toBe(400);
    expect((await pass([handle(routeOf())], { init: { method: "POST", headers } })).response.status).toBe(200);
  });
});

describe("fallback", () => {
  const ask = async (methods: string[], method: string) => {
    const app = new Hono<Door>().notFound(fallback(() => methods));
    const request = new Request("http://localhost/nowhere", { method });
    return app.fetch(request, receive(request, { ...env }, { waitUntil: () => undefined }, "req-test-1234"));
  };

  it("is a 405 with Allow for a known path, and a 404 for another one", async () => {
    const known = await ask(["GET", "HEAD"], "POST");
    expect([known.status, known.headers.get("Allow")]).toEqual([405, "GET, HEAD"]);
    expect((await ask([], "POST")).status).toBe(404);
    expect((await ask(["GET"], "GET")).status).toBe(404);
  });
});

describe("failed", () => {
  it("inv 10: answers in the route's own form of errors, and tells nothing of what nobody expected", async () => {
    const form = { type: "text/plain", schema: z.string(), write: (error: AppError) => `E ${error.code}` };
    const fail: Middleware = () => {
      throw new Error("secret text");
    };
    const { response } = await pass([found(routeOf({ errorForm: form })), fail]);
    expect([response.status, response.headers.get("Content-Type"), await response.text()]).toEqual([
      500,
      "text/plain",
      "E internal_error",
    ]);
  });
});
