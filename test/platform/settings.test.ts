import { readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { parseSettings } from "../../src/platform/settings.ts";

const PROJECT = path.resolve(import.meta.dirname, "../..");
/** What the start and the build say to the Worker, and tests; nobody sets them. */
const INTERNAL = /^CERTCTL_(?:VERSION|COMMIT|BUILD_TIME|LOCAL|TARGETS_AS_SENT|CHECK_ANSWERS)$/;

describe("settings", () => {
  it("are told of in README, each of them", () => {
    const readme = readFileSync(path.join(PROJECT, "README.md"), "utf8");
    const source = readFileSync(path.join(PROJECT, "src/platform/settings.ts"), "utf8");
    const names = [...source.matchAll(/"(CERTCTL_[A-Z_]+|OUTBOUND_ALLOW|TRUSTED_PROXY_SECRET)"/g)].map(
      ([, name = ""]) => name,
    );
    expect(names.length).toBeGreaterThan(20);
    expect(names.filter((name) => !INTERNAL.test(name) && !readme.includes(`\`${name}\``))).toEqual([]);
  });

  it.each([
    ["CERTCTL_ALERT_WEBHOOK_URL", "hooks.example.com/alerts"],
    ["CERTCTL_ALERT_WEBHOOK_URL", "file:///etc/passwd"],
    ["CERTCTL_BREAKGLASS_LOCKOUT_THRESHOLD", "5m"],
    ["CERTCTL_BREAKGLASS_LOCKOUT_THRESHOLD", "0"],
    ["CERTCTL_SESSION_IDLE_TIMEOUT", "1w"],
  ])("%s=%s is refused by name, without the value", (name, value) => {
    expect(() => parseSettings({ [name]: value })).toThrow(new RegExp(`^${name} must be (?!.*${value})`));
  });

  it("the provider of the first administrator may need scopes of its own and the userinfo endpoint", () => {
    const vars = {
      CERTCTL_BOOTSTRAP_OIDC_ISSUER_URL: "https://org.okta.com",
      CERTCTL_BOOTSTRAP_OIDC_CLIENT_ID: "certctl",
      CERTCTL_BOOTSTRAP_OIDC_REDIRECT_URI: "https://pki.example.com/auth/oidc/callback",
    };
    expect(parseSettings(vars).auth.bootstrapProvider).toMatchObject({ fetch_userinfo: false });
    expect(parseSettings(vars).auth.bootstrapProvider).not.toHaveProperty("scopes");
    const more = {
      CERTCTL_BOOTSTRAP_OIDC_SCOPES: "openid, email groups",
      CERTCTL_BOOTSTRAP_OIDC_FETCH_USERINFO: "true",
    };
    expect(parseSettings({ ...vars, ...more }).auth.bootstrapProvider).toMatchObject({
      scopes: ["openid", "email", "groups"],
      fetch_userinfo: true,
    });
  });
});
