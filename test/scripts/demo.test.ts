import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { demoRefusal, demoWarning } from "../../scripts/local/demo.ts";
import { localSettings, PROJECT, StartError } from "../../scripts/local/settings.ts";
import { parseSettings } from "../../src/platform/settings.ts";
import { environment, startServer } from "../support/server.ts";

const NOW = Date.parse("2026-11-24T12:00:00Z");
const acknowledged = (at: number) => ({
  CERTCTL_AUTH_TYPE: "none",
  CERTCTL_DEMO_MODE_ACK: "true",
  CERTCTL_DEMO_MODE_ACK_TS: String(at / 1000),
});

const ends: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

describe("the demo mode at the start", () => {
  const refusal = (vars: Record<string, string>, ...addresses: string[]) =>
    demoRefusal(parseSettings(vars).auth, addresses, NOW);

  test("is for loopback addresses", () => {
    const none = { CERTCTL_AUTH_TYPE: "none" };
    expect(refusal(none, "127.0.0.1", "::1", "127.0.0.9")).toBeNull();
    expect(refusal({}, "0.0.0.0")).toBeNull();
    for (const address of ["0.0.0.0", "::", "192.168.1.5", "fd00::1", "myhost", "localhost.example.com"])
      expect([address, refusal(none, "127.0.0.1", address)]).toEqual([
        address,
        expect.stringContaining(`everybody who reaches ${address} an administrator, and there is no acknowledgement`),
      ]);
  });

  test("is for others for a day after it was acknowledged", () => {
    expect(refusal(acknowledged(NOW - 60_000), "0.0.0.0")).toBeNull();
    expect(refusal(acknowledged(NOW - 86_300_000), "0.0.0.0")).toBeNull();
    for (const at of [NOW - 86_400_000, NOW + 120_000])
      expect(refusal(acknowledged(at), "0.0.0.0")).toContain("it holds for 24 hours from CERTCTL_DEMO_MODE_ACK_TS");
  });

  test("warns, and says who can reach it", () => {
    const warning = (vars: Record<string, string>) => demoWarning(parseSettings(vars).auth, NOW);
    expect(warning({})).toBeNull();
    expect(warning({ CERTCTL_AUTH_TYPE: "none" })).toMatch(
      /^WARNING: DEMO MODE .* from this machine is an administrator/,
    );
    expect(warning({ CERTCTL_AUTH_TYPE: "none" })).toContain("API keys that it makes go on when the mode is off");
    expect(warning(acknowledged(NOW))).toContain("from everywhere until 2026-11-25T12:00:00.000Z");
  });

  test("every setting that the Worker could not use ends the start, by name", () => {
    for (const [name, value] of [
      ["CERTCTL_AUTH_TYPE", "nobody"],
      ["CERTCTL_CORS_ORIGINS", "*"],
      ["CERTCTL_SESSION_IDLE_TIMEOUT", "soon"],
      ["CERTCTL_RATE_LIMIT_ENABLED", "yes"],
      ["CERTCTL_PUBLIC_URL", "ftp://x"],
    ] as const) {
      expect(() => localSettings({}, { [name]: value }, {})).toThrow(StartError);
      expect(() => localSettings({}, {}, { [name]: value })).toThrow(name);
    }
  });

  test("nobody but the start script says whether Cloudflare is in front", () => {
    const local = (env: Record<string, string>) => localSettings({}, { CERTCTL_LOCAL: "no" }, env).vars.CERTCTL_LOCAL;
    expect(local({ CERTCTL_LOCAL: "" })).toBe("loopback");
    expect(local({ HOST: "127.0.0.1,0.0.0.0", CERTCTL_LOCAL: "loopback" })).toBe("network");
  });
});

describe("npm start in the demo mode", () => {
  test("refuses to listen to the network, before anything is written", { timeout: 120_000 }, () => {
    const stateDir = mkdtempSync(path.join(tmpdir(), "certctl-edge-demo-"));
    ends.push(() => rmSync(stateDir, { recursive: true, force: true, maxRetries: 5 }));
    const { status, stdout, stderr } = spawnSync(process.execPath, ["scripts/run.mjs", "start"], {
      cwd: PROJECT,
      env: environment({ PORT: "0", STATE_DIR: stateDir, HOST: "0.0.0.0", CERTCTL_AUTH_TYPE: "none" }),
      encoding: "utf8",
      timeout: 110_000,
    });
    expect([status, stdout]).toEqual([1, ""]);
    expect(stderr).toContain("CERTCTL_AUTH_TYPE=none makes everybody who reaches 0.0.0.0 an administrator");
    expect(existsSync(path.join(stateDir, ".dev.vars"))).toBe(false);
  });

  test("warns, and takes no other site's word; no header makes anybody's address", { timeout: 180_000 }, async () => {
    const server = await startServer({ vars: { CERTCTL_AUTH_TYPE: "none", TRUSTED_PROXY_SECRET: "proven" } });
    ends.push(() => server.stop());
    expect(server.log()).toContain("WARNING: DEMO MODE");
    const me = (headers: Record<string, string>) => ask(server.port, "/api/v1/auth/me", headers);
    expect(await me({})).toContain("actor-demo-anon");
    expect(await me({ Host: "evil.example" })).toContain("demo_mode_refused");
    expect(await me({ Origin: "https://evil.example" })).toContain("demo_mode_refused");
    // What tells Cloudflare's requests apart inside of Miniflare, and what Cloudflare would say of the address.
    const forged = {
      "MF-CF-Blob": '{"colo":"FRA"}',
      "CF-Connecting-IP": "203.0.113.9",
      "X-Forwarded-For": "203.0.113.9",
    };
    expect(await me(forged)).toContain("it answers behind a proxy only while");
    expect(await me({ "MF-CF-Blob": forged["MF-CF-Blob"], "CF-Connecting-IP": "203.0.113.9" })).toContain(
      "actor-demo-anon",
    );
    const attempt = (headers: Record<string, string>) =>
      ask(
        server.port,
        "/api/v1/auth/bootstrap",
        { ...headers, "Content-Type": "application/json" },
        '{"token":"x","actor_name":"first"}',
      );
    // The brake on an address' attempts is only for addresses that are known: twelve attempts, none refused.
    for (let i = 0; i < 12; i++) expect(await attempt(forged)).toContain("bootstrap_token_invalid");
    const proxied = { "X-Trusted-Proxy-Secret": "proven", "X-Forwarded-For": "6.6.6.6, 203.0.113.9" };
    for (let i = 0; i < 10; i++) expect(await attempt(proxied)).toContain("bootstrap_token_invalid");
    expect(await attempt(proxied)).toContain("rate_limited");
    expect(await attempt({ ...proxied, "X-Forwarded-For": "203.0.113.9, 203.0.113.10" })).toContain(
      "bootstrap_token_invalid",
    );
  });
});

/** One request with any Host: fetch would not let it be chosen. */
function ask(port: number, path: string, headers: Record<string, string>, body?: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = http.request(
      { host: "127.0.0.1", port, path, headers, method: body ? "POST" : "GET" },
      (answer) => {
        let text = "";
        answer.setEncoding("utf8").on("data", (chunk: string) => {
          text += chunk;
        });
        answer.on("end", () => resolve(text));
      },
    );
    request.on("error", reject);
    request.end(body);
  });
}
