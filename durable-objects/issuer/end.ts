import type { LedgerEnd } from "../../src/authority/ledger.ts";
import { crlPrefix, importPrefix } from "../../src/authority/ledger-places.ts";
import { listsChanged } from "../../src/authority/ledger-publications.ts";
import { retire } from "./ca.ts";
import { type Core, caOf, ledgerIdOf, nowOf, refuse } from "./core.ts";
import { iso } from "./entries.ts";
import { compare, mustBeWhole } from "./restore.ts";
import { numberOf } from "./storage.ts";

/**
 * Ends a ledger without a CA: its creation failed or lost a race, or its issuer was deleted. It stops signing at once.
 * While any certificate it signed is valid it keeps answering and publishing; then its lists, its alarm and all its
 * data, including its keys, are deleted.
 */
export async function end(core: Core): Promise<LedgerEnd> {
  if (core.ended) return { ok: true, ends_at: null };
  const ca = caOf(core);
  if (ca) {
    await mustBeWhole(core);
    // If the inventory was restored to an earlier state, this brings the CA back.
    await compare(core);
  }
  if ((await core.inventory.ca(ledgerIdOf(core))) !== null)
    refuse("ca_exists", "the inventory has the CA of this ledger");
  if (ca && ca.state !== "awaiting_certificate") retire(core, "retired");
  // Other than the CA's own certificate and those of its OCSP responders.
  const last = numberOf(
    core.sql,
    `select coalesce(max(not_after), 0) from entries
      where state in (0, 1) and kind <> 'responder' and request_id <> 'self'`,
  );
  if (last > nowOf(core)) return { ok: true, ends_at: iso(last) };
  await wipe(core);
  return { ok: true, ends_at: null };
}

/** Idempotent: the lists go first, because only the stored data says whose they are. */
async function wipe(core: Core): Promise<void> {
  const id = ledgerIdOf(core);
  core.ended = true;
  try {
    await Promise.allSettled(core.running.values());
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
    listsChanged();
  }
}
