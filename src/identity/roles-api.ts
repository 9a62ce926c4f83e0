import { z } from "@hono/zod-openapi";
import { created, noContent, ok, type Route, route } from "../platform/route.ts";
import { etagOf, nameSchema, textSchema } from "../platform/rows.ts";
import { scopeQuery } from "./grant-routes.ts";
import { PERMISSION_LIST } from "./permissions.ts";
import {
  createRole,
  deleteRole,
  grantPermission,
  listRoles,
  type Role,
  revokePermission,
  roleWithPermissions,
  updateRole,
} from "./roles.ts";
import { scopeType } from "./schemas.ts";

const tag = "Auth";
const path = "/api/v1/auth/roles";
const params = z.object({ id: z.string() });
const time = z.string().openapi({ format: "date-time" });

const role = z
  .object({
    id: z.string(),
    tenant_id: z.string(),
    name: z.string(),
    description: z.string(),
    builtin: z.boolean().openapi({ description: "Built-in roles cannot be changed" }),
    created_at: time.optional(),
    updated_at: time.optional(),
  })
  .openapi("AuthRole");

const rolePermission = z
  .object({
    role_id: z.string(),
    permission_id: z.string(),
    permission: z.string(),
    scope_type: scopeType,
    scope_id: z.string().optional(),
  })
  .openapi("AuthRolePermission");

// Server-managed: accepted in a body and ignored.
const managed = {
  tenant_id: z.string().nullish(),
  builtin: z.boolean().nullish(),
  created_at: time.nullish(),
  updated_at: time.nullish(),
};

const tagged = ({ id, updated_at }: Role) => (updated_at === undefined ? {} : { ETag: etagOf({ id, updated_at }) });

const permissionRoutes: Route[] = [
  route({
    operationId: "listAuthPermissions",
    method: "get",
    path: "/api/v1/auth/permissions",
    access: { authenticated: "the catalogue is in the documentation too" },
    tag,
    summary: "Every permission there is",
    answers: {
      200: {
        description: "The catalogue",
        schema: z.object({
          permissions: z.array(z.object({ id: z.string(), name: z.string(), namespace: z.string() })),
        }),
      },
    },
    handler: async () => ok({ permissions: PERMISSION_LIST }),
  }),
  route({
    operationId: "grantAuthRolePermission",
    method: "post",
    path: `${path}/{id}/permissions`,
    access: "auth.role.edit",
    tag,
    summary: "Let a role do one thing more, everywhere or for one profile or issuer",
    description: "Needs that permission in that scope too: nobody gives what they lack.",
    params,
    body: z.strictObject({
      permission: z.string().min(1).max(128).openapi({ description: "Name or id of the catalogue" }),
      scope_type: scopeType.default("global"),
      scope_id: z.string().max(255).nullish(),
    }),
    bodyLimit: 16_384,
    answers: { 204: { description: "The role has it, also where it had it before" } },
    errors: [409],
    handler: async (ctx, { params, body }) => {
      await grantPermission(ctx, params.id, body);
      return noContent();
    },
  }),
  route({
    operationId: "revokeAuthRolePermission",
    method: "delete",
    path: `${path}/{id}/permissions/{perm}`,
    whenFull: "served",
    access: "auth.role.edit",
    tag,
    summary: "Take a permission, by name or id, from a role: the global one, or that of a scope",
    params: z.object({ id: z.string(), perm: z.string() }),
    query: scopeQuery,
    answers: { 204: { description: "Taken" } },
    errors: [400, 409],
    handler: async (ctx, { params, query }) => {
      await revokePermission(ctx, params.id, params.perm, query);
      return noContent();
    },
  }),
];

export const roleRoutes: Route[] = [
  route({
    operationId: "listAuthRoles",
    method: "get",
    path,
    access: "auth.role.list",
    tag,
    summary: "All roles, built-in ones first",
    answers: { 200: { description: "The roles", schema: z.object({ roles: z.array(role) }) } },
    handler: async (ctx) => ok({ roles: await listRoles(ctx) }),
  }),
  route({
    operationId: "createAuthRole",
    method: "post",
    path,
    access: "auth.role.create",
    tag,
    summary: "Create a role, which may do nothing yet",
    body: z.strictObject({ name: nameSchema, description: textSchema.default("") }),
    bodyLimit: 16_384,
    location: path,
    answers: { 201: { description: "Created", schema: role } },
    errors: [409],
    handler: async (ctx, { body }) => created(await createRole(ctx, body)),
  }),
  route({
    operationId: "getAuthRole",
    method: "get",
    path: `${path}/{id}`,
    access: "auth.role.list",
    tag,
    summary: "A role and what it may do",
    params,
    answers: {
      200: { description: "The role", schema: z.object({ role, permissions: z.array(rolePermission) }) },
    },
    handler: async (ctx, { params }) => {
      const found = await roleWithPermissions(ctx, params.id);
      return ok(found, tagged(found.role));
    },
  }),
  route({
    operationId: "updateAuthRole",
    method: "put",
    path: `${path}/{id}`,
    access: "auth.role.edit",
    tag,
    summary: "Rename or describe a role: an absent field keeps its value",
    params,
    body: z.strictObject({
      id: z.string().nullish(),
      name: nameSchema.optional(),
      description: textSchema.nullish(),
      ...managed,
    }),
    bodyLimit: 16_384,
    answers: { 200: { description: "The role as it is now", schema: role } },
    errors: [409, 412],
    handler: async (ctx, { params, body, ifMatch }) => {
      const changes = { name: body.name, description: body.description === null ? "" : body.description };
      const changed = await updateRole(ctx, params.id, changes, ifMatch);
      return ok(changed, tagged(changed));
    },
  }),
  route({
    operationId: "deleteAuthRole",
    method: "delete",
    path: `${path}/{id}`,
    access: "auth.role.delete",
    tag,
    summary: "Delete a role that nobody holds and no group mapping names",
    params,
    answers: { 204: { description: "Deleted" } },
    errors: [409, 412],
    handler: async (ctx, { params, ifMatch }) => {
      await deleteRole(ctx, params.id, ifMatch);
      return noContent();
    },
  }),
  ...permissionRoutes,
];
