import { makeApp } from "./app.ts";
import { tick } from "./cron.ts";
import type { Env } from "./env.ts";
import { handlePublicPki, isPublicPki, PublicPki, rawPath } from "./public-pki.ts";
import { consume } from "./queue.ts";

export { Once } from "../durable-objects/once.ts";
export { Purge } from "../durable-objects/purge.ts";
export { Session } from "../durable-objects/session.ts";
export { Issuer } from "./issuer.ts";
export { PublicPki };

const app = makeApp();

export default {
  fetch(request: Request, env: Env, ctx: ExecutionContext) {
    if (isPublicPki(rawPath(request.url))) return handlePublicPki(request, env, ctx, cachedEntrypoint(request, ctx));
    return app.fetch(request, env, ctx);
  },
  queue: consume,
  scheduled: tick,
};

/** The cached entrypoint on Cloudflare, which sets `request.cf`; on one machine there is no cache to ask. */
function cachedEntrypoint(request: Request, ctx: ExecutionContext): Fetcher | null {
  if (request.cf === undefined) return null;
  return (ctx as unknown as { exports?: { PublicPki?: Fetcher } }).exports?.PublicPki ?? null;
}
