import { and, asc, eq, isNotNull, isNull, not, type SQL, sql } from "drizzle-orm";
import { commit } from "../platform/commit.ts";
import { type Context, timestamp } from "../platform/context.ts";
import { up } from "../platform/cursor.ts";
import { guard, inList, noRow, type Statement } from "../platform/database.ts";
import { conflict, notFound } from "../platform/errors.ts";
import type { EventAction } from "../platform/events.ts";
import { describeError } from "../platform/log.ts";
import type { Page, PageRequest } from "../platform/paging.ts";
import { repeatedly } from "../platform/race.ts";
import { listPage, nextUpdatedAt } from "../platform/rows.ts";
import { enqueue, type WorkKinds } from "../platform/work/work.ts";
import { forgetActors } from "./actors.ts";
import { type ActorRef, mustCover, permissionsOf, type RoleInScope, unexpired } from "./grants.ts";
import { ownerOf } from "./keys.ts";
import { administratorComesIn } from "./last-admin.ts";
import { endSessionsOf } from "./sessions/sessions.ts";
import { actorRoles, apiKeys, users } from "./table.ts";

/** Users of identity providers. Signing in creates them; this module lists, deactivates and reactivates them. */

export type User = typeof users.$inferSelect;
export type ShownUser = User & { readonly role_ids: readonly string[] };

const END_SESSIONS = "auth.end_sessions";

export async function findUser(ctx: Context, id: string): Promise<User | null> {
  const [row] = await ctx.db.select().from(users).where(eq(users.id, id));
  return row ?? null;
}

async function mustFindUser(ctx: Context, id: string): Promise<User> {
  const user = await findUser(ctx, id);
  if (!user) throw notFound("user", id);
  return user;
}

/** The actor of the user; throws 404. */
export async function userActor(ctx: Context, id: string): Promise<ActorRef> {
  const user = await mustFindUser(ctx, id);
  return { id: user.id, type: "User" };
}

/** The user with its current roles; throws 404. */
export async function getUser(ctx: Context, id: string): Promise<ShownUser> {
  const [user] = await withRoles(ctx, [await mustFindUser(ctx, id)]);
  if (!user) throw notFound("user", id);
  return user;
}

/** One page of users, oldest first, with their current roles; `oidc_provider_id` limits it to one provider's users. */
export async function listUsers(
  ctx: Context,
  page: PageRequest,
  oidc_provider_id: string | undefined,
): Promise<Page<ShownUser>> {
  const { data, ...rest } = await listPage(ctx, users, page, {
    where: oidc_provider_id === undefined ? undefined : eq(users.oidc_provider_id, oidc_provider_id),
    order: [up(users.created_at), up(users.id)],
  });
  return { data: await withRoles(ctx, data), ...rest };
}

async function withRoles(ctx: Context, rows: readonly User[]): Promise<ShownUser[]> {
  const ids = rows.map(({ id }) => id);
  const grants = await ctx.db
    .select({ actor_id: actorRoles.actor_id, role_id: actorRoles.role_id })
    .from(actorRoles)
    .where(and(eq(actorRoles.actor_type, "User"), inList(actorRoles.actor_id, ids), unexpired(ctx)))
    .orderBy(asc(actorRoles.created_at), asc(actorRoles.id));
  const byUser = Map.groupBy(grants, ({ actor_id }) => actor_id);
  return rows.map((row) => ({
    ...row,
    role_ids: [...new Set((byUser.get(row.id) ?? []).map(({ role_id }) => role_id))],
  }));
}

/**
 * Deactivates a user: ends its sessions at once, disables its keys and the keys created by them, and blocks sign-in.
 * Idempotent. Throws 404 for an absent user, 409 for the caller itself (also when using its own key) and for the last
 * administrator.
 */
export async function deactivateUser(ctx: Context, id: string): Promise<void> {
  const self = ownerOf(ctx.actor);
  if (self.type === "User" && self.id === id)
    throw conflict("own_account", "nobody deactivates themselves: another administrator can");
  const user = await mustFindUser(ctx, id);
  const now = timestamp(ctx);
  if (user.deactivated_at === null) {
    const sessions = enqueue(ctx, END_SESSIONS, { user_id: id });
    const statements = [
      ctx.db
        .update(users)
        .set({ deactivated_at: now, updated_at: nextUpdatedAt(ctx, user) })
        .where(and(eq(users.id, id), isNull(users.deactivated_at))),
      sessions.statement,
      event(ctx, "auth.user.deactivate", user),
    ];
    await commit(ctx, [...statements, administratorComesIn(ctx)], { wakeups: [sessions.id] });
    forgetActors();
  }
  // Sessions of a deactivated user no longer authenticate; if this fails, queued work ends them.
  await endSessionsOf(ctx, { id, type: "User" }).catch((error) =>
    ctx.log.warn("user.end_sessions_failed", { user_id: id, error: describeError(error) }),
  );
}

/**
 * Reactivates a user with its rights. The caller must hold all of them, including those of the keys the user owns and
 * of the agents its bootstrap credentials could enrol (403). Earlier sessions stay ended. Idempotent; throws 404 for an
 * absent user.
 */
export async function reactivateUser(ctx: Context, id: string): Promise<void> {
  await repeatedly(() => reactivate(ctx, id));
  forgetActors();
}

async function reactivate(ctx: Context, id: string): Promise<void> {
  const user = await mustFindUser(ctx, id);
  if (user.deactivated_at === null) return;
  const [grants, enrols] = await Promise.all([
    ctx.db.select().from(actorRoles).where(revivedGrants(ctx, id)),
    ctx.db.get<{ n: number }>(sql`select ${ctx.wiring.agents.mayEnrol(ctx, id)} as n`),
  ]);
  const revived = [...grants, ...(enrols.n === 1 ? [AGENT] : [])];
  await mustCover(ctx, await permissionsOf(ctx, revived), `the user ${JSON.stringify(id)}`);
  const others = and(
    revivedGrants(ctx, id),
    not(
      inList(
        actorRoles.id,
        grants.map((grant) => grant.id),
      ),
    ),
  );
  // Before reactivation: a session that survived the deactivation would become valid again.
  await endSessionsOf(ctx, { id, type: "User" });
  await commit(ctx, [
    guard(noRow(actorRoles, others)),
    ...(enrols.n === 1 ? [] : [guard(sql`not ${ctx.wiring.agents.mayEnrol(ctx, id)}`)]),
    ctx.db
      .update(users)
      .set({ deactivated_at: null, updated_at: nextUpdatedAt(ctx, user) })
      .where(and(eq(users.id, id), isNotNull(users.deactivated_at))),
    event(ctx, "auth.user.reactivate", user),
  ]);
}

/** The role of an agent enrolled with a bootstrap credential. */
const AGENT: RoleInScope = { role_id: "r-agent", scope_type: "global", scope_id: "" };

/** Condition: a grant of the user, or of actors with keys owned by the user. */
function revivedGrants(ctx: Context, id: string): SQL | undefined {
  const actors = sql`(select ${apiKeys.actor_type}, ${apiKeys.actor_id} from ${apiKeys}
    where ${and(eq(apiKeys.owner_type, "User"), eq(apiKeys.owner_id, id), isNull(apiKeys.revoked_at))}
    union select 'User', ${id})`;
  return and(sql`(${actorRoles.actor_type}, ${actorRoles.actor_id}) in ${actors}`, unexpired(ctx));
}

function event(ctx: Context, action: EventAction, user: User): Statement {
  return ctx.audit(action, user.id, { email: user.email, oidc_provider_id: user.oidc_provider_id });
}

/** Ends sessions of deactivated users. A user reactivated meanwhile keeps its sessions. */
export const userWork: WorkKinds = {
  [END_SESSIONS]: {
    async run(ctx, { user_id }) {
      const user = await findUser(ctx, String(user_id));
      if (user?.deactivated_at) await endSessionsOf(ctx, { id: user.id, type: "User" });
    },
  },
};
