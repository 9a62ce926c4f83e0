import { and, eq, gt, isNull, lt, or } from "drizzle-orm";
import { type Actor, type ActorType, type Context, timestamp } from "../platform/context.ts";
import type { Statement } from "../platform/database.ts";
import { randomId } from "../platform/ids.ts";
import { describeError } from "../platform/log.ts";
import { base64url, sha256Hex } from "../platform/text.ts";
import { permissionsOf } from "./permissions.ts";
import { actorRoles, apiKeys } from "./table.ts";

/** Secret scanners find our keys by this. */
export const KEY_PREFIX = "certctl_";
const KEY_PATTERN = /^certctl_[A-Za-z0-9_-]{43}$/;
const SHOWN_PREFIX = KEY_PREFIX.length + 6;

/** An isolate may remember a check for so long: a revoked key ends within this everywhere. */
const REMEMBER_MS = 5_000;
const REMEMBER_ENTRIES = 10_000;
const LAST_USED_MS = 60_000;

export interface NewKey {
  readonly id: string;
  /** 256 random bits behind the prefix; shown once, never stored. */
  readonly value: string;
  readonly statements: Statement[];
}

/** A new API key for an actor; its statements belong into the caller's batch. */
export async function mintKey(
  ctx: Context,
  owner: { actor_id: string; actor_type: ActorType; name: string; expires_at?: string },
): Promise<NewKey> {
  const value = KEY_PREFIX + base64url(ctx.random.bytes(32));
  const id = randomId(ctx.random, "ak-");
  const row = {
    id,
    actor_id: owner.actor_id,
    actor_type: owner.actor_type,
    name: owner.name,
    prefix: value.slice(0, SHOWN_PREFIX),
    key_hash: await sha256Hex(value),
    created_by: ctx.actor.id,
    created_at: timestamp(ctx),
    expires_at: owner.expires_at ?? null,
  };
  return { id, value, statements: [ctx.db.insert(apiKeys).values(row)] };
}

/** The statement that gives an actor a role everywhere. */
export function grantStatement(ctx: Context, actor: { id: string; type: ActorType }, role_id: string): Statement {
  return ctx.db.insert(actorRoles).values({
    id: randomId(ctx.random, "ar-"),
    actor_id: actor.id,
    actor_type: actor.type,
    role_id,
    scope_type: "global",
    scope_id: "",
    granted_by: ctx.actor.id,
    created_at: timestamp(ctx),
  });
}

interface Remembered {
  readonly actor: Actor;
  readonly until: number;
}

/** What this isolate checked in the last five seconds, by hash of the key; emptied when full. Holds no key. */
const remembered = new Map<string, Remembered>();

/**
 * The actor behind a key, or null when the key is unknown, expired or revoked. Found by hash, so the time it takes tells
 * nothing of any stored key.
 */
export async function actorOfKey(ctx: Omit<Context, "actor" | "audit">, value: string): Promise<Actor | null> {
  if (!KEY_PATTERN.test(value)) return null;
  const hash = await sha256Hex(value);
  const now = ctx.clock.now();
  const known = remembered.get(hash);
  if (known && known.until > now.getTime()) return known.actor;
  remembered.delete(hash);

  const rows = await ctx.db
    .select({ key: apiKeys, grant: actorRoles })
    .from(apiKeys)
    .leftJoin(
      actorRoles,
      and(
        eq(actorRoles.actor_id, apiKeys.actor_id),
        eq(actorRoles.actor_type, apiKeys.actor_type),
        or(isNull(actorRoles.expires_at), gt(actorRoles.expires_at, now.toISOString())),
      ),
    )
    .where(
      and(
        eq(apiKeys.key_hash, hash),
        isNull(apiKeys.revoked_at),
        or(isNull(apiKeys.expires_at), gt(apiKeys.expires_at, now.toISOString())),
      ),
    );
  const key = rows[0]?.key;
  if (!key) return null;

  const grants = rows.flatMap((row) => (row.grant ? [row.grant] : []));
  const actor: Actor = {
    id: key.actor_id,
    type: key.actor_type,
    tenant_id: "t-default",
    roles: [...new Set(grants.map((grant) => grant.role_id))],
    permissions: grants.flatMap((grant) =>
      permissionsOf(grant.role_id, grant.scope_type, grant.scope_id === "" ? null : grant.scope_id),
    ),
  };
  if (remembered.size >= REMEMBER_ENTRIES) remembered.clear();
  remembered.set(hash, {
    actor,
    until: Math.min(
      now.getTime() + REMEMBER_MS,
      key.expires_at === null ? Number.POSITIVE_INFINITY : Date.parse(key.expires_at),
    ),
  });
  touch(ctx, key.id, now);
  return actor;
}

/** Records the use of a key at most once a minute; may be lost without harm. */
function touch(ctx: Omit<Context, "actor" | "audit">, id: string, now: Date): void {
  const before = new Date(now.getTime() - LAST_USED_MS).toISOString();
  const update = ctx.db
    .update(apiKeys)
    .set({ last_used_at: now.toISOString() })
    .where(and(eq(apiKeys.id, id), or(isNull(apiKeys.last_used_at), lt(apiKeys.last_used_at, before))));
  ctx.defer(update.run().catch((error) => ctx.log.warn("key.touch_failed", { error: describeError(error) })));
}
