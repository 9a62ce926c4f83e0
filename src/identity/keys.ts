import { and, eq, getTableColumns, isNull, lt, or, type SQL, sql } from "drizzle-orm";
import type { SQLiteColumn } from "drizzle-orm/sqlite-core";
import { type Actor, type ActorType, type Context, type LookupContext, timestamp } from "../platform/context.ts";
import type { Statement } from "../platform/database.ts";
import { randomId } from "../platform/ids.ts";
import { describeError } from "../platform/log.ts";
import { base64url, sha256Hex } from "../platform/text.ts";
import { forget, recall, remember, renewLater, rightsGeneration } from "./actors.ts";
import { actorWith, firstExpiry, unexpired } from "./grants.ts";
import { liveKey } from "./live.ts";
import { actorRoles, apiKeys } from "./table.ts";

/** Prefix that lets secret scanners recognise our keys. */
export const KEY_PREFIX = "certctl_";
const KEY_PATTERN = /^certctl_[A-Za-z0-9_-]{43}$/;
const SHOWN_PREFIX = KEY_PREFIX.length + 6;

const LAST_USED_MS = 60_000;

export type ApiKey = typeof apiKeys.$inferSelect;

export interface NewKey {
  readonly id: string;
  /** 256 random bits after the prefix; shown once, never stored. */
  readonly value: string;
  readonly prefix: string;
  readonly statements: Statement[];
}

/** Creates an API key for an actor; its statements belong in the caller's batch. */
export async function mintKey(
  ctx: Context,
  of: { actor_id: string; actor_type: ActorType; name: string; expires_at?: string | null; owner?: Actor["owner"] },
): Promise<NewKey> {
  const value = KEY_PREFIX + base64url(ctx.random.bytes(32));
  const id = randomId(ctx.random, "ak-");
  const owner = of.owner ?? ownerOf(ctx.actor);
  const row = {
    id,
    actor_id: of.actor_id,
    actor_type: of.actor_type,
    name: of.name,
    prefix: value.slice(0, SHOWN_PREFIX),
    key_hash: await sha256Hex(value),
    created_by: ctx.actor.id,
    owner_type: owner.type,
    owner_id: owner.id,
    created_at: timestamp(ctx),
    expires_at: of.expires_at ?? null,
  };
  return { id, value, prefix: row.prefix, statements: [ctx.db.insert(apiKeys).values(row)] };
}

/** The owner of what this actor creates: the actor itself, or the owner of its key. */
export function ownerOf(actor: Actor): NonNullable<Actor["owner"]> {
  return actor.owner ?? { type: actor.type, id: actor.id };
}

/**
 * The actor of a key; null if the key is unknown, expired or revoked, or its owner is a deactivated user. Looked up by
 * hash, so the response time reveals nothing about stored keys.
 */
export async function actorOfKey(ctx: LookupContext, value: string): Promise<Actor | null> {
  if (!KEY_PATTERN.test(value)) return null;
  const look = () => lookUpKey(ctx, value);
  return recall(value, ctx.clock.now().getTime(), () => renewLater(ctx, look)) ?? look();
}

async function lookUpKey(ctx: LookupContext, value: string): Promise<Actor | null> {
  const hash = await sha256Hex(value);
  const now = ctx.clock.now();
  const since = rightsGeneration();
  const rows = await ctx.db
    .select({ key: getTableColumns(apiKeys), grant: getTableColumns(actorRoles), retired_at: retirement(ctx) })
    .from(apiKeys)
    .leftJoin(
      actorRoles,
      and(eq(actorRoles.actor_id, apiKeys.actor_id), eq(actorRoles.actor_type, apiKeys.actor_type), unexpired(ctx)),
    )
    .where(and(eq(apiKeys.key_hash, hash), liveKey(now.toISOString())));
  const [first] = rows;
  if (!first) return forget(value);
  const { key, retired_at } = first;

  const grants = rows.flatMap((row) => (row.grant ? [row.grant] : []));
  const ref = { id: key.actor_id, type: key.actor_type };
  const actor: Actor = {
    ...(await actorWith(ctx, ref, grants)),
    owner: { type: key.owner_type, id: key.owner_id },
    key_id: key.id,
    ...(retired_at === null ? {} : { retired_at }),
  };
  const keyEnds = key.expires_at === null ? Number.POSITIVE_INFINITY : Date.parse(key.expires_at);
  remember(value, actor, now.getTime(), Math.min(keyEnds, firstExpiry(grants)), since);
  touch(ctx, key.id, now);
  return actor;
}

declare module "../platform/context.ts" {
  interface Wiring {
    readonly agents: {
      /** Scalar subquery: when the agent was retired; null while it is active. */
      retiredAt(id: string | SQLiteColumn): SQL;
      /** Condition: a bootstrap credential of this user could enrol agents if the user were active. */
      mayEnrol(ctx: Context, userId: string): SQL;
    };
  }
}

/** When the agent of an agent's key was retired; null for other keys. */
function retirement({ wiring }: LookupContext) {
  return sql<string | null>`case when ${apiKeys.actor_type} = 'Agent'
    then ${wiring.agents.retiredAt(apiKeys.actor_id)} end`;
}

/** Records the last use of a key, at most once a minute; may be lost without harm. */
function touch(ctx: LookupContext, id: string, now: Date): void {
  if (ctx.storageFull) return;
  const before = new Date(now.getTime() - LAST_USED_MS).toISOString();
  const update = ctx.db
    .update(apiKeys)
    .set({ last_used_at: now.toISOString() })
    .where(and(eq(apiKeys.id, id), or(isNull(apiKeys.last_used_at), lt(apiKeys.last_used_at, before))));
  ctx.defer(update.run().catch((error) => ctx.log.warn("key.touch_failed", { error: describeError(error) })));
}
