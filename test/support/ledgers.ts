import { env } from "cloudflare:workers";
import { type Ledger, ledgerOf } from "../../src/authority/ledger.ts";
import type { Bindings } from "../../src/platform/context.ts";

const bindings = env as unknown as Bindings;

/** The id of the ledger of a CA, as public URLs name that. */
export async function ledgerIdOf(caId: string): Promise<string> {
  const row = await bindings.DB.prepare("select ledger_id from certificate_authorities where ca_id = ?")
    .bind(caId)
    .first<{ ledger_id: string }>();
  if (!row) throw new Error(`no CA ${caId}`);
  return row.ledger_id;
}

export async function ledgerOfCa(caId: string): Promise<Ledger> {
  return ledgerOf({ bindings }, await ledgerIdOf(caId));
}
