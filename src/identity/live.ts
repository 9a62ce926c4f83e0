import { and, eq, gt, isNull, or, type SQL, type SQLWrapper, sql } from "drizzle-orm";
import { rowExists } from "../platform/database.ts";
import { apiKeys, users } from "./table.ts";

/** Conditions for credentials that work: live keys and active users. */

/** Condition: the key works at `now` (RFC 3339). */
export function liveKey(now: string): SQL | undefined {
  return and(
    isNull(apiKeys.revoked_at),
    or(isNull(apiKeys.expires_at), gt(apiKeys.expires_at, now)),
    sql`not ${ownerIsDeactivated(apiKeys)}`,
  );
}

/** Condition: the row's owner is a deactivated user. */
export function ownerIsDeactivated(of: { readonly owner_type: SQLWrapper; readonly owner_id: SQLWrapper }): SQL {
  return rowExists(
    users,
    sql`${of.owner_type} = 'User' and ${users.id} = ${of.owner_id} and ${users.deactivated_at} is not null`,
  );
}

/** Condition: the user exists and is active. */
export function activeUser(id: string): SQL | undefined {
  return and(eq(users.id, id), isNull(users.deactivated_at));
}
