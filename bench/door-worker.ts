import { z } from "@hono/zod-openapi";
import { grantStatement } from "../src/identity/grants.ts";
import { mintKey } from "../src/identity/keys.ts";
import { openSession } from "../src/identity/sessions/sessions.ts";
import { oidcProviders, users } from "../src/identity/table.ts";
import { type Actor, NO_CALLER } from "../src/platform/context.ts";
import { runBatch } from "../src/platform/database.ts";
import { ok, route } from "../src/platform/route.ts";
import { providerRow } from "../test/support/provider-row.ts";
import { makeApp } from "../worker/app.ts";
import { makeContext } from "../worker/context.ts";
import { tick } from "../worker/cron.ts";
import { makeDoor } from "../worker/door.ts";
import type { Env } from "../worker/env.ts";
import { consume } from "../worker/queue.ts";
import { routes } from "../worker/routes.ts";

export { Issuer } from "../durable-objects/issuer.ts";
export { Once } from "../durable-objects/once.ts";
export { Purge } from "../durable-objects/purge.ts";
export { Session } from "../durable-objects/session.ts";
export { Writer } from "../durable-objects/writer.ts";
export { Inventory } from "../worker/inventory.ts";
export { PublicPki } from "../worker/public-pki.ts";

/** The product's door with two more trivial routes, one with the credential check and one without. */
const trivial = (path: string) =>
  route({
    operationId: path.slice(1),
    method: "get",
    path,
    access: "team.read",
    tag: "Benchmark",
    summary: "Nothing to do but the door's work",
    answers: { 200: { description: "Nothing", schema: z.object({ status: z.string() }) } },
    handler: async () => ok({ status: "ok" }),
  });

const USER = { id: "u-bench", type: "User" } as const;

const NOBODY: Actor = {
  ...USER,
  tenant_id: "t-default",
  roles: ["r-viewer"],
  permissions: [{ permission: "team.read", scope_type: "global" }],
};

const checked = makeDoor(makeApp([...routes, trivial("/trivial")]));
const unchecked = makeDoor(
  makeApp([...routes, trivial("/unchecked")], {
    authenticate: async (_ctx, { caller }) => ({ actor: NOBODY, caller, cookies: [] }),
  }),
);

export default {
  async fetch(request: Request, env: Env, ctx: ExecutionContext): Promise<Response> {
    if (request.url.endsWith("/unchecked")) return unchecked(request, env, ctx);
    if (request.url.endsWith("/prepare")) return Response.json(await prepare(env, ctx));
    return checked(request, env, ctx);
  },
  queue: consume,
  scheduled: tick,
};

/** Creates a user with a session and an API key, both with the rights of r-viewer; answers both credentials. */
async function prepare(env: Env, waiter: ExecutionContext): Promise<{ key: string; cookie: string }> {
  const ctx = makeContext(env, waiter, { actor: NOBODY, caller: NO_CALLER });
  const now = ctx.clock.now().toISOString();
  const times = { tenant_id: "t-default", created_at: now, updated_at: now };
  const key = await mintKey(ctx, { actor_id: "bench", actor_type: "APIKey", name: "bench" });
  await runBatch(ctx.db, [
    ctx.db.insert(oidcProviders).values(providerRow("op-bench", now)),
    ctx.db.insert(users).values({
      ...times,
      id: USER.id,
      oidc_provider_id: "op-bench",
      oidc_subject: "bench",
      email: "bench@example.com",
      display_name: "Bench",
    }),
    ...key.statements,
    grantStatement(ctx, { id: "bench", type: "APIKey" }, { role_id: "r-viewer" }),
    grantStatement(ctx, USER, { role_id: "r-viewer" }),
  ]);
  const { cookies } = await openSession(ctx, USER);
  return { key: key.value, cookie: cookies.map((cookie) => cookie.split(";")[0]).join("; ") };
}
