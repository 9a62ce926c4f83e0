import type { CaState } from "../../src/authority/ledger.ts";

/**
 * The tables of one ledger. Times are Unix milliseconds here, serials lower-case hex.
 *
 * entries      reserved and signed certificates. `state`: 0 reserved (tbs is what will be signed), 1 signed (der), 2 refused by
 *              the lint (its serial is burnt, its request id free again). `revoked_at` and `reason` answer OCSP.
 *              `tagged`: the serial carries the tag of serial_key; the others are in the filter (issuer/serials.ts).
 *              `seq`: the number of the last fact about it. `acknowledged`: the inventory has that fact. `settle_tries`: how
 *              often the inventory refused it (issuer/outbox.ts).
 * serial_key   the key of those tags; `imports` is 1 for an imported CA, whose serials may lack a tag.
 * mark         `seq`: the number of the last fact; `known`: the highest that the inventory confirmed recording.
 * crl_entries  the encoded CRL entry of each revoked serial, in order of revocation; dropped once it was on a list published
 *              after its certificate expired.
 * crl_removed  entries dropped during a build whose list still has them; empty between builds.
 * crls         one row a list: shard 0 is the complete list. Partitions are numbered from 1 on; each has the URL that is
 *              baked into its certificates. Another public URL or more partitions make new rows. `live_entries` and
 *              `live_bytes` count what the next list will hold, `newest` is the latest revocation date it has had,
 *              `changes` rises with every change that a list must show. The list is due at `due_at`; a change makes that
 *              earlier, but never earlier than `earliest_at`.
 * failures     failed tasks of the alarm, until they succeed (issuer/failures.ts).
 * reported     the problems last reported to the inventory (issuer/alarm.ts).
 */
const MIGRATIONS: readonly string[] = [
  `
  create table ca (
    id integer primary key check (id = 1),
    ledger_id text not null,
    ca_id text not null,
    state text not null,
    algorithm text not null,
    key_id text not null,
    sealed_key text not null,
    pss integer not null,
    signature_algorithm blob not null,
    spki blob not null,
    csr blob,
    request_digest text not null,
    path_len integer,
    not_before integer not null,
    not_after integer not null,
    crl_shards integer not null,
    crl_number integer not null,
    crl_generation integer not null
  );
  create table ca_chain (position integer primary key, der blob not null);
  create table entries (
    cursor integer primary key,
    serial text not null unique,
    request_id text not null unique,
    digest text not null,
    kind text not null,
    certificate_id text not null,
    state integer not null,
    shard integer not null,
    not_before integer not null,
    not_after integer not null,
    created_at integer not null,
    spki_sha256 text not null,
    tbs blob,
    der blob,
    settle text not null,
    acknowledged integer not null,
    revoked_at integer,
    reason integer
  );
  create index entries_certificate on entries (certificate_id);
  create index entries_unsettled on entries (created_at) where acknowledged = 0;
  create table crl_entries (
    seq integer primary key autoincrement,
    serial text not null unique,
    shard integer not null,
    not_after integer not null,
    entry blob not null
  );
  create index crl_entries_shard on crl_entries (shard, seq);
  create index crl_entries_expiry on crl_entries (not_after);
  create table crls (
    shard integer primary key,
    position integer not null,
    url text not null,
    number integer,
    this_update integer,
    next_update integer,
    entries integer not null default 0,
    bytes integer not null default 0,
    etag text,
    live_entries integer not null default 0,
    live_bytes integer not null default 0,
    changes integer not null default 0,
    dirty_since integer,
    due_at integer not null,
    last_error text
  );
  create table responders (
    key_id text primary key,
    certificate blob,
    request_id text not null,
    spki blob not null,
    sealed_key text not null,
    not_before integer,
    not_after integer,
    created_at integer not null
  );
  `,
  // Entries that could not be handed over go to the end of the queue, so that a hundred hopeless ones block no others.
  `
  alter table entries add column settle_at integer;
  drop index entries_unsettled;
  create index entries_unsettled on entries (coalesce(settle_at, created_at)) where acknowledged = 0;
  `,
  // Serials issued before serials had a tag, or imported, are recognized by a filter over these rows.
  `
  create table serial_key (id integer primary key check (id = 1), key blob not null, imports integer not null default 0);
  insert into serial_key (id, key) values (1, randomblob(32));
  alter table entries add column tagged integer not null default 0;
  create index entries_untagged on entries (cursor) where tagged = 0;
  `,
  // Facts have numbers, so that ledger and inventory detect that the other was restored to an earlier state.
  `
  create table mark (id integer primary key check (id = 1), seq integer not null, known integer not null);
  alter table entries add column seq integer not null default 0;
  update entries set seq = cursor;
  insert into mark (id, seq, known) select 1, coalesce(max(cursor), 0), 0 from entries;
  create index entries_seq on entries (seq);
  `,
  // A list's thisUpdate is not before its newest entry.
  `
  alter table crls add column newest integer not null default 0;
  update crls set newest = coalesce(
    (select max(revoked_at) from entries where revoked_at is not null and crls.shard in (0, entries.shard)), 0);
  `,
  // A change during a build no longer restarts the build.
  `
  create table crl_removed (seq integer primary key, shard integer not null, entry blob not null);
  alter table crls add column earliest_at integer not null default 0;
  alter table ca drop column crl_generation;
  `,
  // An imported CA may continue above a CRL number that no integer column holds.
  `
  alter table ca add column crl_base text not null default '0';
  `,
  // Failures are retried with growing delays and reported.
  `
  create table failures (
    task text primary key,
    attempts integer not null,
    since integer not null,
    next_at integer not null,
    error text not null
  );
  create table reported (problems text not null);
  alter table entries add column settle_tries integer not null default 0;
  `,
  // The inventory identifies facts by serial; the reason why a list failed is in failures.
  `
  drop index entries_certificate;
  alter table crls drop column last_error;
  `,
];

/** Brings the tables up to date; runs inside blockConcurrencyWhile before anything else. */
export function migrate(storage: DurableObjectStorage): void {
  const { sql } = storage;
  sql.exec("create table if not exists _migrations (id integer primary key, at integer not null)");
  const done = sql.exec<{ n: number }>("select count(*) as n from _migrations").one().n;
  for (let id = done; id < MIGRATIONS.length; id++) {
    storage.transactionSync(() => {
      sql.exec(MIGRATIONS[id] ?? "");
      sql.exec("insert into _migrations (id, at) values (?, ?)", id + 1, Date.now());
    });
  }
}

type Value = SqlStorageValue | Uint8Array;

/** Inserts one row; returns its number. */
export function insert(sql: SqlStorage, table: string, row: Readonly<Record<string, Value>>): number {
  const columns = Object.keys(row);
  const query = `insert into ${table} (${columns}) values (${columns.map(() => "?")}) returning rowid as id`;
  return sql.exec<{ id: number }>(query, ...Object.values(row)).one().id;
}

/** The first row of a query's result. */
export function first<T extends Record<string, SqlStorageValue>>(
  sql: SqlStorage,
  query: string,
  ...values: SqlStorageValue[]
): T | undefined {
  return sql.exec<T>(query, ...values).toArray()[0];
}

/** The number in the only column of a query's result. */
export function numberOf(sql: SqlStorage, query: string, ...values: SqlStorageValue[]): number {
  return Number(Object.values(sql.exec(query, ...values).one())[0]);
}

/** The one row of `ca`. */
export type CaRow = {
  ledger_id: string;
  ca_id: string;
  state: CaState;
  algorithm: string;
  key_id: string;
  sealed_key: string;
  /** RSASSA-PSS instead of PKCS#1 v1.5. */
  pss: 0 | 1;
  /** AlgorithmIdentifier of its signatures, DER. */
  signature_algorithm: ArrayBuffer;
  spki: ArrayBuffer;
  csr: ArrayBuffer | null;
  request_digest: string;
  path_len: number | null;
  not_before: number;
  not_after: number;
  crl_shards: number;
  crl_number: number;
  /** Decimal digits: every CRL number of this CA is this one and `crl_number` together. */
  crl_base: string;
};

export type CrlRow = {
  shard: number;
  position: number;
  url: string;
  number: number | null;
  this_update: number | null;
  next_update: number | null;
  entries: number;
  bytes: number;
  etag: string | null;
  live_entries: number;
  live_bytes: number;
  newest: number;
  changes: number;
  dirty_since: number | null;
  due_at: number;
  earliest_at: number;
};
