import { eq, type SQL, sql } from "drizzle-orm";
import type { Context, EffectivePermission } from "../../platform/context.ts";
import { permissionsOf, type RoleInScope } from "../grants.ts";
import { actorRoles, oidcGroupMappings, users } from "../table.ts";

/**
 * Everything a provider can give: the roles of its group mappings and those of its users. Editing a provider decides
 * who its users are, even after the editor's own rights have ended, so the editor must hold all of them without expiry.
 */

/** The distinct roles and scopes. */
function roles(providerId: string): SQL {
  return sql`select role_id, scope_type, scope_id from ${oidcGroupMappings} where ${eq(oidcGroupMappings.provider_id, providerId)}
    union select ${actorRoles.role_id}, ${actorRoles.scope_type}, ${actorRoles.scope_id} from ${actorRoles}
      join ${users} on ${users.id} = ${actorRoles.actor_id}
      where ${actorRoles.actor_type} = 'User' and ${eq(users.oidc_provider_id, providerId)}`;
}

export interface Reach {
  readonly permissions: readonly EffectivePermission[];
  /** Guard condition: the provider gives no role beyond those read here. */
  readonly isUnchanged: SQL;
}

export async function reachOf(ctx: Context, providerId: string): Promise<Reach> {
  const given = await ctx.db.all<RoleInScope>(roles(providerId));
  const known = JSON.stringify(given.map(({ role_id, scope_type, scope_id }) => [role_id, scope_type, scope_id]));
  return {
    permissions: await permissionsOf(ctx, given),
    isUnchanged: sql`not exists (select 1 from (${roles(providerId)})
      where json_array(role_id, scope_type, scope_id) not in (select value from json_each(${known})))`,
  };
}
