import { and, asc, eq, type SQL, sql } from "drizzle-orm";
import { commit } from "../platform/commit.ts";
import { type Context, type ScopeType, timestamp } from "../platform/context.ts";
import { guard, noRow, ReferenceViolation, type Statement, UniqueViolation, unchanged } from "../platform/database.ts";
import { type AppError, conflict, invalid, notFound } from "../platform/errors.ts";
import { randomId } from "../platform/ids.ts";
import { repeatedly } from "../platform/race.ts";
import { checkIfMatch, nextUpdatedAt } from "../platform/rows.ts";
import { forgetActors } from "./actors.ts";
import { inScope, mustCover, TENANT, unexpired } from "./grants.ts";
import { BUILTIN_ROLES, builtinRole, findPermission } from "./permissions.ts";
import { actorRoles, oidcGroupMappings, rolePermissions, roles } from "./table.ts";

/** Roles: the read-only built-in ones and custom ones. */

/** A role as the API shows it; built-in ones have no times. */
export interface Role {
  readonly id: string;
  readonly tenant_id: string;
  readonly name: string;
  readonly description: string;
  readonly builtin: boolean;
  readonly created_at?: string;
  readonly updated_at?: string;
}

type CustomRole = typeof roles.$inferSelect;

export interface RolePermission {
  readonly role_id: string;
  readonly permission_id: string;
  /** The permission's name, such as `cert.read`. */
  readonly permission: string;
  readonly scope_type: ScopeType;
  readonly scope_id?: string;
}

/** A scope in bodies and queries. */
export interface ScopeInput {
  readonly scope_type?: ScopeType | undefined;
  readonly scope_id?: string | null | undefined;
}

/** A scope in rows: `scope_id` is empty when global. */
export interface Scope {
  readonly scope_type: ScopeType;
  readonly scope_id: string;
}

const asShown = (row: CustomRole): Role => ({ ...row, builtin: false });

const builtins: readonly Role[] = BUILTIN_ROLES.map(({ id, name, description }) => ({
  id,
  tenant_id: TENANT,
  name,
  description,
  builtin: true,
}));

/** All roles, built-in ones first. */
export async function listRoles(ctx: Context): Promise<readonly Role[]> {
  const rows = await ctx.db.select().from(roles).orderBy(asc(roles.created_at), asc(roles.id));
  return [...builtins, ...rows.map(asShown)];
}

export async function findRole(ctx: Context, id: string): Promise<Role | null> {
  const builtin = builtins.find((role) => role.id === id);
  if (builtin) return builtin;
  const row = await findCustom(ctx, id);
  return row ? asShown(row) : null;
}

async function findCustom(ctx: Context, id: string): Promise<CustomRole | null> {
  const [row] = await ctx.db.select().from(roles).where(eq(roles.id, id));
  return row ?? null;
}

/** A role with its permissions and their scopes; throws 404 if it does not exist. */
export async function roleWithPermissions(ctx: Context, id: string) {
  const role = await findRole(ctx, id);
  if (!role) throw notFound("role", id);
  return { role, permissions: await permissionsOfRole(ctx, id) };
}

async function permissionsOfRole(ctx: Context, id: string): Promise<RolePermission[]> {
  const builtin = builtinRole(id);
  const held = builtin
    ? builtin.permissions.map((permission) => ({ permission, scope_type: "global" as const, scope_id: "" }))
    : await ctx.db
        .select()
        .from(rolePermissions)
        .where(eq(rolePermissions.role_id, id))
        .orderBy(asc(rolePermissions.permission), asc(rolePermissions.scope_type), asc(rolePermissions.scope_id));
  return held.map(({ permission, scope_type, scope_id }) => ({
    role_id: id,
    permission_id: findPermission(permission)?.id ?? permission,
    ...inScope(permission, scope_type, scope_id),
  }));
}

/**
 * Creates a role without permissions. Throws 409 if another role has the name, or a built-in one has it as its name or
 * id.
 */
export async function createRole(ctx: Context, body: { name: string; description: string }): Promise<Role> {
  mustBeFreeOfBuiltins(body.name);
  const now = timestamp(ctx);
  const row = { id: randomId(ctx.random, "r-"), tenant_id: TENANT, ...body, created_at: now, updated_at: now };
  const role = asShown(row);
  const audit = ctx.audit("auth.role.create", row.id, { name: row.name });
  await nameUnique(row.name, () =>
    commit(ctx, [ctx.db.insert(roles).values(row), audit], { answer: { status: 201, body: role } }),
  );
  return role;
}

/**
 * Updates name or description; absent fields keep their values. Throws 409 for a built-in role or a name in use, 412
 * for a stale If-Match.
 */
export async function updateRole(
  ctx: Context,
  id: string,
  body: { name?: string | undefined; description?: string | undefined },
  ifMatch: string | null,
): Promise<Role> {
  return repeatedly(async () => {
    const before = await mustBeCustom(ctx, id);
    checkIfMatch(before, ifMatch);
    if (body.name !== undefined) mustBeFreeOfBuiltins(body.name);
    const row: CustomRole = {
      ...before,
      name: body.name ?? before.name,
      description: body.description ?? before.description,
      updated_at: nextUpdatedAt(ctx, before),
    };
    await nameUnique(row.name, () =>
      commit(ctx, [
        guard(unchanged(roles, before)),
        ctx.db.update(roles).set(row).where(eq(roles.id, id)),
        ctx.audit("auth.role.update", id, { name: row.name, name_before: before.name }),
      ]),
    );
    return asShown(row);
  });
}

/**
 * Deletes a role. Throws 409 while it is granted or mapped to a group. Expired grants do not count and are deleted too.
 */
export async function deleteRole(ctx: Context, id: string, ifMatch: string | null): Promise<void> {
  const role = await mustBeCustom(ctx, id);
  checkIfMatch(role, ifMatch);
  const held = and(eq(actorRoles.role_id, id), unexpired(ctx));
  const inUse = () =>
    conflict("role_in_use", `role ${JSON.stringify(role.name)} is held by somebody or named by a group mapping`);
  await commit(ctx, [
    guard(noRow(actorRoles, held), inUse),
    guard(noRow(oidcGroupMappings, eq(oidcGroupMappings.role_id, id)), inUse),
    ctx.db.delete(actorRoles).where(eq(actorRoles.role_id, id)),
    ctx.db.delete(rolePermissions).where(eq(rolePermissions.role_id, id)),
    ctx.db.delete(roles).where(eq(roles.id, id)),
    ctx.audit("auth.role.delete", id, { name: role.name }),
  ]);
  forgetActors();
}

/**
 * Adds a permission to a role; idempotent. Every holder of the role gains it, so the caller must hold it in that scope
 * (403). Throws 400 for an unknown permission or scope, 409 for a built-in role.
 */
export async function grantPermission(
  ctx: Context,
  id: string,
  body: ScopeInput & { readonly permission: string },
): Promise<void> {
  const role = await mustBeCustom(ctx, id);
  const permission = findPermission(body.permission)?.name;
  if (permission === undefined)
    throw invalid(
      "permission",
      `${JSON.stringify(body.permission)} is not in the catalogue (GET /api/v1/auth/permissions)`,
    );
  await repeatedly(async () => {
    const scope = await existingScope(ctx, body);
    const wanted = inScope(permission, scope.scope_type, scope.scope_id);
    await mustCover(ctx, [wanted], `the role ${JSON.stringify(role.name)}`);
    const row = { role_id: id, permission, ...scope, granted_by: ctx.actor.id, created_at: timestamp(ctx) };
    const [held] = await ctx.db.select().from(rolePermissions).where(sameEntry(row));
    if (held) return;
    try {
      await commit(ctx, [
        ...scopesStillExist(ctx, [scope]),
        ctx.db.insert(rolePermissions).values(row).onConflictDoNothing(),
        ctx.audit("auth.role.permission_add", id, { permission, ...scope }),
      ]);
    } catch (error) {
      if (error instanceof ReferenceViolation) throw notFound("role", id);
      throw error;
    }
  });
  forgetActors();
}

/**
 * Removes a permission in one scope (global by default) from a role. Throws 404 if the role lacks it there, 409 for a
 * built-in role.
 */
export async function revokePermission(ctx: Context, id: string, nameOrId: string, asked: ScopeInput): Promise<void> {
  await mustBeCustom(ctx, id);
  const permission = findPermission(nameOrId)?.name ?? nameOrId;
  const scope = namedScope(asked);
  const entry = { role_id: id, permission, ...scope };
  const [held] = await ctx.db.select().from(rolePermissions).where(sameEntry(entry));
  if (!held) throw notFound(`permission of the role ${JSON.stringify(id)} in this scope`, nameOrId);
  await commit(ctx, [
    ctx.db.delete(rolePermissions).where(sameEntry(entry)),
    ctx.audit("auth.role.permission_remove", id, { permission, ...scope }),
  ]);
  forgetActors();
}

function sameEntry(entry: Scope & { role_id: string; permission: string }) {
  return and(
    eq(rolePermissions.role_id, entry.role_id),
    eq(rolePermissions.permission, entry.permission),
    eq(rolePermissions.scope_type, entry.scope_type),
    eq(rolePermissions.scope_id, entry.scope_id),
  );
}

/**
 * Checks that a scope has an id exactly if it is a profile or issuer; throws 400 otherwise. Does not check that the
 * profile or issuer exists.
 */
export function namedScope({ scope_type, scope_id }: ScopeInput, prefix = ""): Scope {
  const id = scope_id ?? "";
  if (scope_type === undefined || scope_type === "global") {
    if (id === "") return { scope_type: "global", scope_id: "" };
    throw invalid(`${prefix}scope_id`, "goes with the scope_type profile or issuer only");
  }
  if (id === "") throw invalid(`${prefix}scope_id`, `is needed: the id of the ${scope_type}`);
  return { scope_type, scope_id: id };
}

declare module "../platform/context.ts" {
  interface Wiring {
    /** Conditions: the profile or issuer of a scope exists. */
    readonly scopes: Readonly<Record<Exclude<ScopeType, "global">, (id: string) => SQL>>;
  }
}

/**
 * Like namedScope, but also throws 400 if the profile or issuer does not exist. `prefix` locates the scope in the body:
 * `roles.0.`.
 */
export async function existingScope(ctx: Context, input: ScopeInput, prefix = ""): Promise<Scope> {
  const scope = namedScope(input, prefix);
  if (scope.scope_type === "global") return scope;
  const { scope_type, scope_id } = scope;
  const [row] = await ctx.db.all<{ n: number }>(sql`select ${ctx.wiring.scopes[scope_type](scope_id)} as n`);
  if (row?.n !== 1)
    throw invalid(
      `${prefix}scope_id`,
      `${scope_type} ${JSON.stringify(scope_id)} does not exist`,
      "reference_not_found",
    );
  return scope;
}

/**
 * Guards: the profiles and issuers still exist when the batch runs, because deleting one ends all rights in its scope.
 */
export function scopesStillExist(ctx: Context, scopes: readonly Scope[], error?: () => AppError): Statement[] {
  return scopes.flatMap(({ scope_type, scope_id }) => {
    if (scope_type === "global") return [];
    return [guard(ctx.wiring.scopes[scope_type](scope_id), error)];
  });
}

async function mustBeCustom(ctx: Context, id: string): Promise<CustomRole> {
  if (builtinRole(id))
    throw conflict(
      "builtin_role",
      `role ${JSON.stringify(id)} is built in and stays as it is: make a role of your own`,
    );
  const row = await findCustom(ctx, id);
  if (!row) throw notFound("role", id);
  return row;
}

function mustBeFreeOfBuiltins(name: string): void {
  const lower = name.toLowerCase();
  if (BUILTIN_ROLES.some((role) => role.name.toLowerCase() === lower || role.id === lower)) throw nameTaken(name);
}

function nameTaken(name: string): AppError {
  return conflict("already_exists", `name: a role with name ${JSON.stringify(name)} exists already`);
}

/** Turns a violation of the unique name into a 409. */
async function nameUnique(name: string, write: () => Promise<void>): Promise<void> {
  try {
    await write();
  } catch (error) {
    if (error instanceof UniqueViolation && error.columns.includes("roles.name")) throw nameTaken(name);
    throw error;
  }
}
