import { DurableObject } from "cloudflare:workers";

/**
 * What may happen once, or so many times in a window: sign-in states, logout token ids, attempts at a password.
 *
 * Protocol: an object is one shard (src/identity/once.ts chooses it by the key, so one key always meets one object). Every
 * method is one synchronous step over its SQLite tables: of two callers that race, one is first. An alarm removes what has
 * expired; what has expired counts for nothing before that too.
 */
export class Once extends DurableObject {
  /** Tests set it. */
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

  /** Keeps a value for `take`. An earlier one of the same key is replaced. */
  async put(key: string, value: string, ttlMs: number): Promise<void> {
    this.ctx.storage.sql.exec(
      "insert or replace into entry (key, value, expires) values (?, ?, ?)",
      key,
      value,
      this.now() + ttlMs,
    );
    await this.#tidyLater();
  }

  /** The value, this once; null when there is none, it has expired or was taken. */
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
   * Counts an attempt: at most `limit` in a window that begins with the first one. The attempt that reaches the limit is still
   * allowed, and from it the key is locked for `windowMs`. A refused attempt changes nothing.
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

  /** How it stands with a key, without counting. */
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

  /** Forgets the attempts of a key: it succeeded, or somebody unlocked it. */
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
  /** Attempts that the window still allows after this one. */
  readonly left: number;
  readonly retry_after_ms: number;
}

const TIDY_MS = 15 * 60_000;
