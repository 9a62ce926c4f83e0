import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { finishSignIn, startSignIn } from "../../src/identity/oidc/sign-in.ts";
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

  it("failures of nobody in particular are counted, not written one by one", async () => {
    const deferred: Promise<unknown>[] = [];
    const ctx = { ...context(), defer: (work: Promise<unknown>) => void deferred.push(work) };
    for (let i = 0; i < 5; i++) await finishSignIn(ctx, { code: "x", state: `made-up-${i}` }, "made-up");
    await Promise.all(deferred);
    const attempts = await env.DB.prepare("select address, reason, sum(count) as count from denied_attempts").first();
    expect(attempts).toEqual({ address: "192.0.2.7", reason: "oidc_pre_login_consume_failed", count: 5 });
    const events = await env.DB.prepare("select count(*) as n from audit_events where event_category = 'auth'").first();
    expect(events).toEqual({ n: 0 });
  });
});
