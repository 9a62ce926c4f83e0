import { and, eq, isNull } from "drizzle-orm";
import { type Answer, commit } from "../../platform/commit.ts";
import { type Context, timestamp } from "../../platform/context.ts";
import { up } from "../../platform/cursor.ts";
import { guard, noRow, rowExists, type Statement } from "../../platform/database.ts";
import { type AppError, conflict, notFound } from "../../platform/errors.ts";
import { randomId } from "../../platform/ids.ts";
import type { Page, PageRequest } from "../../platform/paging.ts";
import { repeatedly } from "../../platform/race.ts";
import { listPage } from "../../platform/rows.ts";
import { enqueue, type WorkKinds } from "../../platform/work/work.ts";
import { type ActorRef, grantsOf, mustCover, permissionsOf } from "../grants.ts";
import { endSession, endSessionsOf } from "../sessions/sessions.ts";
import { sessionStore, shardOf } from "../sessions/store.ts";
import { breakglassCredentials as table, users } from "../table.ts";
import { type BreakglassEvent, logLoudly, recorded } from "./events.ts";
import { attemptsAt } from "./login.ts";
import { checkPassword, hashPassword, withSlot } from "./password.ts";

type Row = typeof table.$inferSelect;

/** A credential as shown in answers: never the hash. */
export interface BreakglassCredential extends Omit<Row, "password_hash"> {
  readonly failed_attempts: number;
  readonly locked_until: string | null;
}

const END_SESSIONS = "auth.breakglass.end_sessions";

const user = (id: string): ActorRef => ({ id, type: "User" });

export async function listCredentials(ctx: Context, page: PageRequest): Promise<Page<BreakglassCredential>> {
  const { data, ...rest } = await listPage(ctx, table, page, { order: [up(table.created_at), up(table.id)] });
  return { data: await Promise.all(data.map((row) => show(ctx, row))), ...rest };
}

async function show(ctx: Context, { password_hash: _, ...row }: Row): Promise<BreakglassCredential> {
  const { threshold } = ctx.settings.auth.breakglass;
  const { count, locked_until } = await attemptsAt(ctx, row.actor_id).attempts(row.actor_id, threshold);
  return {
    ...row,
    failed_attempts: count,
    locked_until: locked_until === null ? null : new Date(locked_until).toISOString(),
  };
}

async function find(ctx: Context, actorId: string): Promise<Row | null> {
  const [row] = await ctx.db.select().from(table).where(eq(table.actor_id, actorId));
  return row ?? null;
}

/**
 * Sets or replaces a user's password; ends the user's sessions and clears the lock. Throws 404 for an absent user, 409
 * for a deactivated one, 403 if the caller lacks any right of the user: the password gives all of them.
 */
export async function setPassword(
  ctx: Context,
  actorId: string,
  password: string,
): Promise<{ credential: BreakglassCredential; created: boolean }> {
  const text = checkPassword(password);
  let password_hash: string | null = null;
  const set = await repeatedly(async () => {
    const before = await mustBeSettable(ctx, actorId);
    password_hash ??= await withSlot(() => hashPassword(ctx.random, text));
    const now = timestamp(ctx);
    const given = { password_hash, created_by: ctx.actor.id, updated_at: now };
    const made = { id: randomId(ctx.random, "bg-"), actor_id: actorId, created_at: now, last_used_at: null };
    const { password_hash: _, ...shown } = { ...(before ?? made), ...given };
    const credential = { ...shown, failed_attempts: 0, locked_until: null };
    const active = and(eq(users.id, actorId), isNull(users.deactivated_at));
    const mine = and(eq(table.actor_id, actorId), before ? eq(table.id, before.id) : undefined);
    await write(
      ctx,
      { verb: "password_set", actor_id: actorId },
      [
        guard(rowExists(users, active)),
        guard(before ? rowExists(table, mine) : noRow(table, mine)),
        ctx.db
          .insert(table)
          .values({ ...made, ...given })
          .onConflictDoUpdate({ target: table.actor_id, set: given }),
      ],
      { note: sessionsEnd(ctx, actorId), answer: { status: before ? 200 : 201, body: credential } },
    );
    return { credential, created: before === null };
  });
  await afterwards(ctx, actorId);
  return set;
}

/** The user's current credential, or null. Throws if the caller may not set one. */
async function mustBeSettable(ctx: Context, actorId: string): Promise<Row | null> {
  const [[found], grants, before] = await Promise.all([
    ctx.db.select({ deactivated_at: users.deactivated_at }).from(users).where(eq(users.id, actorId)),
    grantsOf(ctx, user(actorId)),
    find(ctx, actorId),
  ]);
  if (!found) throw notFound("user", actorId);
  if (found.deactivated_at !== null) throw deactivated(actorId);
  await mustCover(ctx, await permissionsOf(ctx, grants), `a password of user ${JSON.stringify(actorId)}`);
  return before;
}

/** Unlocks a locked account. Throws 404 without a credential. */
export async function unlock(ctx: Context, actorId: string): Promise<void> {
  if (!(await find(ctx, actorId))) throw absent(actorId);
  await write(ctx, { verb: "unlocked", actor_id: actorId }, []);
  await attemptsAt(ctx, actorId).clear(actorId);
}

/** Removes a user's password and ends the user's sessions. Throws 404 without a credential. */
export async function remove(ctx: Context, actorId: string): Promise<void> {
  const mine = eq(table.actor_id, actorId);
  await write(
    ctx,
    { verb: "removed", actor_id: actorId },
    [guard(rowExists(table, mine), () => absent(actorId)), ctx.db.delete(table).where(mine)],
    { note: sessionsEnd(ctx, actorId) },
  );
  await afterwards(ctx, actorId);
}

/** Ends the sessions at once (queued work does so if this fails) and clears the lock. */
async function afterwards(ctx: Context, actorId: string): Promise<void> {
  await endSessionsOf(ctx, user(actorId));
  await attemptsAt(ctx, actorId).clear(actorId);
}

/** Queues the end of all sessions created until now; returns the statement and the work id. */
function sessionsEnd(ctx: Context, actorId: string) {
  return enqueue(ctx, END_SESSIONS, { user_id: actorId, until: timestamp(ctx) });
}

/** Ends sessions after a password change. Sessions created since then survive, however late the work runs. */
export const breakglassWork: WorkKinds = {
  [END_SESSIONS]: {
    async run(ctx, { user_id, until }) {
      const actor = user(String(user_id));
      const store = sessionStore(ctx, await shardOf(actor));
      const sessions = await store.list(ctx.clock.now().getTime());
      for (const { id, created_at } of sessions)
        if (created_at <= Date.parse(String(until)))
          await endSession(ctx, { id, actor }, { reason: "password_changed" });
    },
  },
};

async function write(
  ctx: Context,
  event: BreakglassEvent,
  changes: readonly Statement[],
  { note, ...options }: { note?: ReturnType<typeof enqueue>; answer?: Answer } = {},
): Promise<void> {
  const noted = note ? [note] : [];
  const statements = [...changes, ...noted.map(({ statement }) => statement), ...recorded(ctx, [event])];
  await commit(ctx, statements, { ...options, wakeups: noted.map(({ id }) => id) });
  logLoudly(ctx, [event]);
}

function absent(actorId: string): AppError {
  return notFound("break-glass credential of", actorId);
}

function deactivated(actorId: string): AppError {
  return conflict("user_deactivated", `actor_id: user ${JSON.stringify(actorId)} is deactivated: reactivate it first`);
}
