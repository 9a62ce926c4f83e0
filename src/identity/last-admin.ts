import { and, eq, isNull, or, type SQL, sql } from "drizzle-orm";
import { type Context, timestamp } from "../platform/context.ts";
import { type Guard, guard, noRow, rowExists } from "../platform/database.ts";
import { type AppError, conflict } from "../platform/errors.ts";
import { unexpired } from "./grants.ts";
import { liveKey } from "./live.ts";
import { actorRoles, apiKeys, oidcProviders, users } from "./table.ts";

/**
 * Protects the last administrator: an actor that holds `r-admin` globally without expiry and can still sign in, by a
 * working API key without expiry or as an active user of an enabled provider. D1 runs batches serially, so when two
 * administrators remove each other concurrently, one is refused.
 */

export const ADMIN_ROLE = "r-admin";

/** Whether a grant makes its holder an administrator. */
export function isAdminGrant(grant: { readonly role_id: string; readonly scope_type?: string | undefined }): boolean {
  return grant.role_id === ADMIN_ROLE && (grant.scope_type ?? "global") === "global";
}

/** Condition: there is an administrator who can sign in. */
function administered(ctx: Pick<Context, "clock">): SQL {
  const byKey = rowExists(
    apiKeys,
    and(
      eq(apiKeys.actor_type, actorRoles.actor_type),
      eq(apiKeys.actor_id, actorRoles.actor_id),
      isNull(apiKeys.expires_at),
      liveKey(timestamp(ctx)),
    ),
  );
  const bySignIn = sql`exists (select 1 from ${users} join ${oidcProviders} on ${oidcProviders.id} = ${users.oidc_provider_id}
    where ${and(eq(users.id, actorRoles.actor_id), isNull(users.deactivated_at), eq(oidcProviders.enabled, true))})`;
  return rowExists(
    actorRoles,
    and(
      eq(actorRoles.role_id, ADMIN_ROLE),
      eq(actorRoles.scope_type, "global"),
      isNull(actorRoles.expires_at),
      or(and(eq(actorRoles.actor_type, "APIKey"), byKey), and(eq(actorRoles.actor_type, "User"), bySignIn)),
    ),
  );
}

/** Guard for batches that remove or limit a grant of `r-admin`; must be the last statement. Throws 409 `last_admin`. */
export function stillAdministered(ctx: Context): Guard {
  return guard(administered(ctx), lastAdmin);
}

/**
 * Guard for batches that remove ways to sign in (keys, users, providers) but no grants; must be the last statement.
 * Holds if no actor has the role at all, as in demo mode.
 */
export function administratorComesIn(ctx: Context): Guard {
  const held = and(eq(actorRoles.role_id, ADMIN_ROLE), eq(actorRoles.scope_type, "global"), unexpired(ctx));
  return guard(sql`${administered(ctx)} or ${noRow(actorRoles, held)}`, lastAdmin);
}

function lastAdmin(): AppError {
  return conflict(
    "last_admin",
    "nobody could administer this installation afterwards: first make another administrator, by an API key or a user who holds r-admin everywhere and without expiry",
  );
}
