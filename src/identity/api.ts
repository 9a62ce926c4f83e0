import { z } from "@hono/zod-openapi";
import { may } from "../platform/access.ts";
import type { Actor } from "../platform/context.ts";
import { created, ok, type Route, route } from "../platform/route.ts";
import { bootstrap, bootstrapAvailable, mustBeOpen } from "./bootstrap.ts";
import { breakglassRoutes } from "./breakglass/api.ts";
import { authInfo } from "./info.ts";
import { keyRoutes } from "./keys-api.ts";
import { ACTOR_NAME } from "./names.ts";
import { oidcRoutes } from "./oidc/api.ts";
import { signInRoutes } from "./oidc/sign-in-api.ts";
import { roleRoutes } from "./roles-api.ts";
import { runtimeRoutes } from "./runtime-api.ts";
import { actorType } from "./schemas.ts";
import { sessionRoutes } from "./sessions/api.ts";
import { userRoutes } from "./users-api.ts";

const effectivePermission = z
  .object({
    permission: z.string(),
    scope_type: z.enum(["global", "profile", "issuer"]),
    scope_id: z.string().optional(),
  })
  .openapi("EffectivePermission");

const me = z.object({
  actor_id: z.string(),
  actor_type: actorType,
  tenant_id: z.string(),
  admin: z.boolean(),
  roles: z.array(z.string()),
  effective_permissions: z.array(effectivePermission),
});

const describe = (actor: Actor) => ({
  actor_id: actor.id,
  actor_type: actor.type,
  tenant_id: actor.tenant_id,
  // A scoped r-admin role does not make an administrator.
  admin: actor.roles.includes("r-admin") && may(actor, "auth.role.assign", "everywhere"),
  roles: actor.roles,
  effective_permissions: actor.permissions,
});

const ownRoutes: Route[] = [
  route({
    operationId: "getAuthInfo",
    method: "get",
    path: "/api/v1/auth/info",
    access: { public: "a client must know how to sign in before it can" },
    tag: "Auth",
    summary: "How to authenticate",
    answers: {
      200: {
        description: "The kinds of credential",
        schema: z.object({
          auth_type: z.enum(["api-key", "none", "oidc"]),
          required: z.boolean(),
          demo: z.boolean(),
          breakglass: z.boolean(),
          oidc_providers: z.array(z.object({ id: z.string(), name: z.string(), login_url: z.string() })),
        }),
      },
    },
    handler: async (ctx) => ok(await authInfo(ctx)),
  }),
  route({
    operationId: "checkAuth",
    method: "get",
    path: "/api/v1/auth/check",
    access: { authenticated: "tells the caller who it is" },
    tag: "Auth",
    summary: "Check the credential",
    answers: {
      200: {
        description: "The credential is valid",
        schema: z.object({ status: z.string(), user: z.string(), admin_via_role: z.boolean(), ...me.partial().shape }),
      },
    },
    handler: async (ctx) => {
      const actor = describe(ctx.actor);
      return ok({ status: "authenticated", user: actor.actor_id, admin_via_role: actor.admin, ...actor });
    },
  }),
  route({
    operationId: "getAuthMe",
    method: "get",
    path: "/api/v1/auth/me",
    access: { authenticated: "tells the caller who it is" },
    tag: "Auth",
    summary: "Who am I and what may I do",
    answers: { 200: { description: "The actor", schema: me } },
    handler: async (ctx) => ok(describe(ctx.actor)),
  }),
  route({
    operationId: "getAuthBootstrap",
    method: "get",
    path: "/api/v1/auth/bootstrap",
    access: { public: "there is no credential before the first one" },
    tag: "Auth",
    summary: "Whether the bootstrap token can still be used",
    answers: { 200: { description: "Open or closed", schema: z.object({ available: z.boolean() }) } },
    handler: async (ctx) => ok({ available: await bootstrapAvailable(ctx) }),
  }),
  route({
    operationId: "postAuthBootstrap",
    method: "post",
    path: "/api/v1/auth/bootstrap",
    access: { public: "there is no credential before the first one; the one-shot token stands for it" },
    tag: "Auth",
    summary: "Turn the bootstrap token into the first administrator's API key, once",
    body: z.strictObject({
      token: z.string().min(1).max(512),
      actor_name: z.string().regex(ACTOR_NAME, `must match ${ACTOR_NAME.source}`),
    }),
    bodyLimit: 4096,
    before: mustBeOpen,
    answers: {
      201: {
        description: "The key, shown once",
        schema: z.object({
          actor_id: z.string(),
          api_key_id: z.string(),
          key_value: z.string(),
          created_at: z.string().openapi({ format: "date-time" }),
          message: z.string(),
        }),
      },
    },
    errors: [400, 401, 410],
    handler: async (ctx, { body }) => created(await bootstrap(ctx, body.token, body.actor_name)),
  }),
];

export const identityRoutes: Route[] = [
  ...ownRoutes,
  ...runtimeRoutes,
  ...roleRoutes,
  ...keyRoutes,
  ...userRoutes,
  ...sessionRoutes,
  ...oidcRoutes,
  ...signInRoutes,
  ...breakglassRoutes,
];
