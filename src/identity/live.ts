import { and, eq, gt, isNull, or, type SQL, type SQLWrapper, sql } from "drizzle-orm";
import { rowExists } from "../platform/database.ts";
import { apiKeys, users } from "./table.ts";

/** Conditions on what lets somebody in: keys that work, people who are active. */

/** The key works at `now` (RFC 3339). */
export function liveKey(now: string): SQL | undefined {
  return and(
    isNull(apiKeys.revoked_at),
    or(isNull(apiKeys.expires_at), gt(apiKeys.expires_at, now)),
    sql`not ${ownerIsDeactivated(apiKeys)}`,
  );
}

/** Who answers for a row with an owner is a user who was deactivated. */
export function ownerIsDeactivated(of: { readonly owner_type: SQLWrapper; readonly owner_id: SQLWrapper }): SQL {
  return rowExists(
    users,
    sql`${of.owner_type} = 'User' and ${users.id} = ${of.owner_id} and ${users.deactivated_at} is not null`,
  );
}

/** The user is there and active. */
export function activeUser(id: string): SQL | undefined {
  return and(eq(users.id, id), isNull(users.deactivated_at));
}
