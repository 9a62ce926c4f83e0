import { crlPrefix, importPrefix, type LedgerEnd, type Refusal } from "../../src/authority/ledger.ts";
import { retire } from "./ca.ts";
import { type Core, caOf, ledgerIdOf, nowOf, refuse } from "./core.ts";
import { attuned, compare } from "./restore.ts";
import { iso } from "./storage.ts";

/**
 * The end of a ledger whose CA nobody has: its creation died or lost a race, or its issuer was deleted. It signs no more at
 * once. While anything that it signed is valid it goes on answering and publishing; then its lists, its alarm and all that it
 * stores go, its keys among it.
 */
export async function end(core: Core): Promise<LedgerEnd | Refusal> {
  if (core.ended) return { ok: true, ends_at: null };
  if (caOf(core)) {
    const not = await attuned(core);
    if (not) return not;
    // Where the inventory was restored to an earlier state this brings the CA back.
    await compare(core);
  }
  if ((await core.inventory.ca(ledgerIdOf(core))) !== null)
    return refuse("ca_exists", "the inventory has the CA of this ledger");
  retire(core, "retired");
  const last = lastEnd(core);
  if (last > nowOf(core)) return { ok: true, ends_at: iso(last) };
  await wipe(core);
  return { ok: true, ends_at: null };
}

/** When the last certificate has expired, other than the CA's own and its OCSP responders'. */
function lastEnd(core: Core): number {
  return core.sql
    .exec<{ last: number }>(
      `select coalesce(max(not_after), 0) as last from entries
        where state in (0, 1) and kind <> 'responder' and request_id <> 'self'`,
    )
    .one().last;
}

/** May be repeated: the lists go first, for only what is stored tells whose they are. */
async function wipe(core: Core): Promise<void> {
  const id = ledgerIdOf(core);
  core.ended = true;
  try {
    await Promise.allSettled([core.ringing, core.publishing, core.renewing]);
    if (id !== "") for (const prefix of [crlPrefix(id), importPrefix(id)]) await deleteBelow(core, prefix);
    await core.storage.deleteAlarm();
    await core.storage.deleteAll();
  } catch (error) {
    core.ended = false;
    throw error;
  }
}

async function deleteBelow(core: Core, prefix: string): Promise<void> {
  for (;;) {
    const { objects } = await core.bytes.list({ prefix });
    if (objects.length === 0) return;
    await core.bytes.delete(objects.map((object) => object.key));
  }
}
