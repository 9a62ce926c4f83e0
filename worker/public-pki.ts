import { WorkerEntrypoint } from "cloudflare:workers";
import { notFound } from "../src/platform/errors.ts";
import { errorResponse, requestIdOf } from "./app.ts";
import type { Waiter } from "./context.ts";
import type { Env } from "./env.ts";

const ROOT = "/.well-known/pki/";

/** Whether a path is ours. It is taken raw: base64 in a path may hold `//` and `%2F`, and nothing may normalise it. */
export function isPublicPki(path: string): boolean {
  return path.startsWith(ROOT);
}

/** The path of a URL as it was sent, without the query. */
export function rawPath(url: string): string {
  const start = url.indexOf("/", url.indexOf("://") + 3);
  const end = url.indexOf("?", start);
  return start < 0 ? "/" : url.slice(start, end < 0 ? undefined : end);
}

export async function handlePublicPki(
  request: Request,
  _env: Env,
  _waiter: Waiter,
  _cached: Fetcher | null,
): Promise<Response> {
  return errorResponse(notFound("path", rawPath(request.url)), requestIdOf(request));
}

/** The entrypoint behind the edge cache: it makes the answers that the cache then holds, and purges them. */
export class PublicPki extends WorkerEntrypoint<Env> {
  override fetch(request: Request): Promise<Response> {
    return handlePublicPki(request, this.env, this.ctx, null);
  }

  /** Called by the Purge object; RPC passes the cache by. True when the tags are gone, or there is no cache here. */
  async purge(tags: string[]): Promise<boolean> {
    const { cache } = this.ctx as unknown as { cache?: { purge(options: { tags: string[] }): Promise<unknown> } };
    if (!cache) return true;
    await cache.purge({ tags });
    return true;
  }
}
