import { makeApp } from "./app.ts";
import { tick } from "./cron.ts";
import { type Env, readEnv } from "./env.ts";
import { errorResponse, requestIdOf } from "./middleware/answer.ts";
import { rawPath, targetUrl, withUrl } from "./middleware/target.ts";
import { handlePublicPki, isPublicPki, PublicPki } from "./public-pki.ts";
import { consume } from "./queue.ts";

export { Once } from "../durable-objects/once.ts";
export { Purge } from "../durable-objects/purge.ts";
export { Session } from "../durable-objects/session.ts";
export { Issuer } from "./issuer.ts";
export { PublicPki };

const app = makeApp();

export default {
  fetch(request: Request, env: Env, ctx: ExecutionContext): Promise<Response> {
    try {
      const url = targetUrl(request, readEnv(env).settings.targetsAsSent);
      const path = rawPath(url);
      if (isPublicPki(path)) return handlePublicPki(request, path, env, ctx, cachedEntrypoint(request, ctx));
      return app.fetch(withUrl(url, request), env, ctx);
    } catch (error) {
      return Promise.resolve(errorResponse(error, requestIdOf(request)));
    }
  },
  queue: consume,
  scheduled: tick,
};

/** The cached entrypoint on Cloudflare, which sets `request.cf`; on one machine there is no cache to ask. */
function cachedEntrypoint(request: Request, ctx: ExecutionContext): Fetcher | null {
  if (request.cf === undefined) return null;
  return (ctx as unknown as { exports?: { PublicPki?: Fetcher } }).exports?.PublicPki ?? null;
}
