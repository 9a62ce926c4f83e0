import { eq } from "drizzle-orm";
import { fromHex, toHex } from "../../pki/bytes.ts";
import type { Context } from "../../platform/context.ts";
import { runBatch } from "../../platform/database.ts";
import { describeError } from "../../platform/log.ts";
import { enqueue, type WorkKinds } from "../../platform/work/work.ts";
import { type IssueCaRequest, ledgerOf } from "../ledger.ts";
import { refusalError } from "../refusals.ts";
import { certificateAuthorities } from "./table.ts";

/**
 * A parent signs an intermediate before the intermediate's row is written. A crash in between must not leave an unseen
 * CA: the intent is recorded first, and later work withdraws a CA without a row.
 */

const TOPIC = "ca.withdraw";
/** A creation takes a second; after this it is given up, and its batch is refused. */
const GIVE_UP_SECONDS = 600;

export interface Creation {
  readonly ledger_id: string;
  readonly parent_ledger_id: string;
  readonly request: IssueCaRequest;
}

/** Records the intent before the parent signs. Returns the id of the work; the batch with the CA's row deletes it. */
export async function recordIntent(ctx: Context, { request, ...ledgers }: Creation): Promise<string> {
  const payload = { ...ledgers, request: { ...request, spki: toHex(request.spki) } };
  const { statement, id } = enqueue(ctx, TOPIC, payload, GIVE_UP_SECONDS);
  await runBatch(ctx.db, [statement]);
  return id;
}

/** Withdraws a CA without a row: it signs nothing, and its parent revokes it. Idempotent. */
async function withdraw(ctx: Context, { ledger_id, parent_ledger_id, request }: Creation): Promise<void> {
  await ledgerOf(ctx, ledger_id).retire("retired");
  const parent = ledgerOf(ctx, parent_ledger_id);
  // The same request returns the same certificate, and so its serial.
  const issued = await parent.issueCa(request);
  if (!issued.ok) return;
  const revoked = await parent.revoke([issued.serial], "cessationOfOperation");
  if (!revoked.ok) throw refusalError(revoked);
}

/** Withdraws at once when the batch with the row was refused; if this fails, the recorded intent does it later. */
export async function withdrawNow(ctx: Context, creation: Creation): Promise<void> {
  try {
    await withdraw(ctx, creation);
  } catch (error) {
    ctx.log.error("intermediate_ca.withdraw_failed", {
      ledger_id: creation.ledger_id,
      error: describeError(error),
    });
  }
}

export const withdrawalWork: WorkKinds = {
  [TOPIC]: {
    async run(ctx, payload) {
      const creation = payload as unknown as Creation & { request: Omit<IssueCaRequest, "spki"> & { spki: string } };
      const [row] = await ctx.db
        .select({ id: certificateAuthorities.id })
        .from(certificateAuthorities)
        .where(eq(certificateAuthorities.ledger_id, creation.ledger_id));
      if (row) return;
      await withdraw(ctx, { ...creation, request: { ...creation.request, spki: fromHex(creation.request.spki) } });
    },
  },
};
