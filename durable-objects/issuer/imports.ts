import {
  type ImportedEntry,
  type ImportOutcome,
  importPrefix,
  REVOCATION_REASONS,
  type Refusal,
  type RevocationReason,
  type SerialRevoked,
  wholeSecond,
} from "../../src/authority/ledger.ts";
import { type Bytes, equal } from "../../src/pki/bytes.ts";
import { type Certificate, hasTag } from "../../src/pki/certificate.ts";
import { CrlError, type ForeignCrl, parseForeignCrl } from "../../src/pki/crl.ts";
import { verify } from "../../src/pki/keys.ts";
import { randomId } from "../../src/platform/ids.ts";
import { type Core, caOf, nowOf, refuse } from "./core.ts";
import { markOf, nextSeq } from "./mark.ts";
import { addCrlEntry, dropCrlEntry, markDirty, mayBecome, revoke } from "./revocation.ts";
import { serialKey } from "./serials.ts";
import { type EntryRow, iso, reasonName } from "./storage.ts";

/**
 * What a CA that was brought in had issued and revoked before it came here. Such serials carry no tag of ours, so from the
 * first of them on this ledger's serials are told by the filter too (issuer/serials.ts). No inventory knows them: each batch
 * also lies in R2, named by its number (issuer/mark.ts), and comes back from there when this ledger was restored to an earlier
 * state.
 */

/** Takes a batch over, in one step. May be repeated: what is known stays, but that a good one may be revoked now. */
export async function importEntries(core: Core, entries: readonly ImportedEntry[]): Promise<ImportOutcome | Refusal> {
  const ca = caOf(core);
  if (!ca || ca.state === "awaiting_certificate") return refuse("ca_absent", "this CA has no certificate yet");
  const outcome = core.storage.transactionSync(() => takeEntries(core, ca.not_after, entries));
  await keep(core, ca.ledger_id, outcome.mark.seq, entries);
  return outcome;
}

/** Before a batch is answered. Two batches never share a name, whatever was restored. */
async function keep(core: Core, ledgerId: string, seq: number, entries: readonly ImportedEntry[]): Promise<void> {
  const name = `${String(seq).padStart(SEQ_DIGITS, "0")}-${randomId(core.random, "")}`;
  await core.bytes.put(`${importPrefix(ledgerId)}${name}.json`, JSON.stringify(entries));
}

const SEQ_DIGITS = 16;

/** The batches after `seq`, in their order; may be repeated. */
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

/** The same inside a transaction of the caller's. `end`: when the CA ends, and with it what has no end of its own. */
export function takeEntries(core: Core, end: number, entries: readonly ImportedEntry[]): ImportOutcome {
  core.sql.exec("update serial_key set imports = 1");
  const seq = nextSeq(core);
  const counts = { added: 0, revoked: 0, known: 0 };
  const refused: { index: number; message: string }[] = [];
  let listed = false;
  entries.forEach((entry, index) => {
    const row = core.sql.exec<EntryRow>("select * from entries where serial = ?", entry.serial).toArray()[0];
    const outcome = row ? update(core, seq, row, entry) : insert(core, seq, end, entry);
    if (outcome === "foreign")
      refused.push({ index, message: `serial ${entry.serial} was issued here: revoke it here` });
    else counts[outcome]++;
    listed ||= outcome === "revoked" || (outcome === "added" && entry.revoked !== null);
  });
  if (listed) markDirty(core, new Set([0]), nowOf(core));
  return { ok: true, ...counts, refused, mark: markOf(core, seq) };
}

function insert(core: Core, seq: number, end: number, entry: ImportedEntry): "added" {
  const { serial, revoked, names, subject } = entry;
  const row = {
    serial,
    shard: 0,
    not_after: entry.not_after === null ? end : Date.parse(entry.not_after),
    revoked_at: revoked && wholeSecond(Date.parse(revoked.at)),
    reason: revoked && REVOCATION_REASONS[revoked.reason],
  };
  core.sql.exec(
    `insert into entries (serial, request_id, digest, kind, certificate_id, state, shard, not_before, not_after, created_at,
       spki_sha256, settle, seq, acknowledged, tagged, revoked_at, reason)
     values (?, ?, '', 'imported', '', 1, 0, ?, ?, ?, '', ?, ?, 1, ?, ?, ?)`,
    serial,
    `imported|${serial}`,
    entry.not_before === null ? 0 : Date.parse(entry.not_before),
    row.not_after,
    nowOf(core),
    names.length > 0 || subject !== null ? JSON.stringify({ names, subject }) : "{}",
    seq,
    hasTag(serial, serialKey(core)) ? 1 : 0,
    row.revoked_at,
    row.reason,
  );
  if (revoked && row.not_after >= nowOf(core)) addCrlEntry(core, row);
  return "added";
}

/** The first revocation date stands, as it does for what was issued here. */
function update(core: Core, seq: number, row: EntryRow, { revoked }: ImportedEntry): "revoked" | "known" | "foreign" {
  if (revoked === null) return "known";
  if (row.kind !== "imported") return "foreign";
  const reason = REVOCATION_REASONS[revoked.reason];
  if (!mayBecome(row, reason, true)) return "known";
  const revoked_at = row.revoked_at ?? wholeSecond(Date.parse(revoked.at));
  if (row.revoked_at !== null) dropCrlEntry(core, row);
  core.sql.exec(
    "update entries set revoked_at = ?, reason = ?, seq = ? where cursor = ?",
    revoked_at,
    reason,
    seq,
    row.cursor,
  );
  if (row.not_after >= nowOf(core)) addCrlEntry(core, { ...row, revoked_at, reason });
  return "revoked";
}

/** Revokes by serial, one that is not known here too where this CA may have issued it. */
export async function revokeSerial(
  core: Core,
  serial: string,
  reason: RevocationReason | null,
): Promise<SerialRevoked | Refusal> {
  const ca = caOf(core);
  if (!ca || ca.state === "awaiting_certificate") return refuse("ca_absent", "this CA has no certificate yet");
  const row = core.sql.exec<EntryRow>("select * from entries where serial = ?", serial).toArray()[0];
  if (row && row.state !== 1) return refuse("not_issued", "this CA never issued it");
  if (row?.kind === "ca")
    return refuse("out_of_bounds", `serial_number: is that of the CA ${row.certificate_id}: retire it with a reason`);
  if (row?.kind === "responder") return refuse("out_of_bounds", "serial_number: is that of this CA's OCSP responder");
  if (!row) {
    if (!mayHaveIssued(core, serial)) return refuse("not_issued", "this CA never issued it");
    insert(core, nextSeq(core), ca.not_after, { ...UNKNOWN, serial });
  }
  const result = revoke(core, { target: { serials: [serial] }, reason });
  if (!result.ok) return result;
  const [entry] = result.entries;
  if (!entry) throw new Error(`nothing was revoked for serial ${serial}`);
  const { revoked_at, reason: standing } = entry;
  if (entry.changed && row?.kind !== "leaf" && revoked_at !== null && standing !== null) {
    const revoked = { at: revoked_at, reason: standing };
    await keep(core, ca.ledger_id, entry.mark.seq, [{ ...UNKNOWN, serial, revoked }]);
  }
  const told: Partial<About> = row?.kind === "imported" ? JSON.parse(row.settle) : {};
  return { ok: true, entry, names: told.names ?? [], subject: told.subject ?? null };
}

const UNKNOWN = { not_before: null, not_after: null, names: [], subject: null, revoked: null };

type About = Pick<ImportedEntry, "names" | "subject">;

/** Whether a serial that this ledger does not know may be of this CA: it had a life before this ledger, or the tag says so. */
function mayHaveIssued(core: Core, serial: string): boolean {
  const { imports } = core.sql.exec<{ imports: number }>("select imports from serial_key").one();
  return imports === 1 || hasTag(serial, serialKey(core));
}

/** The last CRL of the CA that is brought in, its signature checked; throws PkiError. */
export async function readOldCrl(own: Certificate, der: Bytes): Promise<ForeignCrl> {
  const crl = parseForeignCrl(der);
  if (!equal(crl.issuer, own.subject.der)) throw new CrlError("is of another CA: its issuer is not this CA's subject");
  if (!(await verify(own.publicKey, crl.algorithmIdentifier, crl.signature, crl.tbs)))
    throw new CrlError("its signature is not by this CA's key");
  return crl;
}

/** What a CRL says, in the form of a list. removeFromCRL says that nothing is revoked; what lies ahead is revoked from now on. */
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
