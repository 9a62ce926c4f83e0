import { DurableObject } from "cloudflare:workers";
import type * as wire from "../src/authority/ledger.ts";
import type { Bytes } from "../src/pki/bytes.ts";
import type { Clock, Random } from "../src/platform/context.ts";
import { doWhatIsDue, setAlarm } from "./issuer/alarm.ts";
import { configure, createRoot, createSubordinate, describe, importCa, install, retire } from "./issuer/ca.ts";
import { type Core, makeCore, Refused, refusing, single } from "./issuer/core.ts";
import { crlStates } from "./issuer/crl.ts";
import { end } from "./issuer/end.ts";
import { acknowledge, listEntries } from "./issuer/entries.ts";
import { importEntries, revokeSerial } from "./issuer/imports.ts";
import { issueCa, issueLeaf } from "./issuer/issue.ts";
import { handOverAgain, unsettled, waiting } from "./issuer/outbox.ts";
import { responder } from "./issuer/responder.ts";
import { compare, isWhole, mustBeWhole } from "./issuer/restore.ts";
import { lookup, release, revoke } from "./issuer/revocation.ts";
import { serials } from "./issuer/serials.ts";
import { migrate } from "./issuer/storage.ts";

type Answer<T> = Promise<T | wire.Refusal>;

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
 *   again ever more seldom (issuer/alarm.ts).
 * - Restore: before its first answer the object compares its mark with the inventory's; see issuer/restore.ts.
 * Tables: issuer/storage.ts. Keys are sealed at rest; unsealed they live in this object's memory, not extractable.
 */
export class Issuer extends DurableObject<Readonly<Record<string, unknown>>> implements wire.Ledger {
  /** Not reachable by RPC: an own property, no method. */
  readonly core: Core;

  constructor(state: DurableObjectState, env: Readonly<Record<string, unknown>>) {
    super(state, env);
    this.core = makeCore(state, env);
    state.blockConcurrencyWhile(async () => {
      migrate(state.storage);
      this.core.alarmAt = await state.storage.getAlarm();
      // The platform gives an alarm up that failed six times: who comes next sets it again.
      setAlarm(this.core);
    });
  }

  /** Tests stand the clock where they want it. */
  set clock(clock: Clock) {
    this.core.clock = clock;
  }

  set random(random: Random) {
    this.core.random = random;
  }

  async describe(): Promise<wire.CaDescription | null> {
    return describe(this.core);
  }

  createRoot(request: wire.CreateRoot): Answer<wire.CaDescription> {
    return answer(() => createRoot(this.core, request));
  }

  importCa(request: wire.ImportCa): Answer<wire.CaDescription> {
    return answer(() => importCa(this.core, request));
  }

  importEntries(entries: readonly wire.ImportedEntry[]): Answer<wire.ImportOutcome> {
    return this.#whole(() => importEntries(this.core, entries));
  }

  createSubordinate(request: wire.CreateSubordinate): Answer<wire.CaDescription> {
    return answer(() => createSubordinate(this.core, request));
  }

  install(chain: readonly Bytes[], options: { readonly force?: boolean } = {}): Answer<wire.CaDescription> {
    return answer(() => install(this.core, chain, options.force ?? false));
  }

  configure(settings: { readonly crl_shards: number }): Answer<wire.CaDescription> {
    return answer(() => configure(this.core, settings));
  }

  retire(to: "retiring" | "retired"): Answer<wire.CaDescription> {
    return answer(() => retire(this.core, to));
  }

  issue(requests: readonly wire.IssueRequest[]): Promise<wire.IssueResult[]> {
    return Promise.all(requests.map((request) => this.#issue(request, () => issueLeaf(this.core, request))));
  }

  issueCa(request: wire.IssueCaRequest): Promise<wire.IssueResult> {
    return this.#issue(request, () => issueCa(this.core, request));
  }

  async acknowledge(facts: readonly wire.Fact[]): Promise<void> {
    acknowledge(this.core, facts);
  }

  async handOverAgain(requestIds: readonly string[]): Promise<void> {
    handOverAgain(this.core, requestIds);
  }

  attune(): Answer<{ ok: true; waiting: number }> {
    return this.#whole(async () => {
      await compare(this.core);
      return { ok: true, waiting: waiting(this.core) };
    });
  }

  lookup(serials: readonly string[]): Answer<wire.SerialStatus[]> {
    return this.#whole(() => lookup(this.core, serials));
  }

  revoke(serials: readonly string[], reason: wire.RevocationReason | null): Promise<wire.RevokeResult> {
    return this.#whole(() => revoke(this.core, serials, reason));
  }

  revokeSerial(serial: string, reason: wire.RevocationReason | null): Answer<wire.SerialRevoked> {
    return this.#whole(() => revokeSerial(this.core, serial, reason));
  }

  release(serials: readonly string[]): Promise<wire.RevokeResult> {
    return this.#whole(() => release(this.core, serials));
  }

  unsettled(certificateId: string): Answer<string[]> {
    return this.#whole(() => unsettled(this.core, certificateId));
  }

  responder(): Answer<wire.ResponderMaterial> {
    return answer(() => responder(this.core));
  }

  async serials(have: number | null): Promise<wire.SerialKnowledge> {
    return serials(this.core, have, await isWhole(this.core));
  }

  async crls(): Promise<wire.CrlState[]> {
    return crlStates(this.core);
  }

  end(): Answer<wire.LedgerEnd> {
    return answer(() => end(this.core));
  }

  async entries(cursor: number, limit: number): Promise<wire.LedgerEntry[]> {
    return listEntries(this.core, cursor, limit);
  }

  override async alarm(): Promise<void> {
    const { core } = this;
    core.alarmAt = null;
    if (!core.ended) await single(core, "alarm", () => doWhatIsDue(core));
  }

  /** For everything that depends on what was signed and revoked: refused while this ledger takes back what it lacks. */
  #whole<T>(work: () => T | Promise<T>): Answer<T> {
    return answer(async () => {
      await mustBeWhole(this.core);
      return work();
    });
  }

  async #issue(request: { request_id: string }, work: () => Promise<wire.Issued>): Promise<wire.IssueResult> {
    const result = await this.#whole(() => refusing("out_of_bounds", work));
    return result.ok ? result : { ...result, request_id: request.request_id };
  }
}

/** Refusals are thrown inside, and answered here. */
async function answer<T>(work: () => T | Promise<T>): Answer<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return { ok: false, code: error.code, message: error.message };
  }
}
