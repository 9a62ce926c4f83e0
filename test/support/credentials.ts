import { eq } from "drizzle-orm";
import { forgetActors } from "../../src/identity/actors.ts";
import { apiKeys } from "../../src/identity/table.ts";
import { newActor } from "./actors.ts";
import { newUser, signIn } from "./browser.ts";
import { contextAhead } from "./context.ts";

type Shown = Readonly<Record<string, string>>;

/** Credentials that must open nothing, by name: each is the headers that show it. */
export async function foreignCredentials(): Promise<Readonly<Record<string, Shown>>> {
  const past = new Date(Date.now() - 1000).toISOString();
  const { id } = await newUser(["r-admin"]);
  const [ended, { browser }] = [(await signIn(id)).browser.session, await signIn(id)];
  await browser.change("DELETE", "/api/v1/auth/sessions?except=current");
  const cookie = (value: string) => ({ Cookie: `__Host-certctl_session=${value}`, "X-CSRF-Token": browser.csrf });
  return {
    "a garbage key": { Authorization: "Bearer garbage" },
    "another installation's key": { Authorization: `Bearer certctl_${"Zm9y".repeat(10)}ZWk` },
    "an expired key": { Authorization: `Bearer ${await endedKey({ expires_at: past })}` },
    "a revoked key": { Authorization: `Bearer ${await endedKey({ revoked_at: past })}` },
    "an unsigned JWT": { Authorization: `Bearer ${unsignedJwt({ sub: "root-admin", roles: ["r-admin"] })}` },
    "basic credentials": { Authorization: `Basic ${btoa("root-admin:test-bootstrap-token")}` },
    "an ended session": cookie(ended),
    "a session that somebody else signed": cookie(browser.session.replace(/[^.]+$/, "Zm9y".repeat(10).concat("ZWk"))),
    "a session with another's id": cookie(browser.session.replace(/-[0-9a-v]{26}/, `-${"0".repeat(26)}`)),
    "the bootstrap token": { Authorization: "Bearer test-bootstrap-token" },
  };
}

/** The key of an administrator that has expired or was revoked. */
export async function endedKey(ended: { expires_at: string } | { revoked_at: string }): Promise<string> {
  const { client, keyId } = await newActor([{ role_id: "r-admin" }]);
  await contextAhead().db.update(apiKeys).set(ended).where(eq(apiKeys.id, keyId));
  forgetActors();
  return String(client.key);
}

/** A JWT with `alg: none` (RFC 7519 section 6). */
export function unsignedJwt(claims: Readonly<Record<string, unknown>>): string {
  const part = (value: unknown) =>
    btoa(JSON.stringify(value)).replaceAll("=", "").replaceAll("+", "-").replaceAll("/", "_");
  return `${part({ alg: "none", typ: "JWT" })}.${part({ iss: "http://localhost", ...claims })}.`;
}
