import path from "node:path";
import { cloudflareTest, readD1Migrations } from "@cloudflare/vitest-plugin";
import { defineConfig } from "vitest/config";
import { identityProvider } from "./test/support/idp.ts";

/** Secrets of the tests alone: the project's own .dev.vars is never read. */
const TEST_BINDINGS = {
  CERTCTL_BOOTSTRAP_TOKEN: "test-bootstrap-token",
  CERTCTL_SEALING_KEYS: "test:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
  CERTCTL_PUBLIC_URL: "http://pki.test",
  CERTCTL_CHECK_ANSWERS: "1",
  CERTCTL_BREAKGLASS_ENABLED: "true",
  TRUSTED_PROXY_SECRET: "test-proxy-secret",
};

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "node",
          environment: "node",
          include: ["test/{inventory,pki,platform,scripts}/**/*.test.ts"],
          testTimeout: 60_000,
        },
      },
      {
        plugins: [
          cloudflareTest(async () => ({
            wrangler: { configPath: "./wrangler.toml" },
            miniflare: {
              bindings: { ...TEST_BINDINGS, TEST_MIGRATIONS: await readD1Migrations(path.resolve("migrations")) },
              // Tests reach nothing outside: only the test's own identity provider answers.
              outboundService: async (request) =>
                (await identityProvider(request)) ?? new Response("tests have no network", { status: 599 }),
            },
          })),
        ],
        test: {
          name: "workers",
          include: ["test/{api,ledger}/**/*.test.ts"],
          setupFiles: ["./test/support/migrate.ts"],
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
    ],
  },
});
