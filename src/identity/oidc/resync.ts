import { and, eq, isNull, sql } from "drizzle-orm";
import { commit } from "../../platform/commit.ts";
import { type Context, SYSTEM_ACTOR, timestamp } from "../../platform/context.ts";
import { guard, inList, rowExists, type Statement } from "../../platform/database.ts";
import { AppError } from "../../platform/errors.ts";
import type { EventAction } from "../../platform/events.ts";
import { randomId } from "../../platform/ids.ts";
import { repeatedly } from "../../platform/race.ts";
import { forgetActors } from "../actors.ts";
import { closeBootstrap, firstAdministrator, noAdministratorYet } from "../bootstrap.ts";
import { type ActorRef, type Grant, grantStatement, TENANT, unexpired } from "../grants.ts";
import { isAdminGrant, stillAdministered } from "../last-admin.ts";
import { actorRoles, oidcGroupMappings, oidcProviders, users } from "../table.ts";
import type { Person } from "./claims.ts";
import type { Provider } from "./discovery.ts";
import { SignInFailure } from "./failure.ts";

type User = typeof users.$inferSelect;
type Mapping = typeof oidcGroupMappings.$inferSelect;

/** A person whom the provider has just authenticated. */
export interface Arrival {
  readonly provider: Provider;
  readonly person: Person;
  /** Null: the provider omitted them because there are too many. */
  readonly groups: readonly string[] | null;
}

export interface Resynced {
  readonly user: ActorRef;
  /** Whether grants were added or removed; existing sessions of the user then get new CSRF tokens. */
  readonly changed: boolean;
}

/** The changes of a sign-in, computed from the current rows. */
interface Plan {
  readonly known: User | null;
  readonly user: ActorRef;
  readonly mappings: readonly Mapping[];
  /** Unexpired grants made by hand. */
  readonly byHand: readonly Grant[];
  readonly added: readonly Mapping[];
  readonly gone: readonly Grant[];
  readonly becomesFirstAdmin: boolean;
}

/**
 * Updates a user and its group grants in one batch with its audit row. Grants follow the mapped groups; grants made by
 * hand stay, and if the provider omits the groups, all grants stay. Also makes the first administrator by group, once.
 * Throws SignInFailure for a deactivated user, a disabled provider, and a user without any role: then no new user row
 * is created, but grants of groups that are gone are removed.
 */
export async function resync(ctx: Context, arrival: Arrival): Promise<Resynced> {
  const result = await repeatedly(() => attempt(ctx, arrival));
  forgetActors();
  if (arrival.groups === null)
    ctx.log.warn("oidc.groups_overage", { provider_id: arrival.provider.id, subject: arrival.person.subject });
  if (result instanceof SignInFailure) throw result;
  return result;
}

async function attempt(ctx: Context, arrival: Arrival): Promise<Resynced | SignInFailure> {
  const plan = await planOf(ctx, arrival);
  try {
    return await carryOut(ctx, arrival, plan, null);
  } catch (error) {
    const admin = plan.gone.find(isAdminGrant);
    // The last administrator's grant is kept even without its group.
    if (!admin || !(error instanceof AppError && error.code === "last_admin")) throw error;
    return carryOut(ctx, arrival, plan, admin);
  }
}

async function planOf(ctx: Context, { provider, person, groups }: Arrival): Promise<Plan> {
  const [[enabled], [known]] = await Promise.all([
    ctx.db
      .select({ id: oidcProviders.id })
      .from(oidcProviders)
      .where(and(eq(oidcProviders.id, provider.id), eq(oidcProviders.enabled, true))),
    ctx.db
      .select()
      .from(users)
      .where(and(eq(users.oidc_provider_id, provider.id), eq(users.oidc_subject, person.subject))),
  ]);
  if (!enabled) throw new SignInFailure("provider_disabled", "the provider is disabled or deleted");
  if (known?.deactivated_at) throw new SignInFailure("user_deactivated", `user ${known.id} is deactivated`);
  const user: ActorRef = { id: known?.id ?? randomId(ctx.random, "u-"), type: "User" };
  const grants = known
    ? await ctx.db
        .select()
        .from(actorRoles)
        .where(and(eq(actorRoles.actor_id, user.id), eq(actorRoles.actor_type, "User"), unexpired(ctx)))
    : [];
  const mapped = grants.filter((grant) => grant.mapping_id !== "");
  const held = mapped.map(({ mapping_id }) => mapping_id);
  const given = groups === null ? inList(oidcGroupMappings.id, held) : inList(oidcGroupMappings.group_name, groups);
  const mappings = await ctx.db
    .select()
    .from(oidcGroupMappings)
    .where(and(eq(oidcGroupMappings.provider_id, provider.id), given));
  return {
    known: known ?? null,
    user,
    mappings,
    byHand: grants.filter((grant) => grant.mapping_id === ""),
    added: mappings.filter((mapping) => !held.includes(mapping.id)),
    gone: mapped.filter((grant) => !mappings.some((mapping) => mapping.id === grant.mapping_id)),
    becomesFirstAdmin: isBootstrapAdmin(ctx, provider, groups ?? []) && (await noAdministratorYet(ctx)),
  };
}

function isBootstrapAdmin(ctx: Context, provider: Provider, groups: readonly string[]): boolean {
  const { bootstrapAdminGroups, bootstrapProviderId } = ctx.settings.auth;
  if (bootstrapProviderId !== null && bootstrapProviderId !== provider.id) return false;
  return groups.some((group) => bootstrapAdminGroups.includes(group));
}

/** Executes the plan. `kept` is the last administrator's grant, kept without its group. */
async function carryOut(
  ctx: Context,
  arrival: Arrival,
  plan: Plan,
  kept: Grant | null,
): Promise<Resynced | SignInFailure> {
  const gone = plan.gone.filter((grant) => grant !== kept);
  const removed = rolesOf(gone);
  const hasRole = plan.mappings.length + plan.byHand.length > 0 || plan.becomesFirstAdmin || kept !== null;
  if (!hasRole) {
    const taken = () => audited(ctx, "auth.oidc.roles_removed", arrival, plan, { removed });
    if (gone.length > 0) await commit(ctx, [taken(), ...withoutGrants(ctx, gone)]);
    return refusal(arrival);
  }
  await commit(ctx, [
    ...userStatements(ctx, arrival, plan),
    ...plan.added.map((mapping) => grantStatement(asSystem(ctx), plan.user, { ...mapping, mapping_id: mapping.id })),
    ...(plan.becomesFirstAdmin ? firstAdmin(ctx, arrival, plan) : []),
    ...(!plan.becomesFirstAdmin && plan.added.some(isAdminGrant) ? [closeBootstrap(ctx)] : []),
    ...(kept ? [audited(ctx, "auth.last_admin_kept", arrival, plan, { role_id: kept.role_id })] : []),
    audited(ctx, "auth.oidc.login", arrival, plan, {
      roles: rolesOf([
        ...plan.mappings,
        ...plan.byHand,
        ...(plan.becomesFirstAdmin ? [{ role_id: "r-admin" }] : []),
        ...(kept ? [kept] : []),
      ]),
      removed,
    }),
    ...withoutGrants(ctx, gone),
  ]);
  return { user: plan.user, changed: plan.known !== null && (plan.added.length > 0 || gone.length > 0) };
}

function refusal({ groups }: Arrival): SignInFailure {
  if (groups === null)
    return new SignInFailure("groups_overage", "the provider leaves the groups out, and nobody granted a role by hand");
  return groups.length === 0
    ? new SignInFailure("groups_missing", "the provider names no group, and nobody granted a role by hand")
    : new SignInFailure("unmapped_groups", `none of ${groups.length} groups is mapped to a role`);
}

/** Upserts the user's row, guarded against a racing first sign-in, a deactivation and a changed mapping or provider. */
function userStatements(ctx: Context, { provider, person }: Arrival, plan: Plan): Statement[] {
  const now = timestamp(ctx);
  const told = { email: person.email, display_name: person.display_name, last_login_at: now, updated_at: now };
  const row = {
    id: plan.user.id,
    tenant_id: TENANT,
    oidc_provider_id: provider.id,
    oidc_subject: person.subject,
    ...told,
    created_at: now,
  };
  const mappings = JSON.stringify(plan.mappings.map(({ id }) => id));
  return [
    ctx.db
      .insert(users)
      .values(row)
      .onConflictDoUpdate({ target: [users.oidc_provider_id, users.oidc_subject], set: told }),
    guard(rowExists(users, and(eq(users.id, plan.user.id), isNull(users.deactivated_at)))),
    guard(rowExists(oidcProviders, and(eq(oidcProviders.id, provider.id), eq(oidcProviders.enabled, true)))),
    guard(
      sql`(select count(*) from ${oidcGroupMappings}
          where ${oidcGroupMappings.id} in (select value from json_each(${mappings}))) = ${plan.mappings.length}`,
    ),
  ];
}

/**
 * Of two racing first sign-ins the milestone lets one through; the other starts over and finds the bootstrap closed.
 */
function firstAdmin(ctx: Context, { provider }: Arrival, { user }: Plan): Statement[] {
  return [
    firstAdministrator(ctx),
    grantStatement(asSystem(ctx), user, { role_id: "r-admin" }),
    ctx.audit("bootstrap.oidc_first_admin", user.id, { provider_id: provider.id }, { actor: user }),
  ];
}

/** Deletes grants, at the end of a batch; guarded for the last administrator's grant. */
function withoutGrants(ctx: Context, gone: readonly Grant[]): Statement[] {
  if (gone.length === 0) return [];
  const ids = gone.map(({ id }) => id);
  const removal = ctx.db.delete(actorRoles).where(inList(actorRoles.id, ids));
  return gone.some(isAdminGrant) ? [removal, stillAdministered(ctx)] : [removal];
}

/** The groups grant the role, not the user or the caller. */
function asSystem(ctx: Context): Context {
  return { ...ctx, actor: SYSTEM_ACTOR };
}

function audited(
  ctx: Context,
  action: EventAction,
  { provider, groups }: Arrival,
  plan: Plan,
  details: object,
): Statement {
  return ctx.audit(
    action,
    plan.user.id,
    {
      provider_id: provider.id,
      ...(groups === null ? { groups_overage: true } : { groups: groups.length }),
      ...details,
    },
    { actor: plan.user },
  );
}

const rolesOf = (grants: readonly { readonly role_id: string }[]) => [...new Set(grants.map(({ role_id }) => role_id))];
