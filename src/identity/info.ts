import { eq } from "drizzle-orm";
import type { Context } from "../platform/context.ts";
import { ensureBootstrapProvider } from "./oidc/bootstrap-provider.ts";
import { oidcProviders } from "./table.ts";

/** The available ways to sign in, for the login page and for programs. Contains no secrets. */
export async function authInfo(ctx: Context) {
  const { type, breakglass } = ctx.settings.auth;
  await ensureBootstrapProvider(ctx);
  const providers = await ctx.db
    .select({ id: oidcProviders.id, name: oidcProviders.name })
    .from(oidcProviders)
    .where(eq(oidcProviders.enabled, true))
    .orderBy(oidcProviders.name);
  const demo = type === "none";
  return {
    auth_type: !demo && providers.length > 0 ? "oidc" : type,
    required: !demo,
    demo,
    breakglass: breakglass.enabled,
    oidc_providers: providers.map(({ id, name }) => ({
      id,
      name,
      login_url: `/auth/oidc/login?provider=${encodeURIComponent(id)}`,
    })),
  };
}
