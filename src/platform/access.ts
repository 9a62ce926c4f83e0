import { type SQL, type SQLWrapper, sql } from "drizzle-orm";
import { type Actor, type EffectivePermission, type ScopeType, SYSTEM_ACTOR } from "./context.ts";
import { type AppError, forbidden } from "./errors.ts";

/**
 * What a permission in a scope amounts to. A grant holds everywhere (global), for the objects of one profile, or for those
 * of one issuer. Pure: it reads the actor and the object's place, nothing else.
 */

/** Where an object is: a certificate has a profile and an issuer, a profile is its own, what has neither is reached globally only. */
export interface ObjectScope {
  readonly profile_id?: string | null;
  readonly issuer_id?: string | null;
}

/** Whether the actor holds the permission everywhere. Our own sweeps do. */
export function holds(actor: Actor, permission: string): boolean {
  if (actor === SYSTEM_ACTOR) return true;
  return actor.permissions.some((held) => held.permission === permission && held.scope_type === "global");
}

/** Whether the actor holds the permission everywhere or in some scope. */
export function holdsSomewhere(actor: Actor, permission: string): boolean {
  return actor === SYSTEM_ACTOR || actor.permissions.some((held) => held.permission === permission);
}

/** Whether the actor holds the permission for an object there. */
export function may(actor: Actor, permission: string, where: ObjectScope): boolean {
  if (actor === SYSTEM_ACTOR) return true;
  return actor.permissions.some(
    (held) =>
      held.permission === permission &&
      (held.scope_type === "global" ||
        (held.scope_id !== undefined &&
          held.scope_id === (held.scope_type === "profile" ? where.profile_id : where.issuer_id))),
  );
}

/** Throws 403 unless the actor holds the permission for an object there; the same words for an object that is not there at all. */
export function mustHold(actor: Actor, permission: string, where: ObjectScope | null): void {
  if (where ? may(actor, permission, where) : holds(actor, permission)) return;
  throw holdsSomewhere(actor, permission) ? outOfScope(permission) : lacks(permission);
}

export function lacks(permission: string): AppError {
  return forbidden(`this needs the permission ${permission}`);
}

function outOfScope(permission: string): AppError {
  return forbidden(`this needs the permission ${permission} for this object's profile or issuer`, "out_of_scope");
}

/** What has no profile and no issuer is not reached by who holds the permission in a scope. */
export function globalOnly(permission: string): AppError {
  return forbidden(`this needs the permission ${permission} everywhere, not for a profile or issuer`, "out_of_scope");
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
  if (holds(actor, permission)) return undefined;
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

/** The first of `wanted` that the actor lacks, or null: nobody gives what they lack. */
export function lacking(actor: Actor, wanted: readonly EffectivePermission[]): EffectivePermission | null {
  if (actor === SYSTEM_ACTOR) return null;
  const key = (held: EffectivePermission) => `${held.permission} ${held.scope_type} ${held.scope_id ?? ""}`;
  const held = new Set(actor.permissions.map(key));
  return wanted.find((one) => !held.has(`${one.permission} global `) && !held.has(key(one))) ?? null;
}

/** Throws 403 when the actor lacks one of `wanted`: giving it, in whatever way, would be an escalation. `what` `does` say why. */
export function mustCover(
  actor: Actor,
  wanted: readonly EffectivePermission[],
  what: string,
  does: "would give" | "holds" = "would give",
): void {
  const lack = lacking(actor, wanted);
  if (!lack) return;
  const where = lack.scope_type === "global" ? "everywhere" : `for ${lack.scope_type} ${lack.scope_id}`;
  throw forbidden(`${what} ${does} ${lack.permission} ${where}, which you do not hold yourself`, "privilege_exceeded");
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
