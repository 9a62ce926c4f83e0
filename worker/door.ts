import { isOnCloudflare } from "../src/platform/caller.ts";
import type { App } from "./app.ts";
import { type Env, readEnv } from "./env.ts";
import { errorResponse, requestIdOf } from "./middleware/answer.ts";
import { rawPath, targetUrl, withUrl } from "./middleware/target.ts";
import { handlePublicPki, isPublicPki } from "./public-pki.ts";

/** What takes every request over HTTP: relying parties' are answered before the API and beside it. */
export function makeDoor(app: App) {
  return async (request: Request, env: Env, ctx: ExecutionContext): Promise<Response> => {
    try {
      const { settings } = readEnv(env);
      const url = targetUrl(request, settings.targetsAsSent);
      const onCloudflare = isOnCloudflare(settings, request);
      const response = await answer(app, url, request, env, ctx, onCloudflare ? cachedEntrypoint(ctx) : null);
      return onCloudflare ? response : dated(response);
    } catch (error) {
      return dated(errorResponse(error, requestIdOf(request)));
    }
  };
}

function answer(app: App, url: string, request: Request, env: Env, ctx: ExecutionContext, cached: Fetcher | null) {
  const path = rawPath(url);
  if (isPublicPki(path)) return handlePublicPki(request, path, env, ctx, cached);
  return app.fetch(withUrl(url, request), env, ctx);
}

/** RFC 9110 section 6.6.1: whoever has a clock says when an answer was made. Cloudflare adds it by itself, workerd does not. */
function dated(response: Response): Response {
  response.headers.set("Date", new Date().toUTCString());
  return response;
}

/** The cached entrypoint on Cloudflare; on one machine there is no cache to ask. */
function cachedEntrypoint(ctx: ExecutionContext): Fetcher | null {
  return (ctx as unknown as { exports?: { PublicPki?: Fetcher } }).exports?.PublicPki ?? null;
}
