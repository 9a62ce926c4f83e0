import type { Context } from "../../platform/context.ts";
import { enqueue, type WorkKinds } from "../../platform/work/work.ts";
import { ocspTag } from "./public/ocsp.ts";

/** What the edge cache is to forget of a ledger's answers. */

const PURGE_KIND = "pki.purge";

/** The work that has the edge forget the answers about these certificates; its statement belongs into the batch. */
export function purgeEntry(ctx: Context, entries: readonly { readonly ledger_id: string; readonly serial: string }[]) {
  const tags = entries.map((entry) => ({
    tag: ocspTag(entry.ledger_id, entry.serial),
    whole: `ledger-${entry.ledger_id}`,
  }));
  return enqueue(ctx, PURGE_KIND, { tags });
}

/** The same for everything that is said of a CA. */
export function purgeLedger(ctx: Context, ledgerId: string) {
  const whole = `ledger-${ledgerId}`;
  return enqueue(ctx, PURGE_KIND, { tags: [{ tag: whole, whole }] });
}

interface PurgeBuffer {
  add(tags: unknown): Promise<void>;
}

export const purgeWork: WorkKinds = {
  [PURGE_KIND]: {
    async run(ctx, payload) {
      await (ctx.bindings.PURGE.getByName("edge") as unknown as PurgeBuffer).add(payload.tags);
    },
  },
};
