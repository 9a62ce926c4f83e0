import { beforeAll, describe, expect, it } from "vitest";
import { administrator, auditCount, type Client } from "../support/api.ts";
import { testIdp } from "../support/idp-client.ts";
import { newProvider } from "../support/oidc-admin.ts";

/** What the API tells of a provider's documents: refresh, status and dry run, against one that is in order and ones that are not. */

const PROVIDERS = "/api/v1/auth/oidc/providers";

let admin: Client;
beforeAll(async () => {
  admin = await administrator();
});

describe("refresh and status", () => {
  it("tell what was fetched, with true counters", async () => {
    const idp = testIdp();
    const path = `${PROVIDERS}/${(await newProvider(admin, { issuer_url: idp.issuer })).id}`;
    const untouched = { current_kids: [], refresh_count: 0, rejected_jws_count: 0, iss_param_supported: false };
    expect((await admin.get(`${path}/jwks-status`)).body).toEqual(untouched);
    expect(await admin.post(`${path}/refresh`)).toMatchObject({ status: 200, body: { refreshed: true } });
    const kids = await idp.rotate();
    await admin.post(`${path}/refresh`);
    expect((await admin.get(`${path}/jwks-status`)).body).toEqual({
      current_kids: kids,
      refresh_count: 2,
      rejected_jws_count: 0,
      iss_param_supported: true,
      last_refresh_at: expect.any(String),
    });
    expect(await auditCount("auth.oidc_provider.refresh", path.split("/").at(-1) ?? "")).toBe(2);
  });

  it("a provider that fails is a 502 that says how, and the status keeps it until it is well again", async () => {
    const idp = testIdp();
    const path = `${PROVIDERS}/${(await newProvider(admin, { issuer_url: idp.issuer })).id}`;
    await idp.script({ misbehave: { jwks: "error" } });
    expect(await admin.post(`${path}/refresh`)).toMatchObject({
      status: 502,
      body: { error: "provider_failed", message: "jwks_uri: idp.test answered 500 instead of 200" },
    });
    expect((await admin.get(`${path}/jwks-status`)).body).toMatchObject({
      current_kids: [],
      refresh_count: 0,
      last_error: "jwks_uri: idp.test answered 500 instead of 200",
    });
    await idp.script({ misbehave: {} });
    expect((await admin.post(`${path}/refresh`)).status).toBe(200);
    expect((await admin.get(`${path}/jwks-status`)).body).not.toHaveProperty("last_error");
  });

  it("an edited issuer counts at once", async () => {
    const [first, second] = [testIdp(), testIdp()];
    const path = `${PROVIDERS}/${(await newProvider(admin, { issuer_url: first.issuer })).id}`;
    await admin.post(`${path}/refresh`);
    expect((await admin.put(path, { issuer_url: second.issuer, client_secret: "its own" })).status).toBe(200);
    expect((await admin.get(`${path}/jwks-status`)).body).toMatchObject({ current_kids: [], refresh_count: 1 });
    await admin.post(`${path}/refresh`);
    expect((await admin.get(`${path}/jwks-status`)).body.current_kids).toEqual(await second.script({}));
  });
});

const test = (body: Record<string, unknown>) => admin.post("/api/v1/auth/oidc/test", body);

describe("the dry run", () => {
  it("shows what a provider would be like, and stores nothing", async () => {
    const idp = testIdp();
    const kids = await idp.script({});
    const answer = await test({ issuer_url: idp.issuer, client_id: "x", client_secret: "y", scopes: ["openid"] });
    expect(answer.status).toBe(200);
    expect(answer.body).toEqual({
      discovery_succeeded: true,
      jwks_reachable: true,
      supported_alg_values: ["RS256", "ES256"],
      iss_param_supported: true,
      issuer_echo: idp.issuer,
      authorization_url: `${idp.issuer}/authorize`,
      token_url: `${idp.issuer}/token`,
      jwks_uri: `${idp.issuer}/jwks`,
      userinfo_endpoint: `${idp.issuer}/userinfo`,
      current_kids: kids,
      errors: [],
    });
    const seen = await idp.requests();
    expect(seen.map(({ method, path }) => `${method} ${path}`)).toEqual([
      "GET /.well-known/openid-configuration",
      "GET /jwks",
    ]);
    expect(JSON.stringify(seen)).not.toContain('"y"');
  });

  it.each([
    ["answers 500", { misbehave: { discovery: "error" } }, false, false, "answered 500"],
    ["serves 100 MB", { misbehave: { discovery: "huge" } }, false, false, "more than 262144 bytes"],
    ["serves broken JSON", { misbehave: { discovery: "broken-json" } }, false, false, "not JSON"],
    ["serves a list", { misbehave: { discovery: "not-an-object" } }, false, false, "not an object"],
    ["redirects", { misbehave: { discovery: "redirect" } }, false, false, "redirect"],
    ["is another issuer", { discovery: { issuer: "https://idp.test/" } }, false, true, "issuer: "],
    ["has no issuer", { discovery: { issuer: null } }, false, true, "nobody (it is absent)"],
    ["has no jwks_uri", { discovery: { jwks_uri: null } }, false, false, "jwks_uri: is absent"],
    ["has plain http", { discovery: { token_endpoint: "http://a.test/" } }, false, true, "token_endpoint: "],
    [
      "has a script",
      { discovery: { authorization_endpoint: "javascript:1" } },
      false,
      true,
      "authorization_endpoint: ",
    ],
    ["names loopback", { discovery: { jwks_uri: "https://127.0.0.1/" } }, false, false, "OUTBOUND_ALLOW"],
    [
      "has no algorithm",
      { discovery: { id_token_signing_alg_values_supported: ["none"] } },
      false,
      true,
      "has none of",
    ],
    ["keys answer 500", { misbehave: { jwks: "error" } }, true, false, "jwks_uri: idp.test answered 500"],
    ["keys are 100 MB", { misbehave: { jwks: "huge" } }, true, false, "jwks_uri: idp.test answered more than"],
    ["keys redirect", { misbehave: { jwks: "redirect" } }, true, false, "jwks_uri: idp.test answered with a redirect"],
    ["keys are broken", { misbehave: { jwks: "broken-json" } }, true, false, "jwks_uri: idp.test answered what is not"],
    [
      "a key is symmetric",
      { more_keys: [{ kty: "oct", k: "AA", kid: "s" }] },
      true,
      true,
      'key 1 (kid "s") is symmetric',
    ],
    ["a key is private", { more_keys: [{ kty: "RSA", n: "AA", e: "AQAB", d: "AA" }] }, true, true, "private members"],
  ] as const)("names it when a provider %s", async (_name, script, discovered, reachable, message) => {
    const idp = testIdp();
    await idp.script(script);
    const { status, body } = await test({ issuer_url: idp.issuer });
    expect(status).toBe(200);
    expect(body).toMatchObject({ discovery_succeeded: discovered, jwks_reachable: reachable });
    expect(body.errors).toEqual([expect.stringContaining(message)]);
  });

  it("ends when a provider hangs", async () => {
    const idp = testIdp();
    await idp.script({ misbehave: { discovery: "hang" } });
    const { body } = await test({ issuer_url: idp.issuer });
    expect(body.errors).toEqual(["discovery: idp.test did not answer"]);
  });

  it("names everything at once", async () => {
    const idp = testIdp();
    await idp.script({ discovery: { issuer: "https://x.test", token_endpoint: null, scopes_supported: ["openid"] } });
    const { body } = await test({ issuer_url: idp.issuer, scopes: ["email"] });
    expect(body.errors).toEqual([
      expect.stringMatching(/^issuer: /),
      expect.stringMatching(/^token_endpoint: /),
      "scopes: must have openid",
      expect.stringContaining('"email"'),
    ]);
  });

  it.each(["http://127.0.0.1:1", "https://169.254.169.254", "http://idp.test/plain", "https://idp.test/x?y"])(
    "does not go to %s",
    async (issuer_url) => {
      const { status, body } = await test({ issuer_url });
      expect(status).toBe(200);
      expect(body).toMatchObject({ discovery_succeeded: false, jwks_reachable: false, current_kids: [] });
      expect(body.errors).toHaveLength(1);
    },
  );

  it("is a 400 for what is no question", async () => {
    for (const body of [{}, { issuer_url: "nothing" }, { issuer_url: 1 }, { issuer_url: "https://a.test", other: 1 }])
      expect((await test(body)).status).toBe(400);
  });
});
