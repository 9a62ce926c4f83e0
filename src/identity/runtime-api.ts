import { z } from "@hono/zod-openapi";
import { commit } from "../platform/commit.ts";
import type { Context } from "../platform/context.ts";
import { ok, type Route, route } from "../platform/route.ts";

const seconds = z.number().int().openapi({ description: "Seconds" });

const runtimeConfig = z
  .object({
    auth_type: z.enum(["api-key", "oidc", "none"]),
    demo_acknowledged_until: z.string().nullable().openapi({ format: "date-time" }),
    public_url: z.string(),
    bootstrap_token_set: z.boolean(),
    bootstrap_admin_groups: z.array(z.string()),
    bootstrap_oidc_provider_id: z.string().nullable(),
    session_idle_timeout: seconds,
    session_absolute_timeout: seconds,
    session_key_rotation: seconds,
    session_samesite: z.enum(["Lax", "Strict"]),
    oidc_back_channel_max_age: seconds,
    cors_origins: z.array(z.string()),
    rate_limit_enabled: z.boolean(),
    trusted_proxy_secret_set: z.boolean(),
    breakglass_enabled: z.boolean(),
    breakglass_lockout_threshold: z.number().int(),
    breakglass_lockout_duration: seconds,
    alert_webhook_set: z.boolean(),
    sealing_key_ids: z.array(z.string()).openapi({ description: "The first one seals" }),
  })
  .openapi("AuthRuntimeConfig");

/** The settings in force; secrets only as set or not set. */
function runtimeConfigOf({ settings }: Context): z.output<typeof runtimeConfig> {
  const { auth } = settings;
  return {
    auth_type: auth.type,
    demo_acknowledged_until:
      auth.demoAcknowledgedUntil === null ? null : new Date(auth.demoAcknowledgedUntil).toISOString(),
    public_url: settings.publicUrl,
    bootstrap_token_set: settings.bootstrapToken !== null,
    bootstrap_admin_groups: [...auth.bootstrapAdminGroups],
    bootstrap_oidc_provider_id: auth.bootstrapProviderId,
    session_idle_timeout: auth.sessionIdleMs / 1000,
    session_absolute_timeout: auth.sessionAbsoluteMs / 1000,
    session_key_rotation: auth.sessionKeyRotationMs / 1000,
    session_samesite: auth.sessionSameSite,
    oidc_back_channel_max_age: auth.backChannelMaxAgeMs / 1000,
    cors_origins: [...auth.corsOrigins],
    rate_limit_enabled: auth.rateLimits,
    trusted_proxy_secret_set: settings.trustedProxySecret !== null,
    breakglass_enabled: auth.breakglass.enabled,
    breakglass_lockout_threshold: auth.breakglass.threshold,
    breakglass_lockout_duration: auth.breakglass.lockMs / 1000,
    alert_webhook_set: auth.alertWebhook !== null,
    sealing_key_ids: settings.sealingKeys.map(({ id }) => id),
  };
}

export const runtimeRoutes: Route[] = [
  route({
    operationId: "getAuthRuntimeConfig",
    method: "get",
    path: "/api/v1/auth/runtime-config",
    access: "auth.role.assign",
    tag: "Auth",
    summary: "The authentication settings in force, without secrets",
    description: "Reading it is an audit event.",
    answers: { 200: { description: "The settings", schema: runtimeConfig } },
    handler: async (ctx) => {
      await commit(ctx, [ctx.audit("auth.runtime_config.read", "auth")]);
      return ok(runtimeConfigOf(ctx));
    },
  }),
];
