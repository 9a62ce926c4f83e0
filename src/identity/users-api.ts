import { z } from "@hono/zod-openapi";
import { asIs, pageAnswer, pageOf, pageQuery } from "../platform/paging.ts";
import { noContent, ok, type Route, route } from "../platform/route.ts";
import { grantRoutes } from "./grant-routes.ts";
import { deactivateUser, getUser, listUsers, reactivateUser, userActor } from "./users.ts";

const tag = "Auth";
const path = "/api/v1/auth/users";
const params = z.object({ id: z.string() });
const time = z.string().openapi({ format: "date-time" });

const user = z
  .object({
    id: z.string(),
    tenant_id: z.string(),
    oidc_provider_id: z.string(),
    oidc_subject: z.string(),
    email: z.string(),
    display_name: z.string(),
    role_ids: z.array(z.string()),
    last_login_at: time.nullable(),
    deactivated_at: time.nullable(),
    created_at: time,
    updated_at: time,
  })
  .openapi("AuthUser");

export const userRoutes: Route[] = [
  route({
    operationId: "listAuthUsers",
    method: "get",
    path,
    access: "auth.user.read",
    tag,
    summary: "People who have signed in by an identity provider",
    query: z.object({ ...pageQuery.shape, oidc_provider_id: z.string().optional() }),
    answers: { 200: { description: "One page", schema: pageOf(user) } },
    errors: [400],
    handler: async (ctx, { query }) => ok(pageAnswer(query, await listUsers(ctx, query, query.oidc_provider_id), asIs)),
  }),
  route({
    operationId: "getAuthUser",
    method: "get",
    path: `${path}/{id}`,
    access: "auth.user.read",
    tag,
    summary: "Get a user",
    params,
    answers: { 200: { description: "The user", schema: user } },
    handler: async (ctx, { params }) => ok(await getUser(ctx, params.id)),
  }),
  route({
    operationId: "deactivateAuthUser",
    method: "delete",
    path: `${path}/{id}`,
    whenFull: "served",
    access: "auth.user.deactivate",
    tag,
    summary: "Deactivate a user: sessions end at once, keys that the user answers for stop; again is no error",
    params,
    answers: { 204: { description: "Deactivated" } },
    errors: [409],
    handler: async (ctx, { params }) => {
      await deactivateUser(ctx, params.id);
      return noContent();
    },
  }),
  route({
    operationId: "reactivateAuthUser",
    method: "post",
    path: `${path}/{id}/reactivate`,
    access: "auth.user.deactivate",
    tag,
    summary: "Let a deactivated user in again, with the roles that the user has",
    description:
      "Needs all of the user's rights, and of the keys that the user answers for: nobody gives what they lack.",
    params,
    answers: { 204: { description: "Active" } },
    handler: async (ctx, { params }) => {
      await reactivateUser(ctx, params.id);
      return noContent();
    },
  }),
  ...grantRoutes({
    path: `${path}/{id}`,
    tag,
    whose: "a user",
    assign: "assignAuthUserRole",
    revoke: "revokeAuthUserRole",
    list: { operationId: "listAuthUserRoles", access: "auth.user.read" },
    actor: (ctx, id) => userActor(ctx, id),
  }),
];
