import { DurableObject } from "cloudflare:workers";

/**
 * Batches purges of the edge cache in front of PublicPki within the small purge budget.
 *
 * Protocol: `add` writes the tags, each to be purged two seconds later: by then no isolate repeats an older answer,
 * which the cache would store again. The alarm purges up to 100 tags a call while the token bucket (25, refilled by 5 a
 * minute: Cloudflare's limit on every plan) has tokens, at most every two seconds, so that a burst becomes one call. A
 * tag is deleted only after its call has succeeded; a tag added again meanwhile is purged again two seconds after that.
 * Tags over budget wait for the next token, failed ones for fifteen seconds. If more tags wait than the bucket allows
 * in a minute, each CA's tags are replaced by the one tag of all its answers. Losing or repeating any of this is
 * harmless: `max-age` limits how long a cache keeps an answer.
 */
export class Purge extends DurableObject {
  /** For tests. */
  now: () => number = Date.now;
  /** Purges these tags from the edge; false or an error on failure. Tests replace it. */
  purge: (tags: string[]) => Promise<boolean>;

  constructor(state: DurableObjectState, env: never) {
    super(state, env);
    const { PublicPki } = state.exports as unknown as { PublicPki: { purge(tags: string[]): Promise<boolean> } };
    this.purge = (tags) => PublicPki.purge(tags);
    const { sql } = state.storage;
    // The table of earlier versions. Tags waiting there may be lost.
    sql.exec("drop table if exists tag");
    sql.exec("drop table if exists waiting");
    // `again`: when a tag added again while it waited is due once more.
    sql.exec(
      "create table if not exists purges (tag text primary key, whole text not null, due integer not null, again integer)",
    );
    sql.exec(
      "create table if not exists bucket (id integer primary key check (id = 1), tokens real not null, at integer not null)",
    );
    sql.exec("insert or ignore into bucket (id, tokens, at) values (1, ?, ?)", BUCKET, this.now());
  }

  /** Adds each tag with the coarser one that covers it. */
  async add(tags: readonly PurgeTag[]): Promise<void> {
    const due = this.now() + GATHER_MS;
    for (const { tag, whole } of tags) {
      this.ctx.storage.sql.exec(
        "insert into purges (tag, whole, due) values (?, ?, ?) on conflict (tag) do update set again = excluded.due",
        ...[tag, whole, due],
      );
    }
    if ((await this.ctx.storage.getAlarm()) === null) await this.ctx.storage.setAlarm(due);
  }

  override async alarm(): Promise<void> {
    const { sql } = this.ctx.storage;
    this.#coarsen();
    let wait = 0;
    while (wait === 0) {
      const tags = sql
        .exec<{ tag: string }>("select tag from purges where due <= ? order by due limit ?", this.now(), TAGS_A_CALL)
        .toArray()
        .map((row) => row.tag);
      if (tags.length === 0) break;
      wait = this.#take();
      if (wait === 0 && !(await this.#attempt(tags))) wait = RETRY_MS;
      if (wait === 0) this.#done(tags);
    }
    const { next } = sql.exec<{ next: number | null }>("select min(due) as next from purges").one();
    if (next !== null) await this.ctx.storage.setAlarm(Math.max(next, this.now() + Math.max(wait, GATHER_MS)));
  }

  #done(tags: readonly string[]): void {
    const these = "tag in (select value from json_each(?))";
    const list = JSON.stringify(tags);
    this.ctx.storage.sql.exec(`delete from purges where again is null and ${these}`, list);
    this.ctx.storage.sql.exec(`update purges set due = again, again = null where ${these}`, list);
  }

  /** If more than a minute's budget waits, replaces the tags of each CA's certificates by the CA's one tag. */
  #coarsen(): void {
    const { sql } = this.ctx.storage;
    if (sql.exec<{ n: number }>("select count(*) as n from purges").one().n <= TAGS_A_CALL * CALLS_A_MINUTE) return;
    sql.exec(
      `insert into purges (tag, whole, due) select whole, whole, max(coalesce(again, due)) from purges where tag <> whole group by whole
       on conflict (tag) do update set again = max(coalesce(again, due), excluded.due)`,
    );
    sql.exec("delete from purges where tag <> whole");
  }

  /** Takes a token; otherwise returns the milliseconds until there is one. */
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
