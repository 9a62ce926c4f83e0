import { dateOf } from "./middleware/headers.ts";

/**
 * The static pages, and openapi.json, which `npm run openapi` generates from the routes. The Worker runs before static
 * assets, so any other path is a 404, never a page.
 */
const PAGES =
  /^\/(?:|login|openapi\.json|docs\/?|robots\.txt|favicon\.svg|assets\/[A-Za-z0-9._-]+|docs\/[A-Za-z0-9._-]+)$/;

/** Serves one of the pages for GET or HEAD, with mutable headers; null for anything else. */
export async function servePage(request: Request, assets: Fetcher | null): Promise<Response | null> {
  if (!assets || (request.method !== "GET" && request.method !== "HEAD") || !PAGES.test(new URL(request.url).pathname))
    return null;
  const response = await assets.fetch(request);
  if (response.status === 404) return null;
  const page = new Response(response.body, response);
  page.headers.set("Date", dateOf(Date.now()));
  return page;
}
