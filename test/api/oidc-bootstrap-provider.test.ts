import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { authInfo } from "../../src/identity/info.ts";
import { finishSignIn, startSignIn } from "../../src/identity/oidc/sign-in.ts";
import { Client } from "../support/api.ts";
import { Browser, context } from "../support/browser.ts";
import { testIdp } from "../support/idp-client.ts";
import { REDIRECT_URI } from "../support/oidc.ts";

const idp = testIdp();

const SETTINGS = {
  CERTCTL_BOOTSTRAP_ADMIN_GROUPS: "founders",
  CERTCTL_BOOTSTRAP_OIDC_ISSUER_URL: idp.issuer,
  CERTCTL_BOOTSTRAP_OIDC_CLIENT_ID: "certctl",
  CERTCTL_BOOTSTRAP_OIDC_CLIENT_SECRET: "s3cret-of-the-client",
  CERTCTL_BOOTSTRAP_OIDC_REDIRECT_URI: REDIRECT_URI,
};

async function providers() {
  const { results } = await env.DB.prepare("select * from oidc_providers").all<{ id: string; issuer_url: string }>();
  return results;
}

/** The tests of this file are one story: a fresh installation that nobody can administer yet. */
describe("the provider of the settings", () => {
  it("is not made without groups that could become administrators, nor of settings that are wrong", async () => {
    const bad = [
      { ...SETTINGS, CERTCTL_BOOTSTRAP_ADMIN_GROUPS: "" },
      { ...SETTINGS, CERTCTL_BOOTSTRAP_OIDC_ISSUER_URL: "http://idp.test/plain" },
      { ...SETTINGS, CERTCTL_BOOTSTRAP_OIDC_REDIRECT_URI: "https://pki.test/somewhere/else" },
    ];
    for (const settings of bad) expect(await authInfo(context(settings))).toMatchObject({ oidc_providers: [] });
    const { CERTCTL_BOOTSTRAP_OIDC_CLIENT_ID: _, ...incomplete } = SETTINGS;
    expect(() => context(incomplete)).toThrow("set all three or none");
    expect(await providers()).toEqual([]);
  });

  it("is made once by racing requests, its secret sealed, and makes its group's member the administrator", async () => {
    const infos = await Promise.all([1, 2, 3].map(() => authInfo(context(SETTINGS))));
    for (const info of infos) expect(info.oidc_providers.length).toBeLessThanOrEqual(1);
    expect(await authInfo(context(SETTINGS))).toMatchObject({
      auth_type: "oidc",
      oidc_providers: [{ id: "op-bootstrap" }],
    });
    const rows = await providers();
    expect(rows).toMatchObject([{ id: "op-bootstrap", issuer_url: idp.issuer }]);
    expect(JSON.stringify(rows)).not.toContain("s3cret");

    const ctx = context(SETTINGS);
    const start = await startSignIn(ctx, undefined, "/");
    const { searchParams } = new URL(start.headers?.Location ?? "");
    const claims = { sub: "ada", groups: ["founders"], nonce: searchParams.get("nonce") };
    await idp.script({ codes: { "code-1": { claims } } });
    const browser = new Browser().keep(start.cookies ?? []);
    const query = { code: "code-1", state: searchParams.get("state") ?? "", iss: idp.issuer };
    const reply = await finishSignIn(ctx, query, browser.request("/auth/oidc/callback"));
    expect(reply.headers).toMatchObject({ Location: "/" });
    const admins = await env.DB.prepare("select actor_type, role_id from actor_roles").all();
    expect(admins.results).toEqual([{ actor_type: "User", role_id: "r-admin" }]);
    expect((await new Client(null).get("/api/v1/auth/bootstrap")).body).toEqual({ available: false });
  });

  it("is not made again once there is an administrator, nor changed by other settings", async () => {
    const other = context({ ...SETTINGS, CERTCTL_BOOTSTRAP_OIDC_ISSUER_URL: "https://idp.test/another" });
    await authInfo(other);
    expect(await providers()).toMatchObject([{ id: "op-bootstrap", issuer_url: idp.issuer }]);
  });
});
