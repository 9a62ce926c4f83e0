import { DurableObject } from "cloudflare:workers";

/**
 * Gathers the purges of the edge cache in front of PublicPki and spends the small purge budget well.
 *
 * Protocol: `add` writes the tags and sets an alarm two seconds on, so that a burst becomes one call. The alarm takes up
 * to 100 tags a call while the token bucket (25, refilled by 5 a minute: what Cloudflare allows whatever the plan) has
 * tokens, and deletes the tags only after the call has succeeded: by their sequence numbers, for a tag that is added again
 * while it is being purged gets a new one and is purged again. What is over budget waits for the next token, what failed for
 * fifteen seconds; when more tags wait than the bucket can carry in a minute, each CA's own tags give way to the one tag of
 * all its answers. All of it may be lost or repeated without harm: `max-age` bounds what a cache may hold.
 */
export class Purge extends DurableObject {
  /** Tests set it. */
  now: () => number = Date.now;
  /** Has the edge forget these tags; false, or an error, when it has not. Tests set it. */
  purge: (tags: string[]) => Promise<boolean>;

  constructor(state: DurableObjectState, env: never) {
    super(state, env);
    const { PublicPki } = state.exports as unknown as { PublicPki: { purge(tags: string[]): Promise<boolean> } };
    this.purge = (tags) => PublicPki.purge(tags);
    const { sql } = state.storage;
    // Tags had no sequence numbers once. What waited there may be lost.
    sql.exec("drop table if exists tag");
    sql.exec(
      "create table if not exists waiting (seq integer primary key autoincrement, tag text not null unique, whole text not null)",
    );
    sql.exec(
      "create table if not exists bucket (id integer primary key check (id = 1), tokens real not null, at integer not null)",
    );
    sql.exec("insert or ignore into bucket (id, tokens, at) values (1, ?, ?)", BUCKET, this.now());
  }

  /** Each tag with the coarser one that covers it. */
  async add(tags: readonly PurgeTag[]): Promise<void> {
    for (const { tag, whole } of tags)
      this.ctx.storage.sql.exec("insert or replace into waiting (tag, whole) values (?, ?)", tag, whole);
    if ((await this.ctx.storage.getAlarm()) === null) await this.ctx.storage.setAlarm(this.now() + GATHER_MS);
  }

  override async alarm(): Promise<void> {
    this.#coarsen();
    let again: number | null = null;
    for (;;) {
      const rows = this.ctx.storage.sql
        .exec<{ seq: number; tag: string }>("select seq, tag from waiting order by seq limit ?", TAGS_A_CALL)
        .toArray();
      if (rows.length === 0) break;
      const wait = this.#take();
      if (wait > 0) {
        again = this.now() + wait;
        break;
      }
      if (!(await this.#attempt(rows.map((row) => row.tag)))) {
        again = this.now() + RETRY_MS;
        break;
      }
      const done = JSON.stringify(rows.map((row) => row.seq));
      this.ctx.storage.sql.exec("delete from waiting where seq in (select value from json_each(?))", done);
    }
    if (again !== null) await this.ctx.storage.setAlarm(again);
  }

  /** More than a minute's budget waits: one tag for each CA instead of one for each certificate. */
  #coarsen(): void {
    const { sql } = this.ctx.storage;
    if (sql.exec<{ n: number }>("select count(*) as n from waiting").one().n <= TAGS_A_CALL * CALLS_A_MINUTE) return;
    sql.exec("insert or ignore into waiting (tag, whole) select distinct whole, whole from waiting");
    sql.exec("delete from waiting where tag <> whole");
  }

  /** Takes a token; else how many milliseconds until there is one. */
  #take(): number {
    const { sql } = this.ctx.storage;
    const { tokens, at } = sql.exec<{ tokens: number; at: number }>("select tokens, at from bucket where id = 1").one();
    const now = Math.max(this.now(), at);
    const filled = Math.min(BUCKET, tokens + ((now - at) * CALLS_A_MINUTE) / 60_000);
    if (filled < 1) return Math.ceil(((1 - filled) * 60_000) / CALLS_A_MINUTE);
    sql.exec("update bucket set tokens = ?, at = ? where id = 1", filled - 1, now);
    return 0;
  }

  async #attempt(tags: string[]): Promise<boolean> {
    try {
      return await this.purge(tags);
    } catch (error) {
      console.error(
        JSON.stringify({ level: "error", event: "purge.failed", error: error instanceof Error ? error.message : "" }),
      );
      return false;
    }
  }
}

export interface PurgeTag {
  readonly tag: string;
  readonly whole: string;
}

const BUCKET = 25;
const CALLS_A_MINUTE = 5;
const TAGS_A_CALL = 100;
const GATHER_MS = 2_000;
const RETRY_MS = 15_000;
