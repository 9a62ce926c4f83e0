import { and, eq, isNull, lte } from "drizzle-orm";
import { type Context, type LookupContext, timestamp } from "../../platform/context.ts";
import { guard, rowExists, runBatch } from "../../platform/database.ts";
import { randomId } from "../../platform/ids.ts";
import { describeError } from "../../platform/log.ts";
import { ifUnchanged } from "../../platform/race.ts";
import { SealingError } from "../../platform/sealing.ts";
import { base64url, utf8 } from "../../platform/text.ts";
import { sessionKeys } from "../table.ts";

/**
 * HMAC keys of session cookies. The current one signs; it is created on demand and rotated by a sweep. A retired one
 * verifies for as long as sessions it signed can live, and is then deleted.
 */
export interface SigningKey {
  readonly id: string;
  readonly hmac: CryptoKey;
}

export const KEY_ID = /^sk-[0-9a-v]{26}$/;

/**
 * How long an isolate caches a key. It may sign with a key retired up to this long ago, so retired keys verify that
 * much longer.
 */
const REMEMBER_MS = 60_000;
/** Far more keys than are alive at a time, unless they rotate by the minute. */
const REMEMBER_ENTRIES = 64;

type KeyRow = typeof sessionKeys.$inferSelect;

interface Remembered {
  readonly key: SigningKey;
  readonly retired_at: string | null;
  readonly from: number;
}

/** By id. Holds only existing keys, so made-up ids cannot fill it. Emptied when full; entries live for a minute. */
const remembered = new Map<string, Remembered>();

/** Clears the cache; used by tests to simulate a new isolate. */
export function forgetSigningKeys(): void {
  remembered.clear();
}

/** The current signing key, created if there is none. Throws SealingError if it cannot be opened or sealed. */
export async function signingKey(ctx: LookupContext): Promise<SigningKey> {
  const now = ctx.clock.now().getTime();
  for (const known of remembered.values()) if (known.retired_at === null && isFresh(known, now)) return known.key;
  const row = (await presentRow(ctx)) ?? (await firstRow(ctx));
  return opened(ctx, row, now);
}

/**
 * The key with that id if it still verifies; otherwise null. An id not cached in this isolate costs one database query.
 */
export async function verifyingKey(ctx: LookupContext, id: string): Promise<SigningKey | null> {
  const now = ctx.clock.now().getTime();
  const known = remembered.get(id);
  if (known && isFresh(known, now)) return stillVerifies(ctx, known, now) ? known.key : null;
  const [row] = await ctx.db.select().from(sessionKeys).where(eq(sessionKeys.id, id));
  if (!row || !stillVerifies(ctx, row, now)) return null;
  try {
    return await opened(ctx, row, now);
  } catch (error) {
    // Sealed under a key that the operator removed: its cookies are no longer valid, and users sign in again.
    if (!(error instanceof SealingError)) throw error;
    ctx.log.error("session_key.sealed", { id, error: describeError(error) });
    return null;
  }
}

/** HMAC-SHA256 as base64url: 43 characters. */
export async function sign(key: SigningKey, text: string): Promise<string> {
  return base64url(new Uint8Array(await crypto.subtle.sign("HMAC", key.hmac, utf8(text))));
}

/** Sweep: replaces a key that has signed for `sessionKeyRotationMs` and deletes retired keys that no longer verify. */
export async function rotateSigningKeys(ctx: Context): Promise<null> {
  const now = ctx.clock.now().getTime();
  const present = await presentRow(ctx);
  if (present && Date.parse(present.created_at) + ctx.settings.auth.sessionKeyRotationMs <= now)
    await replace(ctx, present.id);
  await ctx.db.delete(sessionKeys).where(lte(sessionKeys.retired_at, new Date(now - overlap(ctx)).toISOString()));
  return null;
}

async function replace(ctx: Context, id: string): Promise<void> {
  const next = await newRow(ctx);
  const statements = [
    guard(rowExists(sessionKeys, and(eq(sessionKeys.id, id), isNull(sessionKeys.retired_at)))),
    ctx.db
      .update(sessionKeys)
      .set({ retired_at: timestamp(ctx) })
      .where(eq(sessionKeys.id, id)),
    ctx.db.insert(sessionKeys).values(next),
    ctx.audit("auth.session_key.rotate", next.id, { retired: id }),
  ];
  await ifUnchanged(() => runBatch(ctx.db, statements));
  forgetSigningKeys();
}

/** How long a retired key verifies: the lifetime of the longest session it may have signed. */
function overlap(ctx: Pick<Context, "settings">): number {
  return ctx.settings.auth.sessionAbsoluteMs + REMEMBER_MS;
}

function stillVerifies(ctx: LookupContext, { retired_at }: Pick<KeyRow, "retired_at">, now: number): boolean {
  return retired_at === null || Date.parse(retired_at) + overlap(ctx) > now;
}

function isFresh({ from }: Remembered, now: number): boolean {
  return from <= now && now < from + REMEMBER_MS;
}

async function presentRow(ctx: LookupContext): Promise<KeyRow | undefined> {
  const [row] = await ctx.db.select().from(sessionKeys).where(isNull(sessionKeys.retired_at));
  return row;
}

/** Creates the first key of an installation. Of racing isolates the unique index lets one through; all use its row. */
async function firstRow(ctx: LookupContext): Promise<KeyRow> {
  await ctx.db
    .insert(sessionKeys)
    .values(await newRow(ctx))
    .onConflictDoNothing();
  const row = await presentRow(ctx);
  if (!row) throw new Error("the signing key of sessions went away as it was made");
  return row;
}

async function newRow(ctx: LookupContext): Promise<KeyRow> {
  const id = randomId(ctx.random, "sk-");
  await ctx.sealer.register(ctx.db, ctx.clock.now());
  const sealed_key = await ctx.sealer.seal(ctx.random.bytes(32), purposeOf(id));
  return { id, sealed_key, created_at: timestamp(ctx), retired_at: null };
}

async function opened(ctx: LookupContext, row: KeyRow, now: number): Promise<SigningKey> {
  const bytes = await ctx.sealer.open(row.sealed_key, purposeOf(row.id));
  const hmac = await crypto.subtle.importKey("raw", bytes, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const key = { id: row.id, hmac };
  if (remembered.size >= REMEMBER_ENTRIES) remembered.clear();
  remembered.set(row.id, { key, retired_at: row.retired_at, from: now });
  return key;
}

function purposeOf(id: string): string {
  return `session|${id}`;
}
