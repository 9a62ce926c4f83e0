import { DurableObject } from "cloudflare:workers";
import type {
  Held,
  LiveSession,
  NewSession,
  Opened,
  SessionRow,
  SessionStore,
} from "../src/identity/sessions/store.ts";
import type { ActorType } from "../src/platform/context.ts";

/**
 * All sessions of one actor: a session cookie is valid while its row exists here.
 *
 * Protocol: the object is the actor's shard (`shardOf` of src/identity/sessions/store.ts), so every request with one of
 * the actor's sessions meets this object. Every method is one synchronous step over its SQLite tables: a session that
 * `revoke` has deleted is unknown to the very next `touch`, and of concurrent callers one is first. Rows once read stay
 * in memory until a method changes any, in the same step; nothing else writes them. The caller's clock decides
 * validity; the alarm, on the object's own clock, only deletes sessions past their absolute end, and the whole storage
 * with the last row.
 *
 * `touch` writes only if `last_seen_at` is older than 30 seconds or a twentieth of the idle time, whichever is less: an
 * idle session may end that much earlier than its idle time after the last request, never later.
 *
 * Tables: `actor`, one row: the owner of the sessions and the generation of their CSRF tokens. `session`: one row each,
 * times in Unix milliseconds. An object without sessions has no table.
 */
export class Session extends DurableObject implements SessionStore {
  /** The alarm's clock; replaced by tests. */
  now: () => number = Date.now;
  #made: boolean;
  /** Rows as in the tables; cleared by each method that changes more than one row's `last_seen_at`. */
  readonly #rows = new Map<string, StoredRow>();
  #actor: ActorRow | null = null;

  constructor(state: DurableObjectState, env: never) {
    super(state, env);
    const { n } = state.storage.sql
      .exec<{ n: number }>("select count(*) as n from sqlite_master where type = 'table' and name = 'session'")
      .one();
    this.#made = n > 0;
  }

  async open(session: NewSession): Promise<Opened> {
    this.#make();
    this.#forget();
    const { sql } = this.ctx.storage;
    sql.exec(
      "insert or ignore into actor (one, id, type, csrf_generation) values (1, ?, ?, 0)",
      session.actor_id,
      session.actor_type,
    );
    sql.exec("delete from session where not (absolute_expires_at > ?1 and last_seen_at + idle_ms > ?1)", session.now);
    sql.exec(
      `insert or ignore into session
        (id, ip_address, user_agent, created_at, last_seen_at, idle_ms, absolute_expires_at) values (?, ?, ?, ?, ?, ?, ?)`,
      session.id,
      session.ip_address,
      session.user_agent,
      session.now,
      session.now,
      session.idle_ms,
      session.now + session.absolute_ms,
    );
    // By order of arrival, not by time: the clocks of two callers may differ.
    const displaced = sql
      .exec<{ id: string }>(
        "delete from session where id in (select id from session order by rowid desc limit -1 offset ?) returning id",
        MAX_SESSIONS,
      )
      .toArray()
      .map(({ id }) => id);
    const { csrf_generation } = sql.exec<ActorRow>("select * from actor").one();
    if ((await this.ctx.storage.getAlarm()) === null)
      await this.ctx.storage.setAlarm(session.now + session.absolute_ms);
    return { csrf_generation, displaced };
  }

  async touch(id: string, now: number): Promise<Held | null> {
    const row = this.#live(id, now);
    if (row === null) return null;
    const every = Math.min(WRITE_MS, row.idle_ms / WRITES_AN_IDLE_TIME);
    if (now - row.last_seen_at >= every) {
      this.ctx.storage.sql.exec("update session set last_seen_at = ? where id = ?", now, id);
      this.#rows.set(id, { ...row, last_seen_at: now });
    }
    const { actor_id, actor_type, csrf_generation } = this.#described(row);
    return { actor_id, actor_type, csrf_generation, absolute_expires_at: row.absolute_expires_at };
  }

  async find(id: string, now: number): Promise<LiveSession | null> {
    const row = this.#live(id, now);
    return row && this.#described(row);
  }

  async list(now: number): Promise<readonly SessionRow[]> {
    if (!this.#made) return [];
    return this.ctx.storage.sql
      .exec<StoredRow>(`select * from session where ${LIVE} order by rowid desc`, now, now)
      .toArray()
      .map(publicRow);
  }

  async revoke(id: string, now: number): Promise<boolean> {
    const held = this.#live(id, now) !== null;
    if (held) this.ctx.storage.sql.exec("delete from session where id = ?", id);
    this.#forget();
    return held;
  }

  async revokeAll(now: number, except: string | null): Promise<number> {
    if (!this.#made) return 0;
    this.#forget();
    const gone = this.ctx.storage.sql
      .exec<StoredRow>("delete from session where id is not ? returning *", except)
      .toArray();
    return gone.filter((row) => holds(row, now)).length;
  }

  async rotateCsrf(): Promise<void> {
    this.#forget();
    if (this.#made) this.ctx.storage.sql.exec("update actor set csrf_generation = csrf_generation + 1");
  }

  override async alarm(): Promise<void> {
    if (!this.#made) return;
    this.#forget();
    const { sql } = this.ctx.storage;
    sql.exec("delete from session where absolute_expires_at <= ?", this.now());
    const { next } = sql.exec<{ next: number | null }>("select min(absolute_expires_at) as next from session").one();
    if (next !== null) {
      await this.ctx.storage.setAlarm(Math.max(next, this.now() + TIDY_MS));
      return;
    }
    // Generations start again, but no old token becomes valid: each is bound to its session's id.
    this.#made = false;
    await this.ctx.storage.deleteAll();
  }

  #live(id: string, now: number): StoredRow | null {
    if (!this.#made) return null;
    const known = this.#rows.get(id) ?? this.#read(id);
    return known && holds(known, now) ? known : null;
  }

  #read(id: string): StoredRow | null {
    const [row] = this.ctx.storage.sql.exec<StoredRow>("select * from session where id = ?", id).toArray();
    if (!row) return null;
    this.#rows.set(id, row);
    return row;
  }

  #described(row: StoredRow): LiveSession {
    this.#actor ??= this.ctx.storage.sql.exec<ActorRow>("select * from actor").one();
    const { id, type, csrf_generation } = this.#actor;
    return { ...publicRow(row), actor_id: id, actor_type: type as ActorType, csrf_generation };
  }

  #forget(): void {
    this.#rows.clear();
    this.#actor = null;
  }

  #make(): void {
    if (this.#made) return;
    const { sql } = this.ctx.storage;
    sql.exec(`create table if not exists actor
      (one integer primary key check (one = 1), id text not null, type text not null, csrf_generation integer not null)`);
    sql.exec(`create table if not exists session
      (id text primary key, ip_address text not null, user_agent text not null, created_at integer not null,
       last_seen_at integer not null, idle_ms integer not null, absolute_expires_at integer not null)`);
    this.#made = true;
  }
}

/** Maximum sessions of an actor: a new one displaces the oldest. */
const MAX_SESSIONS = 100;
const WRITE_MS = 30_000;
const WRITES_AN_IDLE_TIME = 20;
/** Minimum time between alarms. */
const TIDY_MS = 15 * 60_000;

/** Condition: the session is valid; bind the present time twice. */
const LIVE = "absolute_expires_at > ? and last_seen_at + idle_ms > ?";

type ActorRow = { id: string; type: string; csrf_generation: number };

type StoredRow = {
  id: string;
  ip_address: string;
  user_agent: string;
  created_at: number;
  last_seen_at: number;
  idle_ms: number;
  absolute_expires_at: number;
};

function holds(row: StoredRow, now: number): boolean {
  return row.absolute_expires_at > now && row.last_seen_at + row.idle_ms > now;
}

function publicRow(row: StoredRow): SessionRow {
  return {
    id: row.id,
    ip_address: row.ip_address,
    user_agent: row.user_agent,
    created_at: row.created_at,
    last_seen_at: row.last_seen_at,
    idle_expires_at: Math.min(row.last_seen_at + row.idle_ms, row.absolute_expires_at),
    absolute_expires_at: row.absolute_expires_at,
  };
}
