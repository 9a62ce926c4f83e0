import { and, asc, eq, sql } from "drizzle-orm";
import { commit } from "../platform/commit.ts";
import type { Context, ScopeType } from "../platform/context.ts";
import { guard, inList, type Statement } from "../platform/database.ts";
import { conflict, invalid, notFound } from "../platform/errors.ts";
import type { EventAction } from "../platform/events.ts";
import { describeError } from "../platform/log.ts";
import { repeatedly } from "../platform/race.ts";
import { isSortable } from "../platform/rows.ts";
import { forgetActors } from "./actors.ts";
import { closeBootstrap } from "./bootstrap.ts";
import {
  type ActorRef,
  type Grant,
  grantStatement,
  mustCover,
  permissionsOf,
  type RoleInScope,
  unexpired,
} from "./grants.ts";
import { isAdminGrant, stillAdministered } from "./last-admin.ts";
import { builtinRole } from "./permissions.ts";
import { existingScope, findRole, namedScope, type ScopeInput, scopesStillExist } from "./roles.ts";
import { rotateCsrfOf } from "./sessions/sessions.ts";
import { actorRoles, oidcGroupMappings, roles } from "./table.ts";

/** Granting roles to, and revoking them from, API keys' actors, users and agents. */

export interface GrantInput extends ScopeInput {
  readonly role_id: string;
  readonly expires_at?: string | null | undefined;
}

/**
 * An unexpired grant as the API shows it. `mapping` is the group mapping that manages it; null if it was granted by
 * hand.
 */
export interface ShownGrant {
  readonly id: string;
  readonly role_id: string;
  readonly scope_type: ScopeType;
  readonly scope_id?: string;
  readonly expires_at: string | null;
  readonly mapping: { readonly id: string; readonly provider_id: string; readonly group_name: string } | null;
  readonly granted_by: string;
  readonly created_at: string;
}

/** The actor's unexpired grants and their group mappings. */
export async function listGrants(ctx: Context, actor: ActorRef): Promise<ShownGrant[]> {
  const rows = await ctx.db
    .select({ grant: actorRoles, mapping: oidcGroupMappings })
    .from(actorRoles)
    .leftJoin(oidcGroupMappings, eq(oidcGroupMappings.id, actorRoles.mapping_id))
    .where(and(ofActor(actor), unexpired(ctx)))
    .orderBy(asc(actorRoles.created_at), asc(actorRoles.id));
  return rows.map(({ grant, mapping }) => {
    const { id, role_id, scope_type, scope_id, expires_at, granted_by, created_at } = grant;
    const shownMapping = mapping && {
      id: mapping.id,
      provider_id: mapping.provider_id,
      group_name: mapping.group_name,
    };
    const scope = scope_id === "" ? { scope_type } : { scope_type, scope_id };
    return { id, role_id, ...scope, expires_at, mapping: shownMapping, granted_by, created_at };
  });
}

/**
 * Grants a role globally or in a scope, with an optional expiry; granting again changes only the expiry. Throws 403 if
 * the caller lacks any right of the role; 404 for an unknown role; 400 for a scope that does not exist or an expiry in
 * the past; 409 if the expiry would leave no administrator.
 */
export async function giveRole(ctx: Context, actor: ActorRef, input: GrantInput): Promise<void> {
  await repeatedly(async () => {
    if (!(await findRole(ctx, input.role_id))) throw notFound("role", input.role_id);
    const grant = { role_id: input.role_id, ...(await existingScope(ctx, input)) };
    const expires_at = futureTime(ctx, input.expires_at);
    const wanted = await permissionsOf(ctx, [grant]);
    await mustCover(ctx, wanted, `the role ${JSON.stringify(grant.role_id)}`, { until: expires_at });
    const statements = [
      ...stillThere(ctx, [grant]),
      grantStatement(ctx, actor, { ...grant, expires_at }),
      ...(isAdminGrant(grant) ? [closeBootstrap(ctx)] : []),
      event(ctx, "auth.grant.create", actor, { ...grant, expires_at }),
    ];
    const mayEnd = isAdminGrant(grant) && expires_at !== null;
    await commit(ctx, [...statements, ...(mayEnd ? [stillAdministered(ctx)] : [])]);
  });
  await rightsChanged(ctx, actor);
}

/**
 * Revokes a role: the grant in the given scope, or without a scope all grants made by hand. Throws 404 if the actor
 * does not hold it; 409 for a grant managed by a group mapping and for the last administrator's grant.
 */
export async function takeRole(ctx: Context, actor: ActorRef, role_id: string, asked: ScopeInput): Promise<void> {
  const scope = asked.scope_type === undefined && asked.scope_id === undefined ? null : namedScope(asked);
  const rows = await ctx.db
    .select()
    .from(actorRoles)
    .where(
      and(
        ofActor(actor),
        eq(actorRoles.role_id, role_id),
        scope ? eq(actorRoles.scope_type, scope.scope_type) : undefined,
        scope ? eq(actorRoles.scope_id, scope.scope_id) : undefined,
      ),
    );
  if (rows.length === 0) throw notFound(`grant to ${JSON.stringify(actor.id)} of the role`, role_id);
  const byHand = rows.filter(({ mapping_id }) => mapping_id === "");
  if (byHand.length === 0)
    throw conflict(
      "mapped_grant",
      `this grant comes of the group mapping ${rows[0]?.mapping_id}: change the mapping or the user's groups at the provider`,
    );
  const statements = [
    ctx.db.delete(actorRoles).where(
      inList(
        actorRoles.id,
        byHand.map(({ id }) => id),
      ),
    ),
    event(ctx, "auth.grant.revoke", actor, { role_id, scopes: byHand.map(scopeText) }),
  ];
  await commit(ctx, [...statements, ...(byHand.some(isAdminGrant) ? [stillAdministered(ctx)] : [])]);
  await rightsChanged(ctx, actor);
}

/** Guards: the roles and scopes still exist when the batch runs. */
export function stillThere(ctx: Context, given: readonly RoleInScope[]): Statement[] {
  const custom = [...new Set(given.map(({ role_id }) => role_id))].filter((id) => !builtinRole(id));
  const scopes = scopesStillExist(ctx, given);
  if (custom.length === 0) return scopes;
  const present = sql`(select count(*) from ${roles} where ${inList(roles.id, custom)}) = ${custom.length}`;
  return [guard(present), ...scopes];
}

/** A future time in UTC with milliseconds; null: never. Throws 400 for a past time. */
export function futureTime(ctx: Context, text: string | null | undefined): string | null {
  if (text === null || text === undefined) return null;
  const time = new Date(text);
  if (!(time > ctx.clock.now())) throw invalid("expires_at", "must be in the future");
  if (!isSortable(time)) throw invalid("expires_at", "must be before the year 10000 (UTC)");
  return time.toISOString();
}

/** Makes a change of rights visible to the next request and gives a user's sessions new CSRF tokens. */
async function rightsChanged(ctx: Context, actor: ActorRef): Promise<void> {
  forgetActors();
  if (actor.type !== "User") return;
  // The change is committed. Keeping the old token a little longer is harmless.
  await rotateCsrfOf(ctx, actor).catch((error) =>
    ctx.log.warn("grant.csrf_rotation_failed", { actor_id: actor.id, error: describeError(error) }),
  );
}

function ofActor(actor: ActorRef) {
  return and(eq(actorRoles.actor_id, actor.id), eq(actorRoles.actor_type, actor.type));
}

const scopeText = ({ scope_type, scope_id }: Grant) => (scope_id === "" ? scope_type : `${scope_type} ${scope_id}`);

const RESOURCE_TYPES = {
  User: "user",
  Agent: "agent",
  APIKey: "api_key",
  System: "actor",
  Anonymous: "actor",
} as const;

function event(ctx: Context, action: EventAction, actor: ActorRef, details: Record<string, unknown>): Statement {
  return ctx.audit(
    action,
    actor.id,
    { actor_type: actor.type, ...details },
    { resource_type: RESOURCE_TYPES[actor.type] },
  );
}
