import { eq } from "drizzle-orm";
import type { Bytes } from "../../pki/bytes.ts";
import { certificatesFromPem } from "../../pki/pem.ts";
import type { Context } from "../../platform/context.ts";
import type { Statement } from "../../platform/database.ts";
import { ledgerOf } from "../ledger.ts";
import { type CaAuthorityRow, certificateAuthorities } from "./table.ts";

/** A new certificate of an issuer's own CA changes the chains of the CAs below it. */

/**
 * Gives each ledger below its new chain. A ledger that refuses it (its CA has ended) no longer signs and keeps the old
 * chain.
 */
export async function chainBelow(ctx: Context, own: CaAuthorityRow, chain: readonly Bytes[]): Promise<void> {
  const rows = (await casOf(ctx, own.issuer_id)).filter((row) => row.cert_pem !== "");
  let level = [{ id: own.id, chain }];
  while (level.length > 0) {
    const next: typeof level = [];
    for (const parent of level) {
      for (const row of rows.filter((candidate) => candidate.parent_ca_id === parent.id)) {
        const below = [...certificatesFromPem(row.cert_pem), ...parent.chain];
        const answer = await ledgerOf(ctx, row.ledger_id).install(below, { force: true });
        if (!answer.ok) ctx.log.warn("ca.chain_refused", { ca_id: row.ca_id, reason: answer.message });
        next.push({ id: row.id, chain: below });
      }
    }
    level = next;
  }
}

/**
 * Writes a CA's changed certificate columns and the chain of every CA below it; other columns are written elsewhere.
 */
export async function caStatements(
  ctx: Context,
  own: CaAuthorityRow,
  set: Partial<CaAuthorityRow>,
): Promise<Statement[]> {
  const rows = await casOf(ctx, own.issuer_id);
  const statements: Statement[] = [
    ctx.db.update(certificateAuthorities).set(set).where(eq(certificateAuthorities.id, own.id)),
  ];
  const below = (parent: CaAuthorityRow): void => {
    for (const child of rows.filter((row) => row.parent_ca_id === parent.id)) {
      const chain_pem = parent.cert_pem + parent.chain_pem;
      statements.push(
        ctx.db.update(certificateAuthorities).set({ chain_pem }).where(eq(certificateAuthorities.id, child.id)),
      );
      below({ ...child, chain_pem });
    }
  };
  below(own);
  return statements;
}

function casOf(ctx: Context, issuerId: string): Promise<CaAuthorityRow[]> {
  return ctx.db.select().from(certificateAuthorities).where(eq(certificateAuthorities.issuer_id, issuerId));
}
