import {
  type ImportedEntry,
  type ImportOutcome,
  REVOCATION_REASONS,
  type RevocationReason,
  type SerialRevoked,
} from "../../src/authority/ledger.ts";
import { importPrefix, wholeSecond } from "../../src/authority/ledger-places.ts";
import { hasTag } from "../../src/pki/certificate.ts";
import type { ForeignCrl } from "../../src/pki/crl.ts";
import { randomId } from "../../src/platform/ids.ts";
import { type Core, caOf, certifiedCa, nowOf, refuse } from "./core.ts";
import { addEntry, type EntryRow, entryOf, iso, markOf, nextSeq, reasonName } from "./entries.ts";
import { markDirty } from "./lists.ts";
import { mayBecome, revoke, setStatus } from "./revocation.ts";
import { serialKey } from "./serials.ts";
import { numberOf } from "./storage.ts";

/**
 * What an imported CA had issued and revoked before its import. These serials carry no tag of ours, so from the first
 * of them on this ledger's serials are recognized with the help of the filter (issuer/serials.ts). The inventory does
 * not have them: each batch is also stored in R2 under its number (issuer/entries.ts), from which a restored ledger
 * reads it back.
 */

/** Imports a batch in one step. Idempotent: known entries stay, except that a good one may become revoked. */
export async function importEntries(core: Core, entries: readonly ImportedEntry[]): Promise<ImportOutcome> {
  const ca = certifiedCa(core);
  const outcome = core.storage.transactionSync(() => takeEntries(core, ca.not_after, entries));
  await keep(core, ca.ledger_id, outcome.mark.seq, entries);
  return outcome;
}

/** Stores a batch in R2 before it is answered. No two batches ever share a name, even after a restore. */
async function keep(core: Core, ledgerId: string, seq: number, entries: readonly ImportedEntry[]): Promise<void> {
  const name = `${String(seq).padStart(SEQ_DIGITS, "0")}-${randomId(core.random, "")}`;
  await core.bytes.put(`${importPrefix(ledgerId)}${name}.json`, JSON.stringify(entries));
}

const SEQ_DIGITS = 16;

/** Imports the batches after `seq` again, in order; idempotent. */
export async function takeImportsBack(core: Core, seq: number): Promise<void> {
  const ca = caOf(core);
  if (!ca || ca.state === "awaiting_certificate") return;
  const prefix = importPrefix(ca.ledger_id);
  let startAfter = `${prefix}${String(seq + 1).padStart(SEQ_DIGITS, "0")}`;
  for (let more = true; more; ) {
    const { objects, truncated } = await core.bytes.list({ prefix, startAfter });
    for (const { key } of objects) {
      const entries = await (await core.bytes.get(key))?.json<ImportedEntry[]>();
      if (entries) core.storage.transactionSync(() => takeEntries(core, ca.not_after, entries));
      startAfter = key;
    }
    more = truncated && objects.length > 0;
  }
}

/** The same inside the caller's transaction. `end`: the end of the CA, used for entries without their own. */
export function takeEntries(core: Core, end: number, entries: readonly ImportedEntry[]): ImportOutcome {
  core.sql.exec("update serial_key set imports = 1");
  const seq = nextSeq(core);
  const counts = { added: 0, revoked: 0, known: 0 };
  const refused: { index: number; message: string }[] = [];
  let listed = false;
  entries.forEach((entry, index) => {
    const { serial, revoked } = entry;
    const known = entryOf(core, serial);
    const row = known ?? addImported(core, seq, end, entry);
    const foreign = revoked !== null && row.kind !== "imported";
    const revokes = !foreign && takeRevocation(core, seq, row, revoked);
    listed ||= revokes;
    if (foreign) refused.push({ index, message: `serial ${serial} was issued here: revoke it here` });
    else if (!known) counts.added++;
    else if (revokes) counts.revoked++;
    else counts.known++;
  });
  if (listed) markDirty(core);
  return { ok: true, ...counts, refused, mark: markOf(core, seq) };
}

function addImported(core: Core, seq: number, end: number, entry: ImportedEntry): EntryRow {
  const { serial, not_before, not_after, names, subject } = entry;
  return addEntry(core, {
    serial,
    request_id: `imported|${serial}`,
    kind: "imported",
    certificate_id: "",
    not_before: not_before === null ? 0 : Date.parse(not_before),
    not_after: not_after === null ? end : Date.parse(not_after),
    settle: names.length > 0 || subject !== null ? JSON.stringify({ names, subject }) : "{}",
    seq,
    tagged: hasTag(serial, serialKey(core)) ? 1 : 0,
  });
}

/** The first revocation date stands, as for certificates issued here. Returns whether the entry changed. */
function takeRevocation(core: Core, seq: number, row: EntryRow, revoked: ImportedEntry["revoked"]): boolean {
  if (revoked === null) return false;
  const reason = REVOCATION_REASONS[revoked.reason];
  if (!mayBecome(row, reason, true)) return false;
  const revoked_at = row.revoked_at ?? wholeSecond(Date.parse(revoked.at));
  setStatus(core, row, { revoked_at, reason }, row.not_after >= nowOf(core));
  core.sql.exec("update entries set seq = ? where cursor = ?", seq, row.cursor);
  return true;
}

/** Revokes by serial, including an unknown one that this CA may have issued. */
export async function revokeSerial(
  core: Core,
  serial: string,
  reason: RevocationReason | null,
): Promise<SerialRevoked> {
  const ca = certifiedCa(core);
  const row = entryOf(core, serial);
  if (row ? row.state !== 1 : !mayHaveIssued(core, serial)) refuse("not_issued", "this CA never issued it");
  if (row?.kind === "ca")
    refuse("out_of_bounds", `serial_number: is that of the CA ${row.certificate_id}: retire it with a reason`);
  if (row?.kind === "responder") refuse("out_of_bounds", "serial_number: is that of this CA's OCSP responder");
  if (!row) addImported(core, nextSeq(core), ca.not_after, { ...UNKNOWN, serial });
  const [entry] = revoke(core, [serial], reason).entries;
  if (!entry) throw new Error(`nothing was revoked for serial ${serial}`);
  const { revoked_at: at, reason: standing } = entry;
  if (entry.changed && row?.kind !== "leaf" && at !== null && standing !== null)
    await keep(core, ca.ledger_id, entry.mark.seq, [{ ...UNKNOWN, serial, revoked: { at, reason: standing } }]);
  const told: Partial<Pick<ImportedEntry, "names" | "subject">> =
    row?.kind === "imported" ? JSON.parse(row.settle) : {};
  return { ok: true, entry, names: told.names ?? [], subject: told.subject ?? null };
}

const UNKNOWN = { not_before: null, not_after: null, names: [], subject: null, revoked: null };

/** Whether this CA may have issued an unknown serial: it was imported, or the serial carries its tag. */
function mayHaveIssued(core: Core, serial: string): boolean {
  return numberOf(core.sql, "select imports from serial_key") === 1 || hasTag(serial, serialKey(core));
}

/** A CRL's entries as a list. removeFromCRL means not revoked; a revocation in the future counts from now. */
export function entriesOfCrl({ entries }: ForeignCrl, now: number): ImportedEntry[] {
  return entries
    .filter(({ reason }) => reason !== REMOVE_FROM_CRL)
    .map(({ serial, revokedAt, reason }) => ({
      ...UNKNOWN,
      serial,
      revoked: { at: iso(Math.min(revokedAt.getTime(), now)), reason: reasonName(reason) },
    }));
}

const REMOVE_FROM_CRL = 8;
