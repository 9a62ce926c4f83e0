import { env } from "cloudflare:workers";
import { eq } from "drizzle-orm";
import { describe, expect, it } from "vitest";
import { discover, MAX_WAITING, refetchKeys } from "../../src/identity/oidc/discovery.ts";
import { finishSignIn, startSignIn } from "../../src/identity/oidc/sign-in.ts";
import { oidcProviders } from "../../src/identity/table.ts";
import { context } from "../support/browser.ts";
import { newProvider } from "../support/oidc.ts";

describe("what anybody can cause at the sign-in", () => {
  it("begins at most sixty sign-ins a minute from one address", async () => {
    const { id } = await newProvider();
    const ctx = context();
    for (let i = 0; i < 60; i++) expect((await startSignIn(ctx, id, "/")).status).toBe(302);
    await expect(startSignIn(ctx, id, "/")).rejects.toMatchObject({ status: 429, code: "rate_limited" });
    const off = context({ CERTCTL_RATE_LIMIT_ENABLED: "false" });
    expect((await startSignIn(off, id, "/")).status).toBe(302);
    // Where nobody can tell callers apart, one would lock out all.
    const nobody = { ...ctx, caller: { ...ctx.caller, address: "local" } };
    expect((await startSignIn(nobody, id, "/")).status).toBe(302);
  });

  it("a few wait for keys that a hanging provider is asked for; the others are told at once", async () => {
    const { id } = await newProvider();
    const ctx = context();
    const [provider] = await ctx.db.select().from(oidcProviders).where(eq(oidcProviders.id, id));
    if (!provider) throw new Error("there is no such provider");
    await discover(ctx, provider);
    const attempt = (time: Date, failed: string | null) =>
      env.DB.prepare("update oidc_provider_state set attempted_at = ?, last_error = ? where provider_id = ?")
        .bind(time.toISOString(), failed, id)
        .run();
    await attempt(new Date(Date.now() + 1), null);
    const ask = () => refetchKeys(ctx, provider);
    for (let round = 0; round < 2; round++) {
      const waiters = Array.from({ length: MAX_WAITING }, ask);
      await expect.poll(() => ask().then(String, (error) => error.reason)).toBe("jwks_unreachable");
      await attempt(new Date(Date.now() + 1), "jwks_uri: it hung");
      // Whoever waited is told, and leaves room.
      expect(await Promise.all(waiters.map((one) => one.catch(() => null)))).toEqual(waiters.map(() => null));
      await attempt(new Date(Date.now() + 1), null);
    }
  });

  it("failures of nobody in particular are counted, not written one by one", async () => {
    const deferred: Promise<unknown>[] = [];
    const ctx = { ...context(), defer: (work: Promise<unknown>) => void deferred.push(work) };
    for (let i = 0; i < 5; i++) {
      const request = new Request("http://localhost/auth/oidc/callback", {
        headers: { Cookie: "__Host-certctl_oidc_pending=made-up" },
      });
      await finishSignIn(ctx, { code: "x", state: `made-up-${i}` }, request);
    }
    await Promise.all(deferred);
    const attempts = await env.DB.prepare("select address, reason, sum(count) as count from denied_attempts").first();
    expect(attempts).toEqual({ address: "192.0.2.7", reason: "oidc_pre_login_consume_failed", count: 5 });
    const events = await env.DB.prepare("select count(*) as n from audit_events where event_category = 'auth'").first();
    expect(events).toEqual({ n: 0 });
  });
});
