import { describe, expect, it } from "vitest";
import { newUser, signIn } from "../support/browser.ts";

describe("a session", () => {
  it("is the user who signed in", async () => {
    const user = await newUser(["r-viewer"]);
    const { browser } = await signIn(user.id);
    const me = await browser.get("/api/v1/auth/me");
    expect(me).toMatchObject({ status: 200, body: { actor_id: user.id, actor_type: "User", roles: ["r-viewer"] } });
    const made = await browser.change("POST", "/auth/logout");
    expect(made.status).toBe(204);
    expect(browser.jar.size).toBe(0);
  });
});
