import { eq } from "drizzle-orm";
import type { Context } from "../../platform/context.ts";
import { isLoopback } from "../../platform/demo.ts";
import { describeError } from "../../platform/log.ts";
import { oidcProviders, oidcSessions } from "../table.ts";
import { discover } from "./discovery.ts";

/**
 * URL that ends the provider's session too (OpenID Connect RP-Initiated Logout 1.0 section 2). Null if the session has
 * no provider, or the provider has no such endpoint or is unreachable: then only our session ends.
 */
export async function endSessionUrl(ctx: Context, session_id: string): Promise<string | null> {
  const [row] = await ctx.db
    .select({ provider: oidcProviders, hint: oidcSessions.sealed_id_token })
    .from(oidcSessions)
    .innerJoin(oidcProviders, eq(oidcProviders.id, oidcSessions.provider_id))
    .where(eq(oidcSessions.session_id, session_id));
  if (!row) return null;
  try {
    const { end_session_endpoint } = await discover(ctx, row.provider);
    const url = end_session_endpoint === undefined ? null : URL.parse(end_session_endpoint);
    if (!url || !/^https?:$/.test(url.protocol)) return null;
    url.searchParams.set("client_id", row.provider.client_id);
    if (row.hint !== null) {
      const hint = await ctx.sealer.open(row.hint, `id-token|${session_id}`);
      url.searchParams.set("id_token_hint", new TextDecoder().decode(hint));
    }
    const back = new URL("/login", row.provider.redirect_uri);
    if (back.protocol === "https:" || isLoopback(back.hostname))
      url.searchParams.set("post_logout_redirect_uri", back.href);
    return url.href;
  } catch (error) {
    ctx.log.warn("oidc.logout_url_failed", { provider_id: row.provider.id, error: describeError(error) });
    return null;
  }
}
