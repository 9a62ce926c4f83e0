import { and, eq, isNotNull } from "drizzle-orm";
import type { Context } from "../../platform/context.ts";
import { inList } from "../../platform/database.ts";
import type { CaProblem } from "../ca.ts";
import { certificateAuthorities, ledgers } from "./table.ts";

/** Problems that the ledgers of these issuers reported, by issuer; issuers without problems are absent. */
export async function problemsOf(
  ctx: Context,
  issuerIds: readonly string[],
): Promise<ReadonlyMap<string, { readonly problems: readonly CaProblem[] }>> {
  const { issuer_id, ca_id, ledger_id } = certificateAuthorities;
  const rows = await ctx.db
    .select({ issuer_id, ca_id, problems: ledgers.problems })
    .from(certificateAuthorities)
    .innerJoin(ledgers, eq(ledgers.id, ledger_id))
    .where(and(inList(issuer_id, issuerIds), isNotNull(ledgers.problems)))
    .orderBy(ca_id);
  const found = new Map<string, { problems: CaProblem[] }>();
  for (const row of rows) {
    const of = found.get(row.issuer_id) ?? { problems: [] };
    of.problems.push(...(row.problems ?? []).map((problem) => ({ ca_id: row.ca_id, ...problem })));
    found.set(row.issuer_id, of);
  }
  return found;
}
