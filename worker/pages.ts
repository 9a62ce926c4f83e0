import { dateOf } from "./middleware/headers.ts";

/**
 * The pages among the static assets, and openapi.json, which `npm run openapi` makes of the routes. The Worker runs first, so that
 * any other path is a 404 and never a page.
 */
const PAGES =
  /^\/(?:|login|openapi\.json|docs\/?|robots\.txt|favicon\.svg|assets\/[A-Za-z0-9._-]+|docs\/[A-Za-z0-9._-]+)$/;

/** The asset for a GET or HEAD of one of our pages, its headers open to additions; or null. */
export async function servePage(request: Request, assets: Fetcher | null): Promise<Response | null> {
  if (!assets || (request.method !== "GET" && request.method !== "HEAD") || !PAGES.test(new URL(request.url).pathname))
    return null;
  const response = await assets.fetch(request);
  if (response.status === 404) return null;
  const page = new Response(response.body, response);
  page.headers.set("Date", dateOf(Date.now()));
  return page;
}
