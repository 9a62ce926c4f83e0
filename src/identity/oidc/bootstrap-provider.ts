import { eq, sql } from "drizzle-orm";
import type { z } from "zod";
import { type Context, SYSTEM_ACTOR, timestamp } from "../../platform/context.ts";
import { guard, noRow, runBatch, UniqueViolation } from "../../platform/database.ts";
import { AppError, ChangedMeanwhile } from "../../platform/errors.ts";
import { noAdministratorYet } from "../bootstrap.ts";
import { TENANT } from "../grants.ts";
import { milestones, oidcProviders } from "../table.ts";
import { checkIssuerUrl, providerCreate, providerFields } from "./provider-fields.ts";
import { seal } from "./providers.ts";

/**
 * Bootstrapping an administrator by group needs an identity provider before anyone can create one. So the settings may
 * describe it (CERTCTL_BOOTSTRAP_OIDC_*). It is created once, on the first request for the sign-in options while there
 * is neither an administrator nor a provider. Afterwards it is an ordinary provider and the settings no longer affect
 * it.
 */

const NAME = "Bootstrap";

/** Creates the provider described in the settings if it is needed. Invalid settings are logged and create nothing. */
export async function ensureBootstrapProvider(ctx: Context): Promise<void> {
  const wanted = ctx.settings.auth.bootstrapProvider;
  if (wanted === null || ctx.settings.auth.bootstrapAdminGroups.length === 0) return;
  const [[some], open] = await Promise.all([
    ctx.db.select({ id: oidcProviders.id }).from(oidcProviders).limit(1),
    noAdministratorYet(ctx),
  ]);
  if (some || !open) return;
  const parsed = providerCreate.safeParse({ name: NAME, ...wanted });
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    ctx.log.error("bootstrap_provider.invalid", { field: issue?.path.join("."), message: issue?.message });
    return;
  }
  try {
    checkIssuerUrl(ctx.settings, wanted.issuer_url);
    await make(ctx, providerFields.parse({ name: NAME, ...wanted }), wanted.client_secret);
  } catch (error) {
    // Another request created it first, or an administrator has just appeared.
    if (error instanceof UniqueViolation || error instanceof ChangedMeanwhile) return;
    if (!(error instanceof AppError)) throw error;
    ctx.log.error("bootstrap_provider.invalid", { field: "issuer_url", message: error.message });
  }
}

async function make(ctx: Context, fields: z.output<typeof providerFields>, secret: string): Promise<void> {
  const id = ctx.settings.auth.bootstrapProviderId ?? "op-bootstrap";
  const now = timestamp(ctx);
  const row = {
    ...fields,
    id,
    tenant_id: TENANT,
    sealed_client_secret: await seal(ctx, id, secret),
    created_at: now,
    updated_at: now,
  };
  await runBatch(ctx.db, [
    guard(noRow(milestones, eq(milestones.name, "bootstrap"))),
    guard(noRow(oidcProviders, sql`true`)),
    ctx.db.insert(oidcProviders).values(row),
    ctx.audit(
      "auth.oidc_provider.create",
      id,
      { name: NAME, issuer_url: row.issuer_url, by: "CERTCTL_BOOTSTRAP_OIDC_ISSUER_URL" },
      { actor: SYSTEM_ACTOR },
    ),
  ]);
}
