import { REVOCATION_REASONS } from "../../src/authority/ledger.ts";
import type { InventoryFact } from "../../src/authority/ledger-inventory.ts";
import { sha256Hex } from "../../src/pki/bytes.ts";
import { hasTag, parseCertificate } from "../../src/pki/certificate.ts";
import { describeError } from "../../src/platform/log.ts";
import { describe, install, retire } from "./ca.ts";
import { type Core, caOf, ledgerIdOf, nowOf, refuse, single, wakeAt } from "./core.ts";
import { addEntry, type EntryRow, entryOf, markRow } from "./entries.ts";
import { attempt, FIRST_RETRY_MS, retryAt } from "./failures.ts";
import { takeImportsBack } from "./imports.ts";
import { markDirty, shardOfUrls } from "./lists.ts";
import { handOverSince, waiting } from "./outbox.ts";
import { setStatus } from "./revocation.ts";
import { completeSerialKey, serialKey } from "./serials.ts";
import { first, numberOf } from "./storage.ts";

/**
 * Detects a restore to an earlier state before this ledger answers anything. On its first call the object compares its
 * mark with the inventory's. If the inventory has heard of more than the ledger knows, the ledger is the older one and
 * takes back what it lacks (certificates signed, with serial, dates and octets; revocations) before it signs, revokes,
 * answers or publishes again. If the inventory has heard of less than it once acknowledged, the outbox hands over what
 * the inventory lacks. What neither side has is gone: no caller ever got an answer about it.
 */

/** Serials in one request for certificates. */
const CERTIFICATES_AT_ONCE = 50;
/** Facts may be recorded out of order: this many below the inventory's mark are handed over again. */
const OVERLAP = 1_000;

/** Whether this ledger knows everything that its inventory has heard of. */
export async function isWhole(core: Core): Promise<boolean> {
  if (!core.whole && !core.running.has("restoring")) await single(core, "comparing", () => compare(core));
  return core.whole;
}

/** For every operation that depends on it. */
export async function mustBeWhole(core: Core): Promise<void> {
  if (await isWhole(core)) return;
  refuse("recovering", "this CA was restored to an earlier state and takes back what it lacks: ask again");
}

/** Compares the marks again and hands over what the inventory lacks. */
export async function attune(core: Core): Promise<{ ok: true; waiting: number }> {
  await compare(core);
  return { ok: true, waiting: waiting(core) };
}

/** Compares the marks. Never throws: a failed comparison is repeated with the next call. */
export async function compare(core: Core): Promise<void> {
  core.compared = false;
  const compared = await attempt(core, "inventory", async () => {
    const heard = await core.inventory.heard(ledgerIdOf(core));
    const { seq, known } = markRow(core);
    if (heard > seq) {
      core.log.error("ledger.behind", { seq, heard });
      begin(core, heard);
      return;
    }
    // Even if the inventory lacks facts, the ledger is the truth and may answer.
    core.whole = true;
    if (heard < known) {
      core.log.error("ledger.inventory_behind", { known, heard });
      await bringCa(core);
      await tellUntagged(core);
      handOverSince(core, Math.max(0, heard - OVERLAP));
      core.sql.exec("update mark set known = ?", heard);
    }
    core.compared = true;
  });
  if (!compared) wakeAt(core, retryAt(core, "inventory") ?? nowOf(core));
}

/** Restores the CA's own rows first. A CA given up before it signed a leaf stays unknown. */
async function bringCa(core: Core): Promise<void> {
  const ca = describe(core);
  if (ca === null || (ca.state === "retired" && !first(core.sql, "select 1 from entries where kind = 'leaf' limit 1")))
    return;
  if ((await core.inventory.ca(ca.ledger_id)) === null) await core.inventory.restoreCa(ca.ledger_id, ca);
}

/** If serials may lack the tag of the present key, the ledger must be asked: the inventory's key would reject them. */
async function tellUntagged(core: Core): Promise<void> {
  if (completeSerialKey(core) === null) await core.inventory.untagged(ledgerIdOf(core));
}

/** Takes back in the background; the alarm continues it without further calls. */
function begin(core: Core, heard: number): void {
  const log = (error: unknown) => core.log.error("ledger.restore_failed", { error: describeError(error) });
  void single(core, "restoring", () => takeBack(core, heard).catch(log));
  wakeAt(core, nowOf(core) + FIRST_RETRY_MS);
}

/** Idempotent: existing entries stay as they are. */
async function takeBack(core: Core, heard: number): Promise<void> {
  const ca = caOf(core);
  if (!ca) throw new Error("there is no CA here although the inventory knows one: its key is lost");
  const { ledger_id } = ca;
  await core.inventory.restoring(ledger_id);
  await takeState(core, ledger_id);
  await takeImportsBack(core, markRow(core).seq);
  let added = 0;
  let revised = 0;
  for (let after: string | null = ""; after !== null; ) {
    const page = await core.inventory.facts(ledger_id, after);
    const missing: InventoryFact[] = [];
    core.storage.transactionSync(() => {
      for (const fact of page.facts) {
        const row = entryOf(core, fact.serial);
        if (row?.state !== 1) missing.push(fact);
        else if (revise(core, row, fact, heard)) revised++;
      }
    });
    for (let i = 0; i < missing.length; i += CERTIFICATES_AT_ONCE)
      added += await takeCertificates(core, missing.slice(i, i + CERTIFICATES_AT_ONCE), heard);
    after = page.next;
  }
  core.sql.exec("update mark set seq = max(seq, ?), known = max(known, ?)", heard, heard);
  await tellUntagged(core);
  await core.inventory.restored(ledger_id, { added, revised });
  core.log.warn("ledger.restored", { added, revised });
  core.whole = true;
  core.compared = true;
  wakeAt(core, nowOf(core));
}

/** Takes back the state of the CA itself: its certificate, its retirement. */
async function takeState(core: Core, ledgerId: string): Promise<void> {
  const ca = await core.inventory.ca(ledgerId);
  if (!ca) return;
  if (caOf(core)?.state === "awaiting_certificate" && ca.chain.length > 0)
    await install(core, ca.chain, { force: true });
  if (ca.state === "retiring" && caOf(core)?.state === "active") retire(core, "retiring");
  if (ca.state === "retired" && caOf(core)?.state !== "retired") retire(core, "retired");
}

/**
 * Brings an entry to what the inventory recorded; returns whether it changed. Changes that the inventory has not heard
 * of stay. The fact's own number is lost: `heard` is the highest it can have had.
 */
function revise(core: Core, row: EntryRow, fact: InventoryFact, heard: number): boolean {
  const revoked_at = fact.revoked_at === null ? null : Date.parse(fact.revoked_at);
  const reason = fact.reason === null ? null : REVOCATION_REASONS[fact.reason];
  if (row.revoked_at === revoked_at && row.reason === reason) return false;
  // Only a hold is ever lifted, and the ledger decides about facts that the inventory never heard of.
  const lifted = revoked_at === null && row.reason === REVOCATION_REASONS.certificateHold;
  if (row.acknowledged === 0 || (revoked_at === null && !lifted)) return false;
  setStatus(core, row, { revoked_at, reason });
  core.sql.exec("update entries set seq = ? where cursor = ?", heard, row.cursor);
  markDirty(core, new Set([row.shard]));
  return true;
}

/** Restores entries that this ledger lost, or had reserved but not signed, with the octets that were signed. */
async function takeCertificates(core: Core, facts: readonly InventoryFact[], heard: number): Promise<number> {
  const bySerial = new Map(facts.map((fact) => [fact.serial, fact]));
  const certificates = await core.inventory.certificates(ledgerIdOf(core), [...bySerial.keys()]);
  const prepared = await Promise.all(
    certificates.map(async (found) => {
      const parsed = parseCertificate(found.der);
      return { found, parsed, spki_sha256: await sha256Hex(parsed.publicKey.spki) };
    }),
  );
  core.storage.transactionSync(() => {
    for (const { found, parsed, spki_sha256 } of prepared) {
      const { serial, request_id, kind, certificate_id, der } = found;
      const fact = bySerial.get(serial);
      if (!fact || entryOf(core, serial)?.state === 1) continue;
      // A reservation of the same serial is this certificate; the signature already published counts.
      core.sql.exec("delete from entries where serial = ? and state <> 1", serial);
      const taken = numberOf(core.sql, "select count(*) from entries where request_id = ?", request_id);
      const row = addEntry(core, {
        serial,
        request_id: request_id === null || taken > 0 ? `restored|${serial}` : request_id,
        kind,
        certificate_id,
        shard: shardOfUrls(core, parsed.crlUrls),
        not_before: parsed.notBefore.getTime(),
        not_after: parsed.notAfter.getTime(),
        created_at: Date.parse(found.issued_at),
        spki_sha256,
        der,
        settle: JSON.stringify(found.settle),
        seq: heard,
        tagged: hasTag(serial, serialKey(core)) ? 1 : 0,
      });
      revise(core, row, fact, heard);
    }
  });
  return prepared.length;
}
