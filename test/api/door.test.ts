import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { makeApp } from "../../worker/app.ts";
import worker from "../../worker/index.ts";
import { actorWith } from "../support/actors.ts";
import { administrator, auditCount, type Client } from "../support/api.ts";
import { errorOf, visit } from "../support/door.ts";

const refusing = () => {
  const keys: string[] = [];
  const limit = async ({ key }: { key: string }) => {
    keys.push(key);
    return { success: false };
  };
  return { keys, binding: { limit } };
};

describe("before there is an administrator", () => {
  const body = { token: "wrong", actor_name: "root-admin" };
  const attempt = (from?: string) => visit("/api/v1/auth/bootstrap", { body, ...(from ? { from } : {}) });

  it("ten attempts a minute at the bootstrap token from one address, then 429; another address is not concerned", async () => {
    const answers = [];
    for (let i = 0; i < 11; i++) answers.push(await attempt("192.0.2.10"));
    expect(answers.map(({ status }) => status)).toEqual([...Array(10).fill(401), 429]);
    const last = answers.at(-1);
    expect(Number(last?.headers.get("Retry-After"))).toBeGreaterThan(0);
    expect(last && (await errorOf(last)).error).toBe("rate_limited");
    expect((await attempt("192.0.2.11")).status).toBe(401);
    expect((await attempt("2001:db8:1:2::1")).status).toBe(401);
  });

  it("where nobody can tell callers apart, nobody is shut out for another one's attempts", async () => {
    for (let i = 0; i < 12; i++) expect((await attempt()).status).toBe(401);
  });

  it("a failed attempt writes no audit event of its own", async () => {
    expect(await auditCount("bootstrap.consume_failed", "root-admin")).toBe(0);
  });
});

describe("with an administrator", () => {
  let admin: Client;
  let key: string;

  beforeAll(async () => {
    admin = await administrator();
    key = admin.key ?? "";
  });

  it("a closed bootstrap is a 410, whatever the body", async () => {
    for (const body of ["{", "{}", '{"token":1}', "x".repeat(5000)])
      expect((await admin.post("/api/v1/auth/bootstrap", body)).status).toBe(410);
    expect((await admin.post("/api/v1/auth/bootstrap", "x", { "Content-Type": "text/plain" })).status).toBe(410);
  });

  it("numbers of a query are decimal digits", async () => {
    for (const value of ["0x10", "1e2", "%205", "", "1.0", "-1", "0", "501", "٣", "99999999999"])
      expect([value, (await admin.get(`/api/v1/teams?per_page=${value}`)).status]).toEqual([value, 400]);
    expect((await admin.get<{ error: string; message: string }>("/api/v1/teams?page=0x1")).body.message).toContain(
      "page: must be a whole number",
    );
    expect((await admin.get("/api/v1/teams?per_page=007&page=1")).body).toMatchObject({ per_page: 7, page: 1 });
  });

  it("a body that breaks off is a 400 of the client's, however the runtime marks it", async () => {
    for (const headers of [{}, { "Content-Length": "100" }]) {
      const body = new ReadableStream({
        pull(controller) {
          controller.error(Object.assign(new Error("Network connection lost."), { retryable: true }));
        },
      });
      const request = new Request("http://localhost/api/v1/teams", {
        method: "POST",
        headers: { "Content-Type": "application/json", Authorization: `Bearer ${key}`, ...headers },
        body,
      });
      const answer = await makeApp().fetch(request, { ...env }, { waitUntil: () => undefined });
      expect([answer.status, (await errorOf(answer)).error]).toEqual([400, "body_incomplete"]);
    }
  });

  describe("rate limits", () => {
    it("an address is refused before anybody is authenticated, in the envelope, with Retry-After", async () => {
      const { keys, binding } = refusing();
      const ask = () => visit("/api/v1/auth/me", { from: "203.0.113.7", vars: { ADDRESS_LIMIT: binding } });
      const answers = [];
      for (let i = 0; i < 21; i++) answers.push(await ask());
      expect(answers.map(({ status }) => status)).toEqual([...Array(19).fill(401), 429, 429]);
      const [, last] = answers.slice(-2);
      expect(last?.headers.get("Retry-After")).toBe("10");
      expect(last?.headers.get("Content-Type")).toBe("application/json");
      expect(last && (await errorOf(last))).toMatchObject({ error: "rate_limited", request_id: expect.any(String) });
      // A refusal holds for a moment without asking again.
      expect(keys).toEqual(["203.0.113.7"]);
    });

    it("an IPv6 customer is one caller; pages and unknown paths count too; another address does not", async () => {
      const { keys, binding } = refusing();
      const vars = { ADDRESS_LIMIT: binding };
      for (let i = 0; i < 19; i++) await visit("/nowhere", { from: `2001:db8:7:1::${i + 1}`, vars });
      expect((await visit("/", { from: "2001:db8:7:1:ffff::1", vars })).status).toBe(429);
      expect(keys).toEqual(["2001:db8:7:1::/64"]);
      expect((await visit("/health", { from: "2001:db8:7:2::1", vars })).status).toBe(200);
    });

    it("without a known address, or switched off, no address is asked about", async () => {
      const { keys, binding } = refusing();
      const vars = { ADDRESS_LIMIT: binding, ACTOR_LIMIT: binding };
      const off = { ...vars, CERTCTL_RATE_LIMIT_ENABLED: "false" };
      const forged = { "CF-Connecting-IP": "203.0.113.8", "X-Forwarded-For": "203.0.113.8" };
      for (let i = 0; i < 25; i++) {
        expect((await visit("/health", { headers: forged, vars })).status).toBe(200);
        expect((await visit("/health", { from: "203.0.113.9", vars: off })).status).toBe(200);
      }
      expect(keys).toEqual([]);
    });

    it("an actor is refused after authentication, by who it is and from wherever", async () => {
      const { keys, binding } = refusing();
      const caller = await actorWith([{ role_id: "r-viewer" }], "busy");
      const ask = (from: number) =>
        visit("/api/v1/auth/me", {
          headers: { Authorization: `Bearer ${caller.key}` },
          from: `198.51.100.${from}`,
          vars: { ACTOR_LIMIT: binding, ADDRESS_LIMIT: null },
        });
      for (let i = 0; i < 499; i++) if ((await ask(i % 250)).status !== 200) throw new Error(`refused at ${i}`);
      const refused = await ask(1);
      expect([refused.status, refused.headers.get("Retry-After")]).toEqual([429, "10"]);
      expect(keys).toEqual(["APIKey:busy"]);
      const other = { headers: { Authorization: `Bearer ${key}` }, vars: { ACTOR_LIMIT: binding } };
      expect((await visit("/api/v1/auth/me", other)).status).toBe(200);
    });

    it("OCSP, CRL and CA certificates have no limit", async () => {
      const { keys, binding } = refusing();
      const vars = { ...env, ADDRESS_LIMIT: binding, ACTOR_LIMIT: binding };
      const context = { waitUntil: () => undefined } as unknown as ExecutionContext;
      for (const path of ["ca/iss-none", "crl/iss-none", "ocsp/iss-none/00"]) {
        for (let i = 0; i < 25; i++) {
          const init = { headers: { "CF-Connecting-IP": "203.0.113.7" }, cf: {} };
          const request = new Request(`http://localhost/.well-known/pki/${path}`, init);
          const { status } = await worker.fetch(request as never, vars, context);
          expect(status).toBe(404);
        }
      }
      expect(keys).toEqual([]);
    });
  });

  describe("CORS", () => {
    const vars = { CERTCTL_CORS_ORIGINS: "https://console.example.com,https://other.example.com:8443" };
    const Origin = "https://console.example.com";
    const corsOf = (response: Response) => [...response.headers.keys()].filter((name) => name.startsWith("access-"));
    const preflight = (path: string, origin: string, settings: Record<string, string> = vars) =>
      visit(path, {
        method: "OPTIONS",
        headers: { Origin: origin, "Access-Control-Request-Method": "PUT" },
        vars: settings,
      });

    it("is denied by default, to every origin", async () => {
      for (const origin of [Origin, "http://localhost", "null"]) {
        const answer = await visit("/health", { headers: { Origin: origin } });
        expect([answer.status, corsOf(answer), answer.headers.get("Vary")]).toEqual([200, [], null]);
        const asked = await preflight("/api/v1/teams/t-1", origin, {});
        expect([asked.status, corsOf(asked)]).toEqual([405, []]);
      }
    });

    it("an exact origin may send credentials and read what it needs, errors too", async () => {
      for (const [path, status] of [
        ["/health", 200],
        ["/api/v1/auth/me", 401],
        ["/nowhere", 404],
      ] as const) {
        const answer = await visit(path, { headers: { Origin }, vars });
        expect([path, answer.status]).toEqual([path, status]);
        expect(Object.fromEntries(answer.headers)).toMatchObject({
          "access-control-allow-origin": Origin,
          "access-control-allow-credentials": "true",
          "access-control-expose-headers":
            "ETag, Location, X-Request-ID, X-CSRF-Token, Retry-After, Idempotency-Replayed",
          vary: "Origin",
        });
      }
    });

    it("other origins get nothing, and caches are told that it depends", async () => {
      for (const origin of [
        "https://console.example.com.evil.example",
        "http://console.example.com",
        "https://CONSOLE.example.com",
        "https://console.example.com:443",
        "null",
        "*",
      ]) {
        const answer = await visit("/health", { headers: { Origin: origin }, vars });
        expect([origin, corsOf(answer), answer.headers.get("Vary")]).toEqual([origin, [], "Origin"]);
        const asked = await preflight("/api/v1/teams/t-1", origin);
        expect([origin, asked.status, corsOf(asked)]).toEqual([origin, 405, []]);
      }
      expect((await visit("/health", { vars })).headers.get("Vary")).toBe("Origin");
    });

    it("a preflight says the path's methods and our headers", async () => {
      const answer = await preflight("/api/v1/teams/t-1", "https://other.example.com:8443");
      expect(answer.status).toBe(204);
      expect(Object.fromEntries(answer.headers)).toMatchObject({
        "access-control-allow-origin": "https://other.example.com:8443",
        "access-control-allow-credentials": "true",
        "access-control-allow-methods": "DELETE, GET, HEAD, PUT",
        "access-control-allow-headers":
          "Content-Type, Authorization, X-Request-ID, X-CSRF-Token, Idempotency-Key, If-Match",
        "access-control-max-age": "86400",
        vary: "Origin",
      });
      const nowhere = await preflight("/nowhere", Origin);
      expect([nowhere.status, corsOf(nowhere)]).toEqual([404, []]);
      const noPreflight = await visit("/api/v1/teams", { method: "OPTIONS", headers: { Origin }, vars });
      expect([noPreflight.status, corsOf(noPreflight)]).toEqual([405, []]);
    });
  });

  it("the OpenAPI document is a file: what a client has is not sent again", async () => {
    const first = await visit("/openapi.json");
    expect(first.headers.get("Content-Type")).toContain("application/json");
    expect(Object.keys(((await first.json()) as { paths: object }).paths).length).toBeGreaterThan(60);
    const etag = first.headers.get("ETag") ?? "";
    const again = await visit("/openapi.json", { headers: { "If-None-Match": etag } });
    expect([again.status, again.headers.get("ETag")]).toEqual([304, etag]);
    expect((await visit("/openapi.json", { method: "POST" })).status).toBe(405);
  });

  describe("headers of every answer", () => {
    it("are on the API, on errors and on pages, with scripts from this host alone", async () => {
      for (const path of [
        "/health",
        "/api/v1/auth/me",
        "/nowhere",
        "/openapi.json",
        "/",
        "/login",
        "/assets/front.js",
      ]) {
        const { headers } = await visit(path);
        expect([path, headers.get("X-Content-Type-Options")]).toEqual([path, "nosniff"]);
        expect([path, headers.get("X-Frame-Options")]).toEqual([path, "DENY"]);
        expect([path, headers.get("Referrer-Policy")]).toEqual([path, "no-referrer"]);
        expect([path, headers.get("Cross-Origin-Resource-Policy")]).toEqual([path, "same-origin"]);
        const policy = headers.get("Content-Security-Policy") ?? "";
        expect([path, policy]).toEqual([path, expect.stringContaining("default-src 'none'")]);
        expect(policy).not.toMatch(/unsafe|\*|https?:/);
      }
      expect((await visit("/login")).headers.get("Content-Security-Policy")).toMatch(
        /connect-src 'self'.*form-action 'self'.*frame-ancestors 'none'/,
      );
    });

    it("HSTS on https alone, and never where certificates are checked", async () => {
      const hsts = "Strict-Transport-Security";
      for (const path of ["/health", "/api/v1/auth/me", "/"]) {
        expect((await visit(path, { origin: "https://pki.example.com" })).headers.get(hsts)).toBe("max-age=31536000");
        expect((await visit(path)).headers.get(hsts)).toBeNull();
        const claimed = await visit(path, { headers: { "X-Forwarded-Proto": "https" } });
        expect(claimed.headers.get(hsts)).toBeNull();
      }
      const context = { waitUntil: () => undefined } as unknown as ExecutionContext;
      const request = new Request("https://pki.example.com/.well-known/pki/ca/iss-none");
      expect((await worker.fetch(request as never, { ...env }, context)).headers.get(hsts)).toBeNull();
    });
  });

  it("a Host that is no plain authority is refused where the runtime makes the URL, too", async () => {
    const ask = async (Host: string, path: string) =>
      worker.fetch(new Request(`http://localhost${path}`, { headers: { Host } }) as never, { ...env }, {
        waitUntil: () => {},
      } as unknown as ExecutionContext);
    for (const path of ["/health", "/.well-known/pki/ca/x"]) {
      for (const host of ["x/health?", "u@localhost", "localhost:70000", "a, b"]) {
        const response = await ask(host, path);
        expect([host, response.status, (await errorOf(response)).error]).toEqual([host, 400, "invalid_host"]);
      }
    }
    expect((await ask("localhost:8787", "/health")).status).toBe(200);
  });

  it("tells how to sign in", async () => {
    const info = async (vars: Record<string, string> = { CERTCTL_BREAKGLASS_ENABLED: "false" }) =>
      (await visit("/api/v1/auth/info", { vars })).json() as Promise<Record<string, unknown>>;
    expect(await info()).toEqual({
      auth_type: "api-key",
      required: true,
      demo: false,
      breakglass: false,
      oidc_providers: [],
    });
    expect(await info({ CERTCTL_AUTH_TYPE: "oidc", CERTCTL_BREAKGLASS_ENABLED: "true" })).toMatchObject({
      auth_type: "oidc",
      breakglass: true,
    });
    await provider("op-on", "Staff", true);
    await provider("op-off", "Old", false);
    expect(await info()).toMatchObject({
      auth_type: "oidc",
      oidc_providers: [{ id: "op-on", name: "Staff", login_url: "/auth/oidc/login?provider=op-on" }],
    });
    expect(await info({ CERTCTL_AUTH_TYPE: "none" })).toMatchObject({ auth_type: "none", required: false, demo: true });
  });

  it("shows administrators the settings in force without a secret, and says that it did", async () => {
    const secrets = {
      CERTCTL_BOOTSTRAP_TOKEN: "hush-token",
      TRUSTED_PROXY_SECRET: "hush-proxy",
      CERTCTL_ALERT_WEBHOOK_URL: "https://hooks.example.com/hush-hook",
      CERTCTL_SESSION_IDLE_TIMEOUT: "30m",
    };
    const headers = { Authorization: `Bearer ${key}` };
    const answer = await visit("/api/v1/auth/runtime-config", { headers, vars: secrets });
    const text = await answer.text();
    expect(answer.status).toBe(200);
    expect(text).not.toMatch(/hush|AAECAwQF/);
    expect(JSON.parse(text)).toMatchObject({
      auth_type: "api-key",
      session_idle_timeout: 1800,
      session_absolute_timeout: 28_800,
      bootstrap_token_set: true,
      trusted_proxy_secret_set: true,
      alert_webhook_set: true,
      rate_limit_enabled: true,
      sealing_key_ids: ["test"],
    });
    expect(await auditCount("auth.runtime_config.read", "auth")).toBe(1);
    const viewer = await actorWith([{ role_id: "r-viewer" }]);
    expect((await viewer.get("/api/v1/auth/runtime-config")).status).toBe(403);
  });
});

async function provider(id: string, name: string, enabled: boolean): Promise<void> {
  await env.DB.prepare(
    `insert into oidc_providers (id, tenant_id, name, issuer_url, client_id, sealed_client_secret, redirect_uri, groups_claim_path,
      groups_claim_format, fetch_userinfo, scopes, allowed_email_domains, iat_window_seconds, jwks_cache_ttl_seconds, enabled,
      created_at, updated_at) values (?, 't-default', ?, 'https://idp.example.com', 'c', '', 'https://x.example.com/cb', 'groups',
      'string-array', 0, '["openid"]', '[]', 300, 3600, ?, '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z')`,
  )
    .bind(id, name, enabled ? 1 : 0)
    .run();
}
