import { isOnCloudflare } from "../src/platform/caller.ts";
import type { App } from "./app.ts";
import { type Env, readEnv } from "./env.ts";
import { errorResponse, requestIdOf } from "./middleware/answer.ts";
import { dateOf } from "./middleware/headers.ts";
import { rawPath, targetUrl, withUrl } from "./middleware/target.ts";
import { handlePublicPki, isPublicPki } from "./public-pki.ts";

/** Handles every HTTP request. Relying parties' requests are answered before they reach the API. */
export function makeDoor(app: App) {
  return async (request: Request, env: Env, ctx: ExecutionContext): Promise<Response> => {
    try {
      const { settings } = readEnv(env);
      const url = targetUrl(request, settings.targetsAsSent);
      const path = rawPath(url);
      if (!isPublicPki(path)) return await app.fetch(withUrl(url, request), env, ctx);
      const onCloudflare = isOnCloudflare(settings, request);
      const response = await handlePublicPki(request, path, env, ctx, onCloudflare ? cachedEntrypoint(ctx) : null);
      if (!onCloudflare) response.headers.set("Date", dateOf(Date.now()));
      return response;
    } catch (error) {
      return errorResponse(error, requestIdOf(request));
    }
  };
}

/** The cached entrypoint on Cloudflare. A single machine has no cache. */
function cachedEntrypoint(ctx: ExecutionContext): Fetcher | null {
  return (ctx as unknown as { exports?: { PublicPki?: Fetcher } }).exports?.PublicPki ?? null;
}
