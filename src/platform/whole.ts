import { eq, sql } from "drizzle-orm";
import { type Context, timestamp } from "./context.ts";
import { runBatch } from "./database.ts";
import { unavailable } from "./errors.ts";
import { inventoryState } from "./tables.ts";

/**
 * Detects that the inventory database was restored to an earlier state. Each minute tick increments a counter in D1 and
 * copies it to R2; if the R2 copy is higher, D1 is older. From then on nothing new is created, since its id could
 * belong to a lost record, until every ledger has handed over what happened since.
 */

const KEY = "state/beat";

/** One tick. Returns whether the inventory lacks records. */
export async function beat(ctx: Context): Promise<boolean> {
  const stored = await ctx.bindings.BYTES.get(KEY);
  const outside = stored ? Number(await stored.text()) : 0;
  const { beat, recovering_since } = inventoryState;
  const now = timestamp(ctx);
  const [row] = await ctx.db
    .insert(inventoryState)
    .values({ id: 1, beat: outside + 1, recovering_since: outside > 0 ? now : null })
    .onConflictDoUpdate({
      target: inventoryState.id,
      set: {
        beat: sql`max(${beat}, ${outside}) + 1`,
        recovering_since: sql`case when ${outside} > ${beat} then coalesce(${recovering_since}, ${now})
          else ${recovering_since} end`,
      },
    })
    .returning();
  if (row?.recovering_since === now) ctx.log.error("inventory.behind", { beat: outside });
  await ctx.bindings.BYTES.put(KEY, String(row?.beat ?? outside));
  return row !== undefined && row.recovering_since !== null;
}

/** Since when the inventory has been recovering from a restore; null if nothing is missing. */
export async function recoveringSince(ctx: Pick<Context, "db">): Promise<string | null> {
  const [row] = await ctx.db.select().from(inventoryState);
  return row?.recovering_since ?? null;
}

/** Throws 503 while the inventory may lack records, because a new record could take the place of a lost one. */
export async function mustBeWhole(ctx: Context): Promise<void> {
  if ((await recoveringSince(ctx)) !== null) throw recovering();
}

export function recovering() {
  return unavailable(
    "recovering",
    "the database was restored to an earlier state and gets back what happened since: ask again",
    30,
  );
}

/** Marks recovery as finished: every ledger has handed over its records. */
export async function markWhole(ctx: Context, since: string): Promise<void> {
  await runBatch(ctx.db, [
    ctx.db.update(inventoryState).set({ recovering_since: null }).where(eq(inventoryState.id, 1)),
    ctx.audit("inventory.restored", "inventory", { noticed_at: since }, { id: `audit-restored-${since}` }),
  ]);
}
