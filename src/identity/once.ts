import type { Context } from "../platform/context.ts";

/**
 * Single use and exact rate windows, kept by the Durable Object `Once` (durable-objects/once.ts documents the
 * guarantees).
 */
export interface OnceStore {
  put(key: string, value: string, ttlMs: number): Promise<void>;
  take(key: string): Promise<string | null>;
  claim(key: string, ttlMs: number): Promise<boolean>;
  attempt(
    key: string,
    limit: number,
    windowMs: number,
  ): Promise<{ allowed: boolean; left: number; retry_after_ms: number }>;
  attempts(key: string, limit: number): Promise<{ count: number; locked_until: number | null }>;
  clear(key: string): Promise<void>;
}

const SHARDS = 16;

/** The store of `key` for this purpose. Keys of different purposes never collide; load is spread over shards. */
export function onceFor(ctx: Pick<Context, "bindings">, purpose: string, key: string): OnceStore {
  let hash = 0;
  for (let i = 0; i < key.length; i++) hash = (Math.imul(hash, 31) + key.charCodeAt(i)) >>> 0;
  return ctx.bindings.ONCE.getByName(`${purpose}:${hash % SHARDS}`) as unknown as OnceStore;
}
