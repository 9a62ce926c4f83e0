import { eq, sql } from "drizzle-orm";
import { type Context, timestamp } from "./context.ts";
import { runBatch } from "./database.ts";
import { unavailable } from "./errors.ts";
import { inventoryState } from "./tables.ts";

/**
 * Whether the inventory was restored to an earlier state. Each tick of the minute raises a number in the inventory and writes
 * the same number beside it, into R2: where that one is the higher, the inventory is older than what it did. From then on
 * nothing new is made, as its id may be of a record that is lost, until every ledger has handed over what happened since.
 */

const KEY = "state/beat";

/** One tick. Answers whether the inventory lacks something. */
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

/** Since when what a restore lost is being brought back; null when nothing is missing. */
export async function recoveringSince(ctx: Pick<Context, "db">): Promise<string | null> {
  const [row] = await ctx.db.select().from(inventoryState);
  return row?.recovering_since ?? null;
}

/** 503 while the inventory may lack records: what is made now could take their place. */
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

/** Every ledger has handed over what it had. */
export async function markWhole(ctx: Context, since: string): Promise<void> {
  await runBatch(ctx.db, [
    ctx.db.update(inventoryState).set({ recovering_since: null }).where(eq(inventoryState.id, 1)),
    ctx.audit("inventory.restored", "inventory", { noticed_at: since }, { id: `audit-restored-${since}` }),
  ]);
}
