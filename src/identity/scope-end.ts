import { and, eq } from "drizzle-orm";
import type { Context, ScopeType } from "../platform/context.ts";
import type { Statement } from "../platform/database.ts";
import { actorRoles, oidcGroupMappings, rolePermissions } from "./table.ts";

/** What of an event's details may be long is cut: the audit log is no place for thousands of rows. */
const SHOWN = 100;

/**
 * The statements that end every right in the scope of a profile or issuer that is deleted: another one that gets its id later
 * must not be in the hands of those who held the old one. They belong into the batch of the deletion, its event among them
 * where a grant, a permission of a role or a group mapping goes. `forgetActors` belongs after the batch.
 */
export async function endScope(ctx: Context, type: Exclude<ScopeType, "global">, id: string): Promise<Statement[]> {
  const [grants, permissions, mappings] = await Promise.all([
    ctx.db
      .select({ actor_type: actorRoles.actor_type, actor_id: actorRoles.actor_id, role_id: actorRoles.role_id })
      .from(actorRoles)
      .where(and(eq(actorRoles.scope_type, type), eq(actorRoles.scope_id, id))),
    ctx.db
      .select({ role_id: rolePermissions.role_id, permission: rolePermissions.permission })
      .from(rolePermissions)
      .where(and(eq(rolePermissions.scope_type, type), eq(rolePermissions.scope_id, id))),
    ctx.db
      .select({
        id: oidcGroupMappings.id,
        provider_id: oidcGroupMappings.provider_id,
        group_name: oidcGroupMappings.group_name,
        role_id: oidcGroupMappings.role_id,
      })
      .from(oidcGroupMappings)
      .where(and(eq(oidcGroupMappings.scope_type, type), eq(oidcGroupMappings.scope_id, id))),
  ]);
  const deletions = [actorRoles, rolePermissions, oidcGroupMappings].map((table) =>
    ctx.db.delete(table).where(and(eq(table.scope_type, type), eq(table.scope_id, id))),
  );
  if (grants.length + permissions.length + mappings.length === 0) return deletions;
  const event = ctx.audit(
    "auth.scope.end",
    id,
    {
      scope_type: type,
      scope_id: id,
      count: grants.length,
      grants: grants.slice(0, SHOWN),
      permission_count: permissions.length,
      permissions: permissions.slice(0, SHOWN),
      mapping_count: mappings.length,
      mappings: mappings.slice(0, SHOWN),
    },
    { resource_type: type },
  );
  return [...deletions, event];
}
