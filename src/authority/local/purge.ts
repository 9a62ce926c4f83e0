import type { Context } from "../../platform/context.ts";
import { enqueue, type WorkKinds } from "../../platform/work/work.ts";
import { ocspTag } from "./public/ocsp.ts";

/** Purges a ledger's answers from the edge cache. */

const PURGE_KIND = "pki.purge";

/** Work that purges the answers about these certificates from the edge; its statement belongs in the batch. */
export function purgeEntry(ctx: Context, entries: readonly { readonly ledger_id: string; readonly serial: string }[]) {
  const tags = entries.map((entry) => ({
    tag: ocspTag(entry.ledger_id, entry.serial),
    whole: `ledger-${entry.ledger_id}`,
  }));
  return enqueue(ctx, PURGE_KIND, { tags });
}

/** The same for every answer about a CA. */
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
