import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { administrator } from "../support/api.ts";
import { context } from "../support/browser.ts";
import { newMapping, newProvider, reasonOf, signInAs, signInUnder, userOf, whoIs } from "../support/oidc.ts";

async function admins(): Promise<string[]> {
  const { results } = await env.DB.prepare("select actor_id from actor_roles where role_id = 'r-admin'").all<{
    actor_id: string;
  }>();
  return results.map(({ actor_id }) => actor_id);
}

/** The tests of this file are one story: an installation has its first administrator once. */
describe("the first administrator by group", () => {
  it("is nobody of another provider than the one that counts, and nobody of another group", async () => {
    const provider = await newProvider();
    const other = context({
      CERTCTL_BOOTSTRAP_ADMIN_GROUPS: "founders",
      CERTCTL_BOOTSTRAP_OIDC_PROVIDER_ID: "op-another",
    });
    expect(await signInUnder(other, provider, "ada", ["founders"])).toBe("unmapped_groups");
    const group = context({ CERTCTL_BOOTSTRAP_ADMIN_GROUPS: "founders" });
    expect(await signInUnder(group, provider, "ada", ["ops"])).toBe("unmapped_groups");
    expect([await userOf(provider, "ada"), await admins()]).toEqual([null, []]);
  });

  it("of racing first sign-ins one becomes administrator, the others leave nothing behind; token and group close each other", async () => {
    const provider = await newProvider();
    const ctx = context({
      CERTCTL_BOOTSTRAP_ADMIN_GROUPS: "owners,founders",
      CERTCTL_BOOTSTRAP_OIDC_PROVIDER_ID: provider.id,
    });
    const subjects = ["ada", "bob", "eve"];
    const outcomes = await Promise.all(subjects.map((sub) => signInUnder(ctx, provider, sub, ["founders"])));
    expect([...outcomes].sort()).toEqual(["/", "unmapped_groups", "unmapped_groups"]);
    const winner = subjects[outcomes.indexOf("/")] ?? "";
    expect(await admins()).toEqual([(await userOf(provider, winner))?.id]);
    for (const sub of subjects.filter((one) => one !== winner)) expect(await userOf(provider, sub), sub).toBeNull();
    const { results } = await env.DB.prepare(
      "select resource_id from audit_events where action = 'bootstrap.oidc_first_admin'",
    ).all<{ resource_id: string }>();
    expect(results.map(({ resource_id }) => resource_id)).toEqual(await admins());
    expect(await signInUnder(ctx, provider, winner, ["founders"])).toBe("/");
    expect(await signInUnder(ctx, provider, "late", ["founders"])).toBe("unmapped_groups");
    await expect(administrator()).rejects.toThrow("bootstrap_closed");
  });

  it("the last administrator keeps the role when the group is gone, on record; with another one it goes", async () => {
    await env.DB.prepare("delete from actor_roles").run();
    const provider = await newProvider();
    await newMapping(provider.id, "admins", "r-admin");
    await newMapping(provider.id, "ops", "r-operator");
    await env.DB.prepare("delete from milestones").run();
    const closed = () => env.DB.prepare("select name from milestones").first();
    await signInAs(provider, "eve", ["ops"]);
    expect(await closed()).toBeNull();
    const first = await signInAs(provider, "ada", ["admins", "ops"]);
    expect(await closed()).toEqual({ name: "bootstrap" });
    const user = (await userOf(provider, "ada"))?.id ?? "";
    const kept = async () => {
      const row = await env.DB.prepare(
        "select count(*) as n from audit_events where action = 'auth.last_admin_kept' and resource_id = ?",
      )
        .bind(user)
        .first<{ n: number }>();
      return row?.n;
    };
    expect((await signInAs(provider, "ada", [])).answer.headers.get("Location")).toBe("/");
    expect((await whoIs(first.browser))?.roles).toEqual(["r-admin"]);
    expect(await kept()).toBe(1);

    await signInAs(provider, "bob", ["admins"]);
    expect(reasonOf((await signInAs(provider, "ada", [])).answer)).toBe("groups_missing");
    expect((await whoIs(first.browser))?.roles).toEqual([]);
    expect([await kept(), (await admins()).length]).toEqual([1, 1]);
  });
});
