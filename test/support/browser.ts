import { env, exports } from "cloudflare:workers";
import { forgetActors } from "../../src/identity/actors.ts";
import { grantStatement } from "../../src/identity/grants.ts";
import { openSession } from "../../src/identity/sessions/sessions.ts";
import { oidcProviders, users } from "../../src/identity/table.ts";
import type { Context } from "../../src/platform/context.ts";
import { runBatch } from "../../src/platform/database.ts";
import { randomId } from "../../src/platform/ids.ts";
import { makeContext } from "../../worker/context.ts";
import type { Answer } from "./api.ts";
import { providerRow } from "./provider-row.ts";

const SESSION = "__Host-certctl_session";
const CSRF = "__Host-certctl_csrf";

/** What a browser does with cookies, and no more: it keeps what is set, drops what is cleared, and shows all of it. */
export class Browser {
  readonly jar = new Map<string, string>();

  get session(): string {
    return this.jar.get(SESSION) ?? "";
  }

  get csrf(): string {
    return this.jar.get(CSRF) ?? "";
  }

  /** Another browser with the same cookies. */
  copy(): Browser {
    const other = new Browser();
    for (const [name, value] of this.jar) other.jar.set(name, value);
    return other;
  }

  with(name: "session" | "csrf", value: string): this {
    this.jar.set(name === "session" ? SESSION : CSRF, value);
    return this;
  }

  keep(cookies: readonly string[]): this {
    for (const cookie of cookies) {
      const [, name = "", value = ""] = /^([^=]+)=([^;]*)/.exec(cookie) ?? [];
      if (/; Max-Age=0(?:;|$)/.test(cookie)) this.jar.delete(name);
      else this.jar.set(name, value);
    }
    return this;
  }

  /** A request as it would arrive, with the cookies of this browser. */
  request(path: string, init: RequestInit = {}): Request {
    const cookie = [...this.jar].map(([name, value]) => `${name}=${value}`).join("; ");
    const headers = new Headers(init.headers);
    if (cookie !== "" && !headers.has("Cookie")) headers.set("Cookie", cookie);
    return new Request(`http://localhost${path}`, { redirect: "manual", ...init, headers });
  }

  /** A request exactly as told: the cookies are shown, no CSRF header is added. */
  async send<T = Record<string, unknown>>(
    method: string,
    path: string,
    headers: Record<string, string> = {},
    body?: string,
  ): Promise<Answer<T>> {
    const init: RequestInit = { method, headers };
    if (body !== undefined) init.body = body;
    const response = await exports.default.fetch(this.request(path, init));
    this.keep(response.headers.getSetCookie());
    const text = await response.text();
    const json = text !== "" && /json/.test(response.headers.get("Content-Type") ?? "");
    return { status: response.status, headers: response.headers, body: (json ? JSON.parse(text) : { text }) as T };
  }

  get<T = Record<string, unknown>>(path: string, headers: Record<string, string> = {}) {
    return this.send<T>("GET", path, headers);
  }

  /** A state-changing request as our own page sends it, with the CSRF token that the cookie delivers. */
  change<T = Record<string, unknown>>(method: string, path: string, body?: unknown) {
    const type = body === undefined ? {} : { "Content-Type": "application/json" };
    return this.send<T>(
      method,
      path,
      { ...type, "X-CSRF-Token": this.csrf },
      body === undefined ? undefined : JSON.stringify(body),
    );
  }
}

/** A user of an enabled provider, made by rows, with roles that hold everywhere. */
export async function newUser(roles: readonly string[] = []): Promise<{ id: string; provider_id: string }> {
  const ctx = context();
  const now = ctx.clock.now().toISOString();
  const id = randomId(ctx.random, "u-");
  const provider_id = randomId(ctx.random, "op-");
  await runBatch(ctx.db, [
    ctx.db.insert(oidcProviders).values(providerRow(provider_id, now)),
    ctx.db.insert(users).values({
      id,
      tenant_id: "t-default",
      oidc_provider_id: provider_id,
      oidc_subject: id,
      email: `${id}@example.test`,
      display_name: id,
      created_at: now,
      updated_at: now,
    }),
    ...roles.map((role_id) => grantStatement(ctx, { id, type: "User" }, { role_id })),
  ]);
  forgetActors();
  return { id, provider_id };
}

/** The context of somebody who signs in, with settings of its own. */
export function context(settings: Record<string, string> = {}): Context {
  const caller = { address: "192.0.2.7", user_agent: "Test Browser", session_id: null };
  return makeContext({ ...env, ...settings }, { waitUntil: () => undefined }, { caller });
}

/** A browser in which this user has just signed in. */
export async function signIn(user_id: string, ctx = context()): Promise<{ browser: Browser; session_id: string }> {
  const { session_id, cookies } = await openSession(ctx, { id: user_id, type: "User" });
  return { browser: new Browser().keep(cookies), session_id };
}
