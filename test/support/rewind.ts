import { evictDurableObject, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import type { Issuer } from "../../durable-objects/issuer.ts";

/** States of a ledger and of the database to come back to, as a restore of a backup does. */

type Row = Record<string, SqlStorageValue>;
export type LedgerState = Map<string, Row[]>;
export type DatabaseState = Map<string, Record<string, unknown>[]>;

export function ledgerStub(id: string): DurableObjectStub<Issuer> {
  return (env as unknown as { ISSUER: DurableObjectNamespace<Issuer> }).ISSUER.getByName(id);
}

const TABLES =
  "select name from sqlite_master where type = 'table' and name not like 'sqlite_%' and name not like '_cf_%'";

export function saveLedger(id: string): Promise<LedgerState> {
  return runInDurableObject(ledgerStub(id), (_, { storage: { sql } }) => {
    const names = sql.exec<{ name: string }>(TABLES).toArray();
    return new Map(names.map(({ name }) => [name, sql.exec<Row>(`select * from ${name}`).toArray()]));
  });
}

/** The ledger is what it was, and its object is new, as after a restart. */
export async function rewindLedger(id: string, state: LedgerState): Promise<void> {
  await runInDurableObject(ledgerStub(id), (_, { storage }) => {
    storage.transactionSync(() => {
      for (const [table, rows] of state) {
        storage.sql.exec(`delete from ${table}`);
        for (const row of rows) {
          const columns = Object.keys(row);
          const marks = columns.map(() => "?").join(", ");
          storage.sql.exec(`insert into ${table} (${columns.join(", ")}) values (${marks})`, ...Object.values(row));
        }
      }
    });
  });
  await evictDurableObject(ledgerStub(id));
}

/** Tables that are not of the inventory: migrations, and the platform's own. */
async function databaseTables(): Promise<string[]> {
  const { results } = await env.DB.prepare(TABLES).all<{ name: string }>();
  return results.map(({ name }) => name).filter((name) => name !== "d1_migrations");
}

export async function saveDatabase(): Promise<DatabaseState> {
  const state: DatabaseState = new Map();
  for (const name of await databaseTables()) {
    const { results } = await env.DB.prepare(`select * from ${name}`).all<Record<string, unknown>>();
    state.set(name, results);
  }
  return state;
}

export async function rewindDatabase(state: DatabaseState): Promise<void> {
  // A restore asks no trigger.
  const triggers = "select name, sql from sqlite_master where type = 'trigger'";
  const { results } = await env.DB.prepare(triggers).all<{ name: string; sql: string }>();
  const statements = [
    env.DB.prepare("pragma defer_foreign_keys = on"),
    ...results.map(({ name }) => env.DB.prepare(`drop trigger ${name}`)),
  ];
  for (const name of await databaseTables()) statements.push(env.DB.prepare(`delete from ${name}`));
  for (const [name, rows] of state) {
    for (const row of rows) {
      const columns = Object.keys(row);
      const text = `insert into ${name} (${columns.join(", ")}) values (${columns.map(() => "?").join(", ")})`;
      statements.push(env.DB.prepare(text).bind(...Object.values(row)));
    }
  }
  await env.DB.batch([...statements, ...results.map(({ sql }) => env.DB.prepare(sql))]);
}
