import { asc, eq } from "drizzle-orm";
import { commit } from "../../platform/commit.ts";
import { type Context, timestamp } from "../../platform/context.ts";
import { guard, ReferenceViolation, rowExists, type Statement, UniqueViolation } from "../../platform/database.ts";
import { type AppError, ChangedMeanwhile, conflict, invalid, notFound } from "../../platform/errors.ts";
import { randomId } from "../../platform/ids.ts";
import { mustExist } from "../../platform/references.ts";
import { forgetActors } from "../actors.ts";
import { mustCover, permissionsOf, TENANT } from "../grants.ts";
import { isAdminGrant, stillAdministered } from "../last-admin.ts";
import { builtinRole } from "../permissions.ts";
import { existingScope, findRole, type ScopeInput, scopesStillExist } from "../roles.ts";
import { actorRoles, oidcGroupMappings, roles } from "../table.ts";

/**
 * Group mappings: which group of which provider gives which role. The grants themselves are updated at sign-in
 * (resync.ts).
 */

type Mapping = typeof oidcGroupMappings.$inferSelect;

/** Throws 400 if the provider does not exist. */
function mustHaveProvider(ctx: Context, id: string): Promise<void> {
  return mustExist(ctx, [{ field: "provider_id", table: "oidc_providers", kind: "identity provider", id }]);
}

/** A mapping as shown; `scope_id` is absent when global. */
export interface ShownMapping extends Omit<Mapping, "created_by" | "scope_id"> {
  readonly scope_id?: string;
}

function shown({ created_by: _, scope_id, ...row }: Mapping): ShownMapping {
  return { ...row, ...(scope_id === "" ? {} : { scope_id }) };
}

/** A provider's mappings, oldest first. Throws 400 if the provider does not exist. */
export async function listMappings(ctx: Context, provider_id: string): Promise<ShownMapping[]> {
  await mustHaveProvider(ctx, provider_id);
  const rows = await ctx.db
    .select()
    .from(oidcGroupMappings)
    .where(eq(oidcGroupMappings.provider_id, provider_id))
    .orderBy(asc(oidcGroupMappings.created_at), asc(oidcGroupMappings.id));
  return rows.map(shown);
}

export interface NewMapping extends ScopeInput {
  readonly provider_id: string;
  readonly group_name: string;
  readonly role_id: string;
}

/**
 * Maps a group to a role. Members get the role at their next sign-in. Throws 403 if the actor lacks any right of it;
 * 400 for a provider, role or scope that does not exist; 409 for an existing mapping.
 */
export async function addMapping(ctx: Context, body: NewMapping): Promise<ShownMapping> {
  await mustHaveProvider(ctx, body.provider_id);
  const scope = await existingScope(ctx, body);
  if (!(await findRole(ctx, body.role_id)))
    throw invalid("role_id", `role ${JSON.stringify(body.role_id)} does not exist`, "reference_not_found");
  const wanted = await permissionsOf(ctx, [{ role_id: body.role_id, ...scope }]);
  await mustCover(ctx, wanted, `the role ${JSON.stringify(body.role_id)}`);
  const row: Mapping = {
    id: randomId(ctx.random, "grm-"),
    tenant_id: TENANT,
    provider_id: body.provider_id,
    group_name: body.group_name,
    role_id: body.role_id,
    ...scope,
    created_by: ctx.actor.id,
    created_at: timestamp(ctx),
  };
  try {
    const statements = [
      ctx.db.insert(oidcGroupMappings).values(row),
      ...stillThere(ctx, row),
      event(ctx, "auth.oidc_mapping.add", row),
    ];
    await commit(ctx, statements, { answer: { status: 201, body: shown(row) } });
  } catch (error) {
    if (error instanceof UniqueViolation)
      throw conflict("already_exists", `group_name: this group gives this role in this scope already`);
    if (error instanceof ReferenceViolation) throw justDeleted();
    throw error;
  }
  return shown(row);
}

/** Guards: the role and scope still exist. The provider has a foreign key. */
function stillThere(ctx: Context, { role_id, ...scope }: Mapping): Statement[] {
  const role = builtinRole(role_id) ? [] : [guard(rowExists(roles, eq(roles.id, role_id)), justDeleted)];
  return [...role, ...scopesStillExist(ctx, [scope], justDeleted)];
}

function justDeleted(): AppError {
  return new ChangedMeanwhile("the provider, the role or the scope was just deleted");
}

/**
 * Removes a mapping and all grants made by it. Throws 404 if it does not exist, 409 if that removes the last
 * administrator.
 */
export async function removeMapping(ctx: Context, id: string): Promise<void> {
  const row = await findMapping(ctx, id);
  if (!row) throw notFound("group mapping", id);
  const here = eq(oidcGroupMappings.id, id);
  await commit(ctx, [
    guard(rowExists(oidcGroupMappings, here), () => notFound("group mapping", id)),
    ctx.db.delete(actorRoles).where(eq(actorRoles.mapping_id, id)),
    ctx.db.delete(oidcGroupMappings).where(here),
    event(ctx, "auth.oidc_mapping.remove", row),
    ...(isAdminGrant(row) ? [stillAdministered(ctx)] : []),
  ]);
  forgetActors();
}

async function findMapping(ctx: Context, id: string): Promise<Mapping | null> {
  const [row] = await ctx.db.select().from(oidcGroupMappings).where(eq(oidcGroupMappings.id, id));
  return row ?? null;
}

function event(
  ctx: Context,
  action: "auth.oidc_mapping.add" | "auth.oidc_mapping.remove",
  { id, provider_id, group_name, role_id, ...row }: Mapping,
) {
  return ctx.audit(action, id, {
    provider_id,
    group_name,
    role_id,
    scope_type: row.scope_type,
    scope_id: row.scope_id,
  });
}
