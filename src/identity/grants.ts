import { and, eq, gt, isNull, or } from "drizzle-orm";
import { lacking, narrowed } from "../platform/access.ts";
import {
  type Actor,
  type ActorType,
  type Context,
  type EffectivePermission,
  type LookupContext,
  type ScopeType,
  SYSTEM_ACTOR,
  timestamp,
} from "../platform/context.ts";
import { inList, type Statement } from "../platform/database.ts";
import { forbidden, unauthorized } from "../platform/errors.ts";
import { randomId } from "../platform/ids.ts";
import { activeUser, liveKey } from "./live.ts";
import { BUILTIN_PERMISSIONS } from "./permissions.ts";
import { actorRoles, apiKeys, rolePermissions, users } from "./table.ts";

/** Role grants, and the permissions that result from them. */

export const TENANT = "t-default";

export type Grant = typeof actorRoles.$inferSelect;

/** A role and the scope it is granted in; `scope_id` is empty when global. */
export interface RoleInScope {
  readonly role_id: string;
  readonly scope_type: ScopeType;
  readonly scope_id: string;
}

export interface ActorRef {
  readonly id: string;
  readonly type: ActorType;
}

/** The actor's unexpired grants. */
export async function grantsOf(ctx: LookupContext, actor: ActorRef): Promise<Grant[]> {
  return ctx.db
    .select()
    .from(actorRoles)
    .where(and(eq(actorRoles.actor_id, actor.id), eq(actorRoles.actor_type, actor.type), unexpired(ctx)));
}

/** Condition: the grant has not expired. */
export function unexpired(ctx: Pick<Context, "clock">) {
  return or(isNull(actorRoles.expires_at), gt(actorRoles.expires_at, timestamp(ctx)));
}

/** The permissions of roles in their scopes, without duplicates. Roles that do not exist give none. */
export async function permissionsOf(
  ctx: LookupContext,
  given: readonly RoleInScope[],
): Promise<readonly EffectivePermission[]> {
  const [first] = given;
  const whole = first?.scope_type === "global" ? BUILTIN_PERMISSIONS.get(first.role_id) : undefined;
  if (given.length === 1 && whole) return whole;
  const custom = [...new Set(given.map(({ role_id }) => role_id))].filter((id) => !BUILTIN_PERMISSIONS.has(id));
  const rows =
    custom.length === 0
      ? []
      : await ctx.db.select().from(rolePermissions).where(inList(rolePermissions.role_id, custom));
  const byRole = Map.groupBy(rows, (row) => row.role_id);
  const effective = new Map<string, EffectivePermission>();
  for (const grant of given) {
    const held =
      BUILTIN_PERMISSIONS.get(grant.role_id) ??
      (byRole.get(grant.role_id) ?? []).map((row) => inScope(row.permission, row.scope_type, row.scope_id));
    for (const permission of held) {
      const result = narrowed(permission, grant);
      if (result) effective.set(`${result.permission} ${result.scope_type} ${result.scope_id ?? ""}`, result);
    }
  }
  return [...effective.values()];
}

/** A scoped permission from its columns, where a global `scope_id` is empty. */
export function inScope(permission: string, scope_type: ScopeType, scope_id: string): EffectivePermission {
  return scope_id === "" ? { permission, scope_type } : { permission, scope_type, scope_id };
}

/** Builds an actor from its grants. */
export async function actorWith(ctx: LookupContext, ref: ActorRef, grants: readonly Grant[]): Promise<Actor> {
  return {
    id: ref.id,
    type: ref.type,
    tenant_id: TENANT,
    roles: [...new Set(grants.map((grant) => grant.role_id))],
    permissions: await permissionsOf(ctx, grants),
  };
}

/** When the first of the grants expires, in Unix milliseconds; Infinity if none does. */
export function firstExpiry(grants: readonly Pick<Grant, "expires_at">[]): number {
  return Math.min(
    ...grants.map(({ expires_at }) => (expires_at === null ? Number.POSITIVE_INFINITY : Date.parse(expires_at))),
  );
}

/** Options of `mustCover`. */
interface Cover {
  /**
   * How long the actor must hold the rights: until a time (RFC 3339), without expiry (null), or for this request only.
   */
  readonly until?: string | null | "now";
  /** Why the actor needs them; part of the error message. */
  readonly does?: "would give" | "holds";
}

/**
 * Throws 403 unless the actor of the context holds all of `wanted` for as long as required: nobody can give rights they
 * lack, or for longer than they hold them. `what` begins the error message: "the role r-admin".
 */
export async function mustCover(
  ctx: Context,
  wanted: readonly EffectivePermission[],
  what: string,
  { until = null, does = "would give" }: Cover = {},
): Promise<void> {
  const { actor } = ctx;
  mustNotLack(actor, wanted, `${what} ${does}`);
  if (until === "now" || actor === SYSTEM_ACTOR || actor.type === "Anonymous") return;
  // The cached actor may be five seconds old, which is too old for granting lasting rights.
  await mustStillCome(ctx);
  const held = await grantsOf(ctx, actor);
  const lasting = held.filter(({ expires_at }) => expires_at === null || (until !== null && expires_at >= until));
  const permissions = await permissionsOf(ctx, lasting);
  const ends = lasting.length < held.length;
  const howLong = !ends ? what : `${what} ${until === null ? "without an end" : `until ${until}`}`;
  mustNotLack({ ...actor, permissions }, wanted, `${howLong} ${does}`);
}

function mustNotLack(actor: Actor, wanted: readonly EffectivePermission[], whatDoes: string): void {
  const lack = lacking(actor, wanted);
  if (!lack) return;
  const where = lack.scope_type === "global" ? "everywhere" : `for ${lack.scope_type} ${lack.scope_id}`;
  throw forbidden(`${whatDoes} ${lack.permission} ${where}, which you do not hold yourself`, "privilege_exceeded");
}

/** Throws 401 if the API key used for this request, or its user, has been revoked while it ran. */
async function mustStillCome(ctx: Context): Promise<void> {
  const { type, id, key_id } = ctx.actor;
  const [there] =
    key_id !== undefined
      ? await ctx.db
          .select({ id: apiKeys.id })
          .from(apiKeys)
          .where(and(eq(apiKeys.id, key_id), liveKey(timestamp(ctx))))
      : type === "User"
        ? await ctx.db.select({ id: users.id }).from(users).where(activeUser(id))
        : [{ id }];
  if (!there) throw unauthorized("what the request showed was revoked meanwhile", "credential_revoked");
}

export interface NewGrant extends Partial<Omit<RoleInScope, "role_id">> {
  readonly role_id: string;
  readonly expires_at?: string | null;
  readonly mapping_id?: string;
}

/**
 * Statement that grants a role. Granting again from the same source in the same scope changes only the expiry. The
 * caller must have checked that the role and scope exist and that the actor of the context may grant it.
 */
export function grantStatement(ctx: Context, actor: ActorRef, grant: NewGrant): Statement {
  const { role_id, scope_type = "global", scope_id = "", expires_at = null, mapping_id = "" } = grant;
  const row = {
    id: randomId(ctx.random, "ar-"),
    actor_id: actor.id,
    actor_type: actor.type,
    role_id,
    scope_type,
    scope_id,
    mapping_id,
    expires_at,
    granted_by: ctx.actor.id,
    created_at: timestamp(ctx),
  };
  return ctx.db
    .insert(actorRoles)
    .values(row)
    .onConflictDoUpdate({
      target: [
        actorRoles.actor_type,
        actorRoles.actor_id,
        actorRoles.role_id,
        actorRoles.scope_type,
        actorRoles.scope_id,
        actorRoles.mapping_id,
      ],
      set: { expires_at, granted_by: row.granted_by },
    });
}
