import { beforeAll, describe, expect, it } from "vitest";
import { administrator } from "../support/api.ts";
import { errorOf, type Visitor, visit } from "../support/door.ts";

const none = { CERTCTL_AUTH_TYPE: "none" };
const acknowledged = (secondsAgo = 60) => ({
  ...none,
  CERTCTL_DEMO_MODE_ACK: "true",
  CERTCTL_DEMO_MODE_ACK_TS: String(Math.floor(Date.now() / 1000) - secondsAgo),
  CERTCTL_PUBLIC_URL: "https://demo.example.com",
});

const me = (visitor: Visitor) => visit("/api/v1/auth/me", { vars: none, ...visitor });

async function refusedFor(visitor: Visitor): Promise<string> {
  const answer = await me(visitor);
  const { error, message } = await errorOf(answer);
  expect([answer.status, error]).toEqual([403, "demo_mode_refused"]);
  return message;
}

beforeAll(async () => void (await administrator()));

describe("the demo mode", () => {
  it("makes everybody on this machine an administrator, and nobody when it is off", async () => {
    for (const origin of ["http://localhost:8787", "http://127.0.0.1", "http://127.8.9.1:99", "http://[::1]:8787"]) {
      const answer = await me({ origin });
      expect([origin, answer.status]).toEqual([origin, 200]);
      expect(await answer.json()).toMatchObject({
        actor_id: "actor-demo-anon",
        actor_type: "Anonymous",
        admin: true,
        roles: ["r-admin"],
      });
    }
    expect((await me({ vars: {} })).status).toBe(401);
    expect((await visit("/api/v1/teams", { body: { name: "Demo" }, vars: none })).status).toBe(201);
  });

  it("a credential that is shown counts, and has to be valid", async () => {
    expect((await me({ headers: { Authorization: `Bearer certctl_${"a".repeat(43)}` } })).status).toBe(401);
  });

  it("refuses what DNS could point here: any Host that is no loopback name", async () => {
    for (const origin of [
      "http://evil.example",
      "http://evil.localhost",
      "http://localhost.evil.example",
      "http://localhost.",
      "http://127.0.0.1.evil.example",
      "http://128.0.0.1",
      "http://0.0.0.0",
      "http://[::]",
      "http://[::ffff:127.0.0.1]",
      "http://192.168.1.5:8787",
    ])
      expect(await refusedFor({ origin })).toContain("Host must be localhost");
    for (const Host of ["evil.example", "localhost@evil.example", "", "a b"])
      expect(await refusedFor({ headers: { Host } })).toContain("Host");
    expect((await me({ headers: { Host: "LOCALHOST:80" } })).status).toBe(200);
  });

  it("refuses what a page elsewhere makes a browser send", async () => {
    for (const Origin of ["https://evil.example", "null", "http://localhost.evil.example", "https://pki.test"])
      expect(await refusedFor({ headers: { Origin } })).toContain("Origin");
    expect(await refusedFor({ headers: { "Sec-Fetch-Site": "cross-site" } })).toContain("another site");
    for (const headers of [{ Origin: "http://localhost:3000" }, { "Sec-Fetch-Site": "same-origin" }] as const)
      expect((await me({ headers: { ...headers } })).status).toBe(200);
  });

  it("lets no page on another port of this machine change anything", async () => {
    const origin = "http://localhost:8787";
    const post = (headers: Record<string, string>, more: Visitor = {}) =>
      visit("/api/v1/teams", { origin, vars: none, method: "POST", headers, ...more });
    for (const headers of [
      { Origin: "http://localhost:3000" },
      { Origin: "http://127.0.0.1:8787" },
      { "Sec-Fetch-Site": "same-site" },
      { Origin: "null" },
    ]) {
      const answer = await post({ ...headers } as Record<string, string>);
      expect([headers, answer.status, (await errorOf(answer)).error]).toEqual([headers, 403, "demo_mode_refused"]);
    }
    // The missing body is what is wrong with these: they came in.
    for (const headers of [{}, { Origin: origin, "Sec-Fetch-Site": "same-origin" }, { "Sec-Fetch-Site": "none" }])
      expect([headers, [400, 415]]).toEqual([headers, expect.arrayContaining([(await post({ ...headers })).status])]);
    const open = { origin: "https://demo.example.com", vars: acknowledged() };
    expect((await post({ Origin: "https://demo.example.com" }, open)).status).not.toBe(403);
    expect((await post({ Origin: "http://localhost:8787" }, open)).status).toBe(403);
  });

  it("elsewhere only with an acknowledgement of this day, and only under the public URL", async () => {
    const origin = "https://demo.example.com";
    expect((await me({ origin, vars: acknowledged() })).status).toBe(200);
    expect((await me({ origin, vars: acknowledged(), headers: { Origin: origin } })).status).toBe(200);
    expect((await me({ origin, vars: acknowledged(), from: "203.0.113.1" })).status).toBe(200);
    expect(await refusedFor({ origin: "https://other.example.com", vars: acknowledged() })).toContain(
      "CERTCTL_PUBLIC_URL",
    );
    expect(await refusedFor({ origin, vars: acknowledged(), headers: { Origin: "https://evil.example" } })).toContain(
      "Origin",
    );
    // A day later, or from the future: then it would hold for longer than a day.
    expect(await refusedFor({ origin, vars: acknowledged(86_401) })).toContain("Host");
    expect(await refusedFor({ origin, vars: acknowledged(-600) })).toContain("Host");
    expect(await refusedFor({ origin: "http://localhost", from: "203.0.113.1" })).toContain("Cloudflare");
  });

  it("where strangers can connect, a loopback Host proves nothing once the acknowledgement is over", async () => {
    const exposed = { ...acknowledged(), CERTCTL_LOCAL: "network" };
    expect((await me({ vars: exposed })).status).toBe(200);
    expect(await refusedFor({ vars: { ...acknowledged(86_401), CERTCTL_LOCAL: "network" } })).toContain("no loopback");
    for (const name of ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"])
      expect(await refusedFor({ headers: { [name]: "127.0.0.1" } })).toContain("behind a proxy");
  });

  it("leaves public routes to everybody, and the agents' own to agents", async () => {
    expect((await visit("/health", { origin: "http://evil.example", vars: none })).status).toBe(200);
    expect((await visit("/api/v1/auth/info", { origin: "http://evil.example", vars: none })).status).toBe(200);
  });
});
