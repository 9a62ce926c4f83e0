import { DurableObject } from "cloudflare:workers";
import type {
  CaDescription,
  CreateRoot,
  CreateSubordinate,
  CrlState,
  Fact,
  ImportCa,
  ImportedEntry,
  ImportOutcome,
  IssueCaRequest,
  IssueRequest,
  IssueResult,
  Ledger,
  LedgerEnd,
  LedgerEntry,
  Refusal,
  ResponderMaterial,
  RevocationReason,
  RevocationTarget,
  RevokeRequest,
  RevokeResult,
  SerialKnowledge,
  SerialRevoked,
  SerialStatus,
} from "../src/authority/ledger.ts";
import type { Bytes } from "../src/pki/bytes.ts";
import type { Clock, Random } from "../src/platform/context.ts";
import { configure, createRoot, createSubordinate, describe, importCa, install, retire } from "./issuer/ca.ts";
import { type Core, makeCore, nowOf, wakeAt } from "./issuer/core.ts";
import { crlStates, nextCrlDue, publishDue } from "./issuer/crl.ts";
import { end } from "./issuer/end.ts";
import { failed, reportProblems, retryAt, succeeded } from "./issuer/failures.ts";
import { importEntries, revokeSerial } from "./issuer/imports.ts";
import { issue, issueCa } from "./issuer/issue.ts";
import { acknowledge, markRow } from "./issuer/mark.ts";
import { handOverAgain, nextSettleDue, settleDue, waiting } from "./issuer/outbox.ts";
import { nextResponderDue, renewResponder, responder } from "./issuer/responder.ts";
import { attuned, compare } from "./issuer/restore.ts";
import { lookup, release, revoke } from "./issuer/revocation.ts";
import { serials } from "./issuer/serials.ts";
import { type EntryRow, iso, migrate, reasonName } from "./issuer/storage.ts";

/**
 * The ledger of one CA: the only place that signs for it, and the truth about what it signed and revoked.
 *
 * Protocol
 * - Issue: one synchronous step finds the request id again or reserves a random serial with the octets to be signed; then a
 *   throw-away-signed copy is linted, the octets are signed, the certificate is recorded. One request id, one certificate.
 * - Revoke: one synchronous step changes the status, the entry of the next list and the alarm. The next lookup is right.
 * - List: the number is durable before anything is signed; see issuer/crl.ts.
 * - Whatever a method answers waits for its writes (the output gate of Durable Objects): nothing leaves before it is durable.
 * - One alarm does what is due: lists, the OCSP responder, the outbox to the inventory. It never gives up: what fails is due
 *   again ever more seldom (issuer/failures.ts).
 * - Restore: before its first answer the object compares its mark with the inventory's; see issuer/restore.ts.
 * Tables: issuer/storage.ts. Keys are sealed at rest; unsealed they live in this object's memory, not extractable.
 */
export class Issuer extends DurableObject<Readonly<Record<string, unknown>>> implements Ledger {
  /** Not reachable by RPC: an own property, no method. */
  readonly core: Core;

  constructor(state: DurableObjectState, env: Readonly<Record<string, unknown>>) {
    super(state, env);
    this.core = makeCore(state, env);
    state.blockConcurrencyWhile(async () => {
      migrate(state.storage);
      this.core.alarmAt = await state.storage.getAlarm();
      // The platform gives an alarm up that failed six times: who comes next sets it again.
      const due = this.#nextDue();
      if (due !== null) wakeAt(this.core, due);
    });
  }

  /** Tests stand the clock where they want it. */
  set clock(clock: Clock) {
    this.core.clock = clock;
  }

  set random(random: Random) {
    this.core.random = random;
  }

  async describe(): Promise<CaDescription | null> {
    return describe(this.core);
  }

  createRoot(request: CreateRoot): Promise<CaDescription | Refusal> {
    return createRoot(this.core, request);
  }

  importCa(request: ImportCa): Promise<CaDescription | Refusal> {
    return importCa(this.core, request);
  }

  async importEntries(entries: readonly ImportedEntry[]): Promise<ImportOutcome | Refusal> {
    return (await attuned(this.core)) ?? importEntries(this.core, entries);
  }

  async revokeSerial(serial: string, reason: RevocationReason | null): Promise<SerialRevoked | Refusal> {
    return (await attuned(this.core)) ?? revokeSerial(this.core, serial, reason);
  }

  createSubordinate(request: CreateSubordinate): Promise<CaDescription | Refusal> {
    return createSubordinate(this.core, request);
  }

  install(chain: readonly Bytes[], options: { readonly force?: boolean } = {}): Promise<CaDescription | Refusal> {
    return install(this.core, chain, options.force ?? false);
  }

  async configure(settings: { readonly crl_shards: number }): Promise<CaDescription | Refusal> {
    return configure(this.core, settings);
  }

  async retire(to: "retiring" | "retired"): Promise<CaDescription | Refusal> {
    return retire(this.core, to);
  }

  async issue(requests: readonly IssueRequest[]): Promise<IssueResult[]> {
    const not = await attuned(this.core);
    if (not) return requests.map(({ request_id }) => ({ ...not, request_id }));
    return issue(this.core, requests);
  }

  async issueCa(request: IssueCaRequest): Promise<IssueResult> {
    const not = await attuned(this.core);
    if (not) return { ...not, request_id: request.request_id };
    return issueCa(this.core, request);
  }

  async acknowledge(facts: readonly Fact[]): Promise<void> {
    acknowledge(this.core, facts);
  }

  async handOverAgain(requestIds: readonly string[]): Promise<void> {
    handOverAgain(this.core, requestIds);
  }

  async attune(): Promise<{ ok: true; waiting: number } | Refusal> {
    const not = await attuned(this.core);
    if (not) return not;
    await compare(this.core);
    return { ok: true, waiting: waiting(this.core) };
  }

  async lookup(serials: readonly string[]): Promise<SerialStatus[] | Refusal> {
    return (await attuned(this.core)) ?? lookup(this.core, serials);
  }

  async revoke(request: RevokeRequest): Promise<RevokeResult> {
    return (await attuned(this.core)) ?? revoke(this.core, request);
  }

  async release(target: RevocationTarget): Promise<RevokeResult> {
    return (await attuned(this.core)) ?? release(this.core, target);
  }

  responder(): Promise<ResponderMaterial | Refusal> {
    return responder(this.core);
  }

  async serials(have: number | null): Promise<SerialKnowledge> {
    return serials(this.core, (await attuned(this.core)) ? "incomplete" : have);
  }

  async crls(): Promise<CrlState[]> {
    return crlStates(this.core);
  }

  end(): Promise<LedgerEnd | Refusal> {
    return end(this.core);
  }

  async entries(cursor: number, limit: number): Promise<LedgerEntry[]> {
    const { known } = markRow(this.core);
    return this.core.sql
      .exec<EntryRow>(
        "select * from entries where state = 1 and cursor > ? order by cursor limit ?",
        cursor,
        Math.min(limit, 1000),
      )
      .toArray()
      .map((row) => ({
        cursor: row.cursor,
        serial: row.serial,
        request_id: row.request_id,
        certificate_id: row.certificate_id,
        kind: row.kind,
        not_after: iso(row.not_after),
        spki_sha256: row.spki_sha256,
        mark: { seq: row.seq, known },
        acknowledged: row.acknowledged === 1,
        revoked_at: row.revoked_at === null ? null : iso(row.revoked_at),
        reason: row.reason === null ? null : reasonName(row.reason),
      }));
  }

  /** When the next list, responder or settlement is due, Unix milliseconds; null when nothing is. */
  #nextDue(): number | null {
    const due = [nextCrlDue(this.core), this.#responderDue(), nextSettleDue(this.core)].filter((at) => at !== null);
    return due.length === 0 ? null : Math.min(...due);
  }

  /** For the alarm: whoever needs a responder at once does not wait for this. */
  #responderDue(): number | null {
    const due = nextResponderDue(this.core);
    return due === null ? null : Math.max(due, retryAt(this.core, "ocsp_responder") ?? 0);
  }

  override async alarm(): Promise<void> {
    const { core } = this;
    core.alarmAt = null;
    if (core.ended) return;
    core.ringing = this.#doWhatIsDue();
    await core.ringing;
  }

  async #doWhatIsDue(): Promise<void> {
    const { core } = this;
    await this.#renewResponder();
    if ((await attuned(core)) === null) {
      if (!core.compared) await compare(core);
      await publishDue(core);
      await settleDue(core);
    } else await core.restoring;
    await reportProblems(core);
    const due = this.#nextDue();
    // Before it is whole again, this ledger does nothing of what is due.
    const wait = core.whole ? 0 : (retryAt(core, "inventory") ?? nowOf(core) + RESTORE_RETRY_MS);
    if (due !== null) wakeAt(core, Math.max(due, wait));
  }

  async #renewResponder(): Promise<void> {
    const { core } = this;
    if ((this.#responderDue() ?? 0) > nowOf(core)) return;
    try {
      await renewResponder(core);
      if (core.responderRefused) throw new Error(core.responderRefused.refusal.message);
      succeeded(core, "ocsp_responder");
    } catch (error) {
      failed(core, "ocsp_responder", error);
    }
  }
}

const RESTORE_RETRY_MS = 5_000;
