import { and, eq, isNull, ne, or, type SQL, sql } from "drizzle-orm";
import { commit } from "../platform/commit.ts";
import { type Context, timestamp } from "../platform/context.ts";
import { GuardFailed, guard, type Statement } from "../platform/database.ts";
import { type AppError, conflict } from "../platform/errors.ts";
import { unexpired } from "./grants.ts";
import { liveKey } from "./live.ts";
import { actorRoles, apiKeys, oidcProviders, users } from "./table.ts";

/**
 * The last administrator stays. One is an actor who holds `r-admin` everywhere and without end, and who can still come in: by
 * an API key that works and has no end, or as an active user of an enabled provider. D1 runs batches one after the other, so
 * of two administrators who remove each other at the same moment one is refused.
 */

export const ADMIN_ROLE = "r-admin";

/** Whether a grant makes an administrator of its holder. */
export function isAdminGrant(grant: { readonly role_id: string; readonly scope_type?: string | undefined }): boolean {
  return grant.role_id === ADMIN_ROLE && (grant.scope_type ?? "global") === "global";
}

/** Condition: there is an administrator who can come in, by another grant than that of the id `besides`. */
export function administered(ctx: Pick<Context, "clock">, besides?: string): SQL {
  const byKey = sql`exists (select 1 from ${apiKeys} where ${and(
    eq(apiKeys.actor_type, actorRoles.actor_type),
    eq(apiKeys.actor_id, actorRoles.actor_id),
    isNull(apiKeys.expires_at),
    liveKey(timestamp(ctx)),
  )})`;
  const bySignIn = sql`exists (select 1 from ${users} join ${oidcProviders} on ${oidcProviders.id} = ${users.oidc_provider_id}
    where ${and(eq(users.id, actorRoles.actor_id), isNull(users.deactivated_at), eq(oidcProviders.enabled, true))})`;
  return sql`exists (select 1 from ${actorRoles} where ${and(
    eq(actorRoles.role_id, ADMIN_ROLE),
    eq(actorRoles.scope_type, "global"),
    isNull(actorRoles.expires_at),
    besides === undefined ? undefined : ne(actorRoles.id, besides),
    or(and(eq(actorRoles.actor_type, "APIKey"), byKey), and(eq(actorRoles.actor_type, "User"), bySignIn)),
  )})`;
}

/** The guard of a batch that takes, or puts an end to, a grant of `r-admin`: to be its last statement. The batch fails with GuardFailed. */
export function stillAdministered(ctx: Context): Statement {
  return guard(ctx.db, administered(ctx));
}

/**
 * The guard of a batch that leaves the grants and takes ways in (keys, users, providers): to be its last statement. Where
 * nobody holds the role at all, as in demo mode, there is nobody to be kept.
 */
export function administratorComesIn(ctx: Context): Statement {
  const held = and(eq(actorRoles.role_id, ADMIN_ROLE), eq(actorRoles.scope_type, "global"), unexpired(ctx));
  return guard(ctx.db, sql`${administered(ctx)} or not exists (select 1 from ${actorRoles} where ${held})`);
}

/** 409 `last_admin`. */
export function lastAdmin(): AppError {
  return conflict(
    "last_admin",
    "nobody could administer this installation afterwards: first make another administrator, by an API key or a user who holds r-admin everywhere and without expiry",
  );
}

/** `commit` for a batch whose one guard is that of the last administrator, `guarded` at its end: 409 `last_admin`. */
export async function commitAdministered(
  ctx: Context,
  statements: readonly Statement[],
  guarded: Statement,
  options: Parameters<typeof commit>[2] = {},
): Promise<void> {
  try {
    await commit(ctx, [...statements, guarded], options);
  } catch (error) {
    if (error instanceof GuardFailed) throw lastAdmin();
    throw error;
  }
}
