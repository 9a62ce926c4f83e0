import { evictDurableObject, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import type { Issuer } from "../../durable-objects/issuer.ts";

/** States of a ledger to come back to, as a restore of a backup does. */

type Row = Record<string, SqlStorageValue>;
export type LedgerState = Map<string, Row[]>;

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
