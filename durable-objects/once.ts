import { DurableObject } from "cloudflare:workers";

/**
 * Single-use values and rate limits: sign-in states, logout token ids, password attempts.
 *
 * Protocol: an object is one shard (src/identity/once.ts chooses it by the key, so a key always meets the same object).
 * Every method is one synchronous step over its SQLite tables: of two concurrent callers, one is first. An expired
 * value counts for nothing; an alarm removes it later.
 */
export class Once extends DurableObject {
  /** For tests. */
  now: () => number = Date.now;

  constructor(state: DurableObjectState, env: never) {
    super(state, env);
    const { sql } = state.storage;
    sql.exec("create table if not exists entry (key text primary key, value text not null, expires integer not null)");
    sql.exec("create index if not exists entry_expires on entry (expires)");
    sql.exec(
      "create table if not exists attempts (key text primary key, count integer not null, expires integer not null)",
    );
    sql.exec("create index if not exists attempts_expires on attempts (expires)");
  }

  /** Stores a value for `take`, replacing an earlier one of the same key. */
  async put(key: string, value: string, ttlMs: number): Promise<void> {
    this.ctx.storage.sql.exec(
      "insert or replace into entry (key, value, expires) values (?, ?, ?)",
      key,
      value,
      this.now() + ttlMs,
    );
    await this.#tidyLater();
  }

  /** Returns the value once; null if it is absent, expired or already taken. */
  async take(key: string): Promise<string | null> {
    const [row] = [
      ...this.ctx.storage.sql.exec<{ value: string; expires: number }>(
        "delete from entry where key = ? returning value, expires",
        key,
      ),
    ];
    return row && row.expires > this.now() ? row.value : null;
  }

  /** True for the first caller of a key within `ttlMs`, false for all others. */
  async claim(key: string, ttlMs: number): Promise<boolean> {
    const now = this.now();
    const first = this.ctx.storage.sql
      .exec(
        `insert into entry (key, value, expires) values (?, '', ?)
          on conflict (key) do update set value = '', expires = excluded.expires where entry.expires <= ? returning key`,
        key,
        now + ttlMs,
        now,
      )
      .toArray();
    if (first.length > 0) await this.#tidyLater();
    return first.length > 0;
  }

  /**
   * Counts an attempt: at most `limit` in a window that starts with the first one. The attempt that reaches the limit
   * is still allowed and locks the key for `windowMs`. A refused attempt changes nothing.
   */
  async attempt(key: string, limit: number, windowMs: number): Promise<Attempt> {
    const now = this.now();
    const { sql } = this.ctx.storage;
    const [before] = [
      ...sql.exec<{ count: number; expires: number }>("select count, expires from attempts where key = ?", key),
    ];
    const running = before && before.expires > now ? before : { count: 0, expires: now + windowMs };
    const { count } = running;
    if (count >= limit) return { allowed: false, left: 0, retry_after_ms: running.expires - now };
    const expires = count + 1 < limit ? running.expires : now + windowMs;
    sql.exec("insert or replace into attempts (key, count, expires) values (?, ?, ?)", key, count + 1, expires);
    await this.#tidyLater();
    return { allowed: true, left: limit - count - 1, retry_after_ms: 0 };
  }

  /** The attempts of a key, without counting one. */
  async attempts(key: string, limit: number): Promise<{ count: number; locked_until: number | null }> {
    const [row] = [
      ...this.ctx.storage.sql.exec<{ count: number; expires: number }>(
        "select count, expires from attempts where key = ? and expires > ?",
        key,
        this.now(),
      ),
    ];
    return { count: row?.count ?? 0, locked_until: row && row.count >= limit ? row.expires : null };
  }

  /** Forgets the attempts of a key, after a success or an unlock. */
  async clear(key: string): Promise<void> {
    this.ctx.storage.sql.exec("delete from attempts where key = ?", key);
  }

  override async alarm(): Promise<void> {
    const { sql } = this.ctx.storage;
    sql.exec("delete from entry where expires <= ?", this.now());
    sql.exec("delete from attempts where expires <= ?", this.now());
    const { n } = sql
      .exec<{ n: number }>("select (select count(*) from entry) + (select count(*) from attempts) as n")
      .one();
    if (n > 0) await this.ctx.storage.setAlarm(this.now() + TIDY_MS);
  }

  async #tidyLater(): Promise<void> {
    if ((await this.ctx.storage.getAlarm()) === null) await this.ctx.storage.setAlarm(this.now() + TIDY_MS);
  }
}

export interface Attempt {
  readonly allowed: boolean;
  /** Attempts left in the window after this one. */
  readonly left: number;
  readonly retry_after_ms: number;
}

const TIDY_MS = 15 * 60_000;
