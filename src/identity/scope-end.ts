import { and, eq } from "drizzle-orm";
import type { Context, ScopeType } from "../platform/context.ts";
import type { Statement } from "../platform/database.ts";
import { actorRoles, oidcGroupMappings, rolePermissions } from "./table.ts";

/** Maximum rows listed in the event, to keep the audit log small. */
const SHOWN = 100;

/**
 * Statements that end all rights in the scope of a deleted profile or issuer; otherwise a new one with the same id
 * would inherit them. They belong in the batch of the deletion. They include an audit event if a grant, a role
 * permission or a group mapping is removed. Call `forgetActors` after the commit.
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
