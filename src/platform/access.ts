import { type SQL, type SQLWrapper, sql } from "drizzle-orm";
import { type Actor, type EffectivePermission, type ScopeType, SYSTEM_ACTOR } from "./context.ts";
import { forbidden } from "./errors.ts";

/**
 * What a permission in a scope amounts to. A grant holds everywhere (global), for the objects of one profile, or for those
 * of one issuer. Pure: it reads the actor and the object's place, nothing else.
 */

/** Where an object is: a certificate has a profile and an issuer, a profile is its own, what has neither is reached globally only. */
export interface ObjectScope {
  readonly profile_id?: string | null;
  readonly issuer_id?: string | null;
}

/** Where a permission is to hold: for an object there, everywhere, or in any scope at all. */
export type Where = ObjectScope | "everywhere" | "somewhere";

/** Whether the actor holds the permission there. Our own sweeps hold every permission. */
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
 * Throws 403 unless the actor holds the permission there. Null is the place of an object that does not exist: the error is the
 * one for an object out of the actor's scope.
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
 * The condition of a list on what the actor may see; undefined where it may see everything. `columns` say where a row is;
 * a row type without a column for a scope is not seen in that scope.
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
    // One value lets an index give the rows in the order of the list.
    if (ids.length === 1) return [sql`${column} = ${ids[0]}`];
    return [sql`${column} in (select value from json_each(${JSON.stringify(ids)}))`];
  };
  const conditions = [...among(columns.profile_id, "profile"), ...among(columns.issuer_id, "issuer")];
  return conditions.length === 0 ? sql`0` : sql`(${sql.join(conditions, sql` or `)})`;
}

/** The first of `wanted` that the actor lacks, or null. */
export function lacking(actor: Actor, wanted: readonly EffectivePermission[]): EffectivePermission | null {
  if (actor === SYSTEM_ACTOR) return null;
  const key = (held: EffectivePermission) => `${held.permission} ${held.scope_type} ${held.scope_id ?? ""}`;
  const held = new Set(actor.permissions.map(key));
  return wanted.find((one) => !held.has(`${one.permission} global `) && !held.has(key(one))) ?? null;
}

/** What a permission of a role amounts to under a grant of that role: the narrower scope; null when they have nothing in common. */
export function narrowed(
  permission: EffectivePermission,
  grant: { readonly scope_type: ScopeType; readonly scope_id: string },
): EffectivePermission | null {
  if (grant.scope_type === "global") return permission;
  if (permission.scope_type === "global")
    return { permission: permission.permission, scope_type: grant.scope_type, scope_id: grant.scope_id };
  return permission.scope_type === grant.scope_type && permission.scope_id === grant.scope_id ? permission : null;
}
