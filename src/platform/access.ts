import { type SQL, type SQLWrapper, sql } from "drizzle-orm";
import { type Actor, type EffectivePermission, type ScopeType, SYSTEM_ACTOR } from "./context.ts";
import { forbidden } from "./errors.ts";

/**
 * Scoped permissions. A grant holds globally, for the objects of one profile, or for those of one issuer. Pure: reads
 * only the actor and the object's scope.
 */

/**
 * The scope of an object. A certificate has a profile and an issuer; a profile or issuer is its own scope; an object
 * with neither needs a global permission.
 */
export interface ObjectScope {
  readonly profile_id?: string | null;
  readonly issuer_id?: string | null;
}

/** Where a permission must hold: for one object's scope, globally, or in at least one scope. */
export type Where = ObjectScope | "everywhere" | "somewhere";

/** Whether the actor holds the permission there. The system actor holds every permission. */
export function may(actor: Actor, permission: string, where: Where): boolean {
  if (actor === SYSTEM_ACTOR) return true;
  return actor.permissions.some((held) => held.permission === permission && reaches(held, where));
}

function reaches({ scope_type, scope_id }: EffectivePermission, where: Where): boolean {
  if (scope_type === "global" || where === "somewhere") return true;
  if (where === "everywhere" || scope_id === undefined) return false;
  return scope_id === (scope_type === "profile" ? where.profile_id : where.issuer_id);
}

/**
 * Throws 403 unless the actor holds the permission there. Pass null for an object that does not exist: the error is the
 * same as for an object outside the actor's scope.
 */
export function mustHold(actor: Actor, permission: string, where: Where | null): void {
  if (may(actor, permission, where ?? "everywhere")) return;
  const needs = `this needs the permission ${permission}`;
  if (!may(actor, permission, "somewhere")) throw forbidden(needs);
  throw where === "everywhere"
    ? forbidden(`${needs} everywhere, not for a profile or issuer`, "out_of_scope")
    : forbidden(`${needs} for this object's profile or issuer`, "out_of_scope");
}

/**
 * SQL condition that limits a list to rows the actor may see; undefined when the actor may see all of them. `columns`
 * name the row's scope columns; a grant in a scope without a column shows no rows.
 */
export function visible(
  actor: Actor,
  permission: string,
  columns: { readonly profile_id?: SQLWrapper; readonly issuer_id?: SQLWrapper },
): SQL | undefined {
  if (may(actor, permission, "everywhere")) return undefined;
  const among = (column: SQLWrapper | undefined, type: ScopeType): SQL[] => {
    const ids = actor.permissions.flatMap((held) =>
      held.permission === permission && held.scope_type === type && held.scope_id !== undefined ? [held.scope_id] : [],
    );
    if (!column || ids.length === 0) return [];
    // With a single value an index can return rows in list order.
    if (ids.length === 1) return [sql`${column} = ${ids[0]}`];
    return [sql`${column} in (select value from json_each(${JSON.stringify(ids)}))`];
  };
  const conditions = [...among(columns.profile_id, "profile"), ...among(columns.issuer_id, "issuer")];
  return conditions.length === 0 ? sql`0` : sql`(${sql.join(conditions, sql` or `)})`;
}

/** The first permission in `wanted` that the actor does not hold, or null. */
export function lacking(actor: Actor, wanted: readonly EffectivePermission[]): EffectivePermission | null {
  if (actor === SYSTEM_ACTOR) return null;
  const key = (held: EffectivePermission) => `${held.permission} ${held.scope_type} ${held.scope_id ?? ""}`;
  const held = new Set(actor.permissions.map(key));
  return wanted.find((one) => !held.has(`${one.permission} global `) && !held.has(key(one))) ?? null;
}

/** The permission of a role narrowed to the scope of a grant of that role; null when the two scopes do not overlap. */
export function narrowed(
  permission: EffectivePermission,
  grant: { readonly scope_type: ScopeType; readonly scope_id: string },
): EffectivePermission | null {
  if (grant.scope_type === "global") return permission;
  if (permission.scope_type === "global")
    return { permission: permission.permission, scope_type: grant.scope_type, scope_id: grant.scope_id };
  return permission.scope_type === grant.scope_type && permission.scope_id === grant.scope_id ? permission : null;
}
