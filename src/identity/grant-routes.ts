import { z } from "@hono/zod-openapi";
import type { Context } from "../platform/context.ts";
import { noContent, ok, type Route, route } from "../platform/route.ts";
import { giveRole, listGrants, takeRole } from "./grant-changes.ts";
import type { ActorRef } from "./grants.ts";
import { scopeType } from "./schemas.ts";

const time = z.string().openapi({ format: "date-time" });

/** Body fields for a role in a scope. */
export const roleInScope = {
  role_id: z.string().min(1).max(255),
  scope_type: scopeType.default("global"),
  scope_id: z.string().max(255).nullish().openapi({ description: "The profile's or issuer's id; absent when global" }),
};

/** Body field for an expiry time. */
export const expiry = z.iso.datetime({ offset: true });

const grantBody = z.strictObject({
  ...roleInScope,
  expires_at: expiry.nullish().openapi({ description: "In the future; null and absent: never" }),
});

/** Query parameters that select the scope of a held role. */
export const scopeQuery = z.object({ scope_type: scopeType.optional(), scope_id: z.string().optional() });

/** A grant in an answer. */
const shownGrant = z
  .object({
    id: z.string(),
    role_id: z.string(),
    scope_type: scopeType,
    scope_id: z.string().optional(),
    expires_at: time.nullable(),
    mapping: z.object({ id: z.string(), provider_id: z.string(), group_name: z.string() }).nullable().openapi({
      description: "The group mapping that gives and takes this grant; null when somebody gave it by hand",
    }),
    granted_by: z.string(),
    created_at: time,
  })
  .openapi("AuthGrant");

interface GrantRoutes {
  /** Parent path of the grants: `/api/v1/auth/users/{id}`. */
  readonly path: string;
  readonly tag: string;
  /** Used in summaries: "a user". */
  readonly whose: string;
  /** Operation ids. */
  readonly assign: string;
  readonly revoke: string;
  /** Operation id and permission of the list of grants; null if another list shows them. */
  readonly list: { readonly operationId: string; readonly access: string } | null;
  /** Additional error statuses. */
  readonly errors?: readonly number[];
  /** The actor named in the path; throws 404. `gaining` is true when it is about to get a role. */
  actor(ctx: Context, id: string, gaining: boolean): Promise<ActorRef>;
}

/** Routes that list, grant (auth.role.assign) and revoke (auth.role.revoke) an actor's roles. */
export function grantRoutes(of: GrantRoutes): Route[] {
  const { tag, errors = [] } = of;
  const path = `${of.path}/roles`;
  const params = z.object({ id: z.string() });
  const list =
    of.list &&
    route({
      ...of.list,
      method: "get",
      path,
      tag,
      summary: `The roles that ${of.whose} holds now, with where they come from`,
      params,
      answers: { 200: { description: "The grants", schema: z.object({ grants: z.array(shownGrant) }) } },
      handler: async (ctx, { params }) => ok({ grants: await listGrants(ctx, await of.actor(ctx, params.id, false)) }),
    });
  return [
    ...(list ? [list] : []),
    route({
      operationId: of.assign,
      method: "post",
      path,
      access: "auth.role.assign",
      tag,
      summary: `Give ${of.whose} a role, everywhere or for one profile or issuer; given again, only its end changes`,
      description: "Needs every permission of the role in that scope too: nobody gives what they lack.",
      params,
      body: grantBody,
      bodyLimit: 16_384,
      answers: { 204: { description: "Held from now on" } },
      errors: [409, ...errors],
      handler: async (ctx, { params, body }) => {
        await giveRole(ctx, await of.actor(ctx, params.id, true), body);
        return noContent();
      },
    }),
    route({
      operationId: of.revoke,
      whenFull: "served",
      method: "delete",
      path: `${path}/{role_id}`,
      access: "auth.role.revoke",
      tag,
      summary: `Take a role from ${of.whose}: one variant by its scope, or all that were given by hand`,
      description: "What a group mapping gives is taken by changing the mapping: 409 here.",
      params: z.object({ id: z.string(), role_id: z.string() }),
      query: scopeQuery,
      answers: { 204: { description: "Taken" } },
      errors: [400, 409],
      handler: async (ctx, { params, query }) => {
        await takeRole(ctx, await of.actor(ctx, params.id, false), params.role_id, query);
        return noContent();
      },
    }),
  ];
}
