import { env, exports } from "cloudflare:workers";
import { describe, expect, it } from "vitest";

const { DB } = env;

function call(path: string, init: RequestInit = {}): Promise<Response> {
  return exports.default.fetch(new Request(`http://localhost${path}`, init));
}

async function errorOf(response: Response) {
  return (await response.json()) as { error: string; message: string; request_id: string };
}

describe("the door", () => {
  it("answers liveness, readiness and version without a credential", async () => {
    for (const path of ["/health", "/ready", "/api/v1/version", "/api/v1/auth/info"]) {
      const response = await call(path);
      expect(response.status, path).toBe(200);
      expect(response.headers.get("Cache-Control")).toBe("no-store");
    }
  });

  it("inv 10: an unknown path is a 404 in the envelope, a wrong method a 405 with Allow", async () => {
    const missing = await call("/nope");
    expect(missing.status).toBe(404);
    expect(await errorOf(missing)).toMatchObject({ error: "not_found", request_id: expect.any(String) });
    const wrong = await call("/api/v1/auth/bootstrap", { method: "DELETE" });
    expect(wrong.status).toBe(405);
    expect(wrong.headers.get("Allow")).toBe("GET, HEAD, POST");
  });

  it("echoes a well-formed request id and replaces another", async () => {
    expect((await call("/health", { headers: { "X-Request-ID": "abc-12345678" } })).headers.get("X-Request-ID")).toBe(
      "abc-12345678",
    );
    expect(
      (await call("/health", { headers: { "X-Request-ID": "no spaces allowed" } })).headers.get("X-Request-ID"),
    ).toMatch(/^req-/);
  });

  it("inv 7: a route with a permission is a 401 without and with a garbage credential", async () => {
    expect((await call("/api/v1/auth/me")).status).toBe(401);
    expect((await call("/api/v1/auth/me", { headers: { Authorization: "Basic abc" } })).status).toBe(401);
    expect(
      (await call("/api/v1/auth/me", { headers: { Authorization: `Bearer certctl_${"a".repeat(43)}` } })).status,
    ).toBe(401);
  });
});

describe("bootstrap", () => {
  const post = (body: unknown, type = "application/json") =>
    call("/api/v1/auth/bootstrap", {
      method: "POST",
      body: typeof body === "string" ? body : JSON.stringify(body),
      headers: { "Content-Type": type },
    });

  it("refuses bad bodies with the status that says what is wrong", async () => {
    expect((await post({ token: "test-bootstrap-token", actor_name: "x" })).status).toBe(400);
    expect(await errorOf(await post({ token: "t", actor_name: "root-admin", extra: 1 }))).toMatchObject({
      message: expect.stringContaining("extra"),
    });
    expect((await post("{")).status).toBe(400);
    expect(await errorOf(await post('{"token":"t\\ud800","actor_name":"root-admin"}'))).toMatchObject({
      error: "malformed_json",
    });
    expect(await errorOf(await post('{"token":"t","actor_name":"root-admin","\\u005f_proto__":{}}'))).toMatchObject({
      message: expect.stringContaining("no field may be called __proto__"),
    });
    expect(await errorOf(await post(`{"token":${"[".repeat(65)}${"]".repeat(65)}}`))).toMatchObject({
      message: expect.stringContaining("nests deeper"),
    });
    expect((await post('{"token":"\\ud83d\\udd11","actor_name":"root-admin"}')).status).toBe(401);
    expect((await post({}, "text/plain")).status).toBe(415);
    expect((await post(`{"token":"${"x".repeat(5000)}","actor_name":"root-admin"}`)).status).toBe(413);
    expect((await post({ token: "wrong", actor_name: "root-admin" })).status).toBe(401);
  });

  it("makes no administrator who could not be managed by its name: what stands for somebody else is refused", async () => {
    for (const actor_name of ["actor-demo-anon", "anonymous", "system", "ak-x1", "u-someone"])
      expect((await post({ token: "test-bootstrap-token", actor_name })).status, actor_name).toBe(400);
    expect((await post({ token: "wrong", actor_name: "anonymous" })).status).toBe(401);
  });

  it("of two racing calls one gets the key, the other and all later ones 410", async () => {
    expect(await (await call("/api/v1/auth/bootstrap")).json()).toEqual({ available: true });
    // Whoever holds a key of somebody who is there, as the demo mode makes, gets no administrator's rights by the name.
    await DB.batch([
      DB.prepare(
        `insert into api_keys (id, actor_id, actor_type, name, prefix, key_hash, created_by, created_at)
         values ('ak-demo', 'has-key', 'APIKey', 'has-key', 'x', 'x', 'x', '2026-01-01T00:00:00.000Z')`,
      ),
      DB.prepare(
        `insert into actor_roles (id, actor_id, actor_type, role_id, scope_type, scope_id, granted_by, created_at)
         values ('ar-demo', 'has-role', 'APIKey', 'r-viewer', 'global', '', 'x', '2026-01-01T00:00:00.000Z')`,
      ),
    ]);
    for (const actor_name of ["has-key", "has-role"]) {
      const taken = await post({ token: "test-bootstrap-token", actor_name });
      expect([taken.status, await taken.json()]).toEqual([409, expect.objectContaining({ error: "already_exists" })]);
    }
    expect(await (await call("/api/v1/auth/bootstrap")).json()).toEqual({ available: true });
    await DB.batch([DB.prepare("delete from api_keys"), DB.prepare("delete from actor_roles")]);
    const answers = await Promise.all(
      [1, 2].map((n) => post({ token: "test-bootstrap-token", actor_name: `admin-${n}` })),
    );
    expect(answers.map((answer) => answer.status).sort()).toEqual([201, 410]);
    const winner = answers.find((answer) => answer.status === 201);
    if (!winner) throw new Error("nobody got the key");
    const key = ((await winner.json()) as { key_value: string }).key_value;
    expect(key).toMatch(/^certctl_[A-Za-z0-9_-]{43}$/);
    expect((await post({ token: "test-bootstrap-token", actor_name: "admin-three" })).status).toBe(410);
    expect(await (await call("/api/v1/auth/bootstrap")).json()).toEqual({ available: false });

    const me = await call("/api/v1/auth/me", { headers: { Authorization: `Bearer ${key}` } });
    expect(await me.json()).toMatchObject({ admin: true, roles: ["r-admin"], actor_type: "APIKey" });
    const stored = await DB.prepare("select key_hash, prefix from api_keys").first<{
      key_hash: string;
      prefix: string;
    }>();
    expect(JSON.stringify(stored)).not.toContain(key.slice(20));
  });

  it("inv 3: the audit log cannot be changed or emptied", async () => {
    await expect(async () => {
      await DB.prepare("update audit_events set action = 'x'").run();
    }).rejects.toThrow(/never changed/);
    await expect(async () => {
      await DB.prepare("delete from audit_events").run();
    }).rejects.toThrow(/never deleted/);
  });
});
