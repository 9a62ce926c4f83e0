import { WorkerEntrypoint } from "cloudflare:workers";
import type { PublicContext } from "../src/authority/local/public/context.ts";
import { answerPublicPki, PUBLIC_PKI_PREFIX } from "../src/authority/local/public/respond.ts";
import { systemClock } from "../src/platform/context.ts";
import { consoleLog } from "../src/platform/log.ts";
import type { Waiter } from "./context.ts";
import { type Env, readEnv } from "./env.ts";
import { errorResponse, requestIdOf } from "./middleware/answer.ts";
import { rawPath } from "./middleware/target.ts";
import { readAgain, withStorageError } from "./storage.ts";

/**
 * Whether a path belongs to public PKI. Takes the raw path: base64 in a path may contain `//` and `%2F`, so it must not
 * be normalised.
 */
export function isPublicPki(path: string): boolean {
  return path.startsWith(PUBLIC_PKI_PREFIX);
}

/**
 * Answers OCSP, CRL and CA certificate requests, bypassing the API: no authentication, no Hono. `path` is raw. `cached`
 * is the entrypoint behind the edge cache, if there is one; shareable answers are fetched from it with one canonical
 * GET.
 */
export async function handlePublicPki(
  request: Request,
  path: string,
  env: Env,
  waiter: Waiter,
  cached: Fetcher | null,
): Promise<Response> {
  try {
    const edge = cached ? (asked: string) => cached.fetch(new Request(`${CANONICAL_ORIGIN}${asked}`)) : null;
    const answer = () => answerPublicPki(publicContext(env, waiter), request, path, edge);
    return await (request.method === "GET" ? readAgain(env, answer) : answer());
  } catch (error) {
    return errorResponse(await withStorageError(env, error), requestIdOf(request));
  }
}

/** The host is not part of the cache key; this one is reserved. */
const CANONICAL_ORIGIN = "http://pki.invalid";

/** The parts that do not change between requests, one per env object; entries go with their env object. */
const shared = new WeakMap<Env, Omit<PublicContext, "defer">>();

function publicContext(env: Env, waiter: Waiter): PublicContext {
  let base = shared.get(env);
  if (!base) {
    const { bindings, settings, sealer, db } = readEnv(env);
    base = { bindings, settings, sealer, db, clock: systemClock, log: consoleLog({ entrypoint: "public-pki" }) };
    shared.set(env, base);
  }
  return { ...base, defer: (work) => waiter.waitUntil(work) };
}

/** The entrypoint behind the edge cache: produces the answers that the cache stores, and purges them. */
export class PublicPki extends WorkerEntrypoint<Env> {
  override fetch(request: Request): Promise<Response> {
    return handlePublicPki(request, rawPath(request.url), this.env, this.ctx, null);
  }

  /**
   * Called by the Purge object; RPC bypasses the cache. Returns true once the tags are purged, or if there is no cache.
   */
  async purge(tags: string[]): Promise<boolean> {
    const { cache } = this.ctx as unknown as { cache?: { purge(options: { tags: string[] }): Promise<unknown> } };
    if (!cache) return true;
    await cache.purge({ tags });
    return true;
  }
}
