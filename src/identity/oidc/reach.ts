import { eq, type SQL, sql } from "drizzle-orm";
import { mustCover } from "../../platform/access.ts";
import type { Context } from "../../platform/context.ts";
import { mustBeAbleToGive, permissionsOf, type RoleInScope } from "../grants.ts";
import { actorRoles, oidcGroupMappings, users } from "../table.ts";

/**
 * What a provider can give: the roles of its group mappings, and all that its users hold. Who edits a provider decides who
 * its people are, also after the editor's own rights have ended, so the editor must hold all of it, without an end.
 */

/** Every role in its scope, each once. */
function reach(providerId: string): SQL {
  return sql`select role_id, scope_type, scope_id from ${oidcGroupMappings} where ${eq(oidcGroupMappings.provider_id, providerId)}
    union select ${actorRoles.role_id}, ${actorRoles.scope_type}, ${actorRoles.scope_id} from ${actorRoles}
      join ${users} on ${users.id} = ${actorRoles.actor_id}
      where ${actorRoles.actor_type} = 'User' and ${eq(users.oidc_provider_id, providerId)}`;
}

/**
 * Throws 403 unless the actor holds everything that the provider can give: for good, or just now where the edit only `closes`
 * the provider. Answers the condition for a guard in the batch of the edit: that the provider can give no more by then.
 */
export async function mustCoverReach(ctx: Context, providerId: string, closes: boolean): Promise<SQL> {
  const given = await ctx.db.all<RoleInScope>(reach(providerId));
  const what = "this identity provider, by its mappings and users,";
  if (closes) mustCover(ctx.actor, await permissionsOf(ctx, given), what);
  else await mustBeAbleToGive(ctx, given, what);
  const covered = JSON.stringify(given.map(({ role_id, scope_type, scope_id }) => [role_id, scope_type, scope_id]));
  return sql`not exists (select 1 from (${reach(providerId)})
      where json_array(role_id, scope_type, scope_id) not in (select value from json_each(${covered})))`;
}
