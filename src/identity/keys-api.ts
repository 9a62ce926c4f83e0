import { z } from "@hono/zod-openapi";
import { numberedQuery, numberedShape } from "../platform/paging.ts";
import { created, noContent, ok, type Route, route } from "../platform/route.ts";
import {
  createKey,
  deleteKeys,
  keyActor,
  listKeyActors,
  MAX_OVERLAP_SECONDS,
  mustBeAtWork,
  rotateKey,
} from "./api-keys.ts";
import { expiry, grantRoutes, roleInScope } from "./grant-routes.ts";
import { ACTOR_NAME } from "./names.ts";
import { actorType, scopeType } from "./schemas.ts";

const tag = "Auth";
const path = "/api/v1/auth/keys";
const params = z.object({
  id: z.string().openapi({ description: "The actor's id, or the id of one of its keys (ak-)" }),
});
const time = z.string().openapi({ format: "date-time" });
const owner = z.object({ type: actorType, id: z.string() });

const shownRole = z.object({ role_id: z.string(), scope_type: scopeType, scope_id: z.string().optional() });

const shownKey = z
  .object({
    id: z.string(),
    name: z.string(),
    prefix: z.string().openapi({ description: "The key's beginning: enough to tell keys apart" }),
    created_at: time,
    created_by: z.string(),
    owner: owner.openapi({ description: "Who answers for the key; it stops when that is a user who is deactivated" }),
    expires_at: time.nullable(),
    last_used_at: time.nullable().openapi({ description: "To the minute" }),
    revoked_at: time.nullable(),
  })
  .openapi("ApiKey");

const createdKey = z
  .object({
    id: z.string(),
    actor_id: z.string(),
    actor_type: actorType,
    tenant_id: z.string(),
    name: z.string(),
    prefix: z.string(),
    key_value: z.string().openapi({ description: "The key, shown in this answer only" }),
    roles: z.array(shownRole),
    created_by: z.string(),
    owner,
    expires_at: time.nullable(),
    created_at: time,
  })
  .openapi("CreatedApiKey");

const keyActorAnswer = z.object({
  actor_id: z.string(),
  actor_type: actorType,
  tenant_id: z.string(),
  role_ids: z.array(z.string()),
  roles: z.array(shownRole.extend({ expires_at: time.nullable() })),
  keys: z.array(shownKey),
});

export const keyRoutes: Route[] = [
  route({
    operationId: "listAuthKeys",
    method: "get",
    path,
    access: "auth.key.list",
    tag,
    summary: "The actors that have keys or hold roles, with their keys (never their values)",
    query: numberedQuery,
    answers: {
      200: { description: "One page", schema: z.object({ keys: z.array(keyActorAnswer), ...numberedShape }) },
    },
    errors: [400],
    handler: async (ctx, { query }) => ok({ ...(await listKeyActors(ctx, query)), ...query }),
  }),
  route({
    operationId: "createAuthKey",
    method: "post",
    path,
    access: "auth.key.create",
    tag,
    summary: "Make an actor with an API key, which is shown once",
    description: "Needs every permission of the roles in their scopes too: nobody gives what they lack.",
    body: z.strictObject({
      name: z.string().regex(ACTOR_NAME, `must match ${ACTOR_NAME.source}`),
      roles: z.array(z.strictObject(roleInScope)).max(20),
      expires_at: expiry.nullish().openapi({ description: "In the future; null and absent: never" }),
    }),
    bodyLimit: 65_536,
    answers: { 201: { description: "The key", schema: createdKey } },
    errors: [409],
    handler: async (ctx, { body }) => created(await createKey(ctx, body)),
  }),
  route({
    operationId: "rotateAuthKey",
    method: "post",
    path: `${path}/{id}/rotate`,
    access: "auth.key.rotate",
    tag,
    summary: "Make a further key for the same actor; its other keys end after the overlap",
    description:
      "One's own key always; for another's, every right of its actor is needed, as the caller gets a key with them.",
    params,
    body: z.strictObject({
      overlap_seconds: z.number().int().min(0).max(MAX_OVERLAP_SECONDS).optional().openapi({
        description: "How long the old keys still work: a day unless told; 0 ends them at once",
      }),
      expires_at: expiry.nullish().openapi({
        description: "Null: never. Absent: the new key lives as long as the old one was made for",
      }),
    }),
    bodyOptional: true,
    bodyLimit: 16_384,
    answers: {
      201: {
        description: "The new key",
        schema: createdKey.extend({ overlap_ends_at: time }).openapi("RotatedApiKey"),
      },
    },
    errors: [409, 410],
    handler: async (ctx, { params, body }) => created(await rotateKey(ctx, params.id, body)),
  }),
  route({
    operationId: "deleteAuthKey",
    method: "delete",
    path: `${path}/{id}`,
    whenFull: "served",
    access: "auth.key.delete",
    tag,
    summary: "Revoke a key (ak-), or all keys of an actor, at once; again is no error",
    description: "One's own always; for another's, every right of its actor is needed.",
    params,
    answers: { 204: { description: "Revoked" } },
    errors: [409],
    handler: async (ctx, { params }) => {
      await deleteKeys(ctx, params.id);
      return noContent();
    },
  }),
  ...grantRoutes({
    path: `${path}/{id}`,
    tag,
    whose: "an API key's actor",
    assign: "assignAuthKeyRole",
    revoke: "revokeAuthKeyRole",
    list: null,
    errors: [410],
    actor: async (ctx, id, gaining) => {
      const actor = await keyActor(ctx, id);
      if (gaining) await mustBeAtWork(ctx, actor);
      return actor;
    },
  }),
];
