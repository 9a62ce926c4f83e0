import { DurableObject } from "cloudflare:workers";
import type * as wire from "../src/authority/ledger.ts";
import type { Clock, Random } from "../src/platform/context.ts";
import { doWhatIsDue, setAlarm } from "./issuer/alarm.ts";
import { configure, createRoot, createSubordinate, describe, importCa, install, retire } from "./issuer/ca.ts";
import { type Core, makeCore, Refused, refusing, single } from "./issuer/core.ts";
import { crls } from "./issuer/crl.ts";
import { end } from "./issuer/end.ts";
import { acknowledge, entries } from "./issuer/entries.ts";
import { importEntries, revokeSerial } from "./issuer/imports.ts";
import { issueCa, issueLeaf } from "./issuer/issue.ts";
import { handOverAgain, unsettled } from "./issuer/outbox.ts";
import { responder } from "./issuer/responder.ts";
import { attune, isWhole, mustBeWhole } from "./issuer/restore.ts";
import { release, revoke, status } from "./issuer/revocation.ts";
import { serials } from "./issuer/serials.ts";
import { migrate } from "./issuer/storage.ts";

type Env = Readonly<Record<string, unknown>>;
type Answered<K extends keyof wire.Ledger> = Exclude<Awaited<ReturnType<wire.Ledger[K]>>, wire.Refusal>;
/** The implementations of the ledger's methods: they throw what the method returns as a refusal. */
type Calls = {
  [K in keyof wire.Ledger]?: (core: Core, ...of: Parameters<wire.Ledger[K]>) => Answered<K> | Promise<Answered<K>>;
};

const ALWAYS = {
  ...{ describe, createRoot, importCa, createSubordinate, install, configure, retire, end },
  ...{ acknowledge, handOverAgain, entries, responder, crls },
} satisfies Calls;

/** Depend on everything signed and revoked: refused while this ledger takes back what it lacks. */
const WHEN_WHOLE = { importEntries, status, revoke, revokeSerial, release, unsettled, attune } satisfies Calls;

/** A base class with those methods; their implementations are put on its prototype below the class. */
const LedgerObject = DurableObject as unknown as new (
  state: DurableObjectState,
  env: Env,
) => DurableObject<Env> & Pick<wire.Ledger, keyof typeof ALWAYS | keyof typeof WHEN_WHOLE>;

/**
 * The ledger of one CA: the only place that signs for it, and the truth about what it signed and revoked.
 *
 * Protocol
 * - Issue: one synchronous step finds the request id or reserves a random serial with the octets to be signed; then a
 *   throw-away-signed copy is linted, the octets are signed, the certificate is recorded. One request id, one
 *   certificate.
 * - Revoke: one synchronous step changes the status, the entry of the next list and the alarm. The next lookup is
 *   right.
 * - List: the number is durable before anything is signed; see issuer/crl.ts.
 * - A method's result waits for its writes (the output gate of Durable Objects): nothing leaves before it is durable.
 * - One alarm does what is due: lists, the OCSP responder, the outbox to the inventory. It never gives up: failed tasks
 *   are retried with growing delays (issuer/alarm.ts).
 * - Restore: before its first answer the object compares its mark with the inventory's; see issuer/restore.ts.
 *
 * Tables: issuer/storage.ts. Keys are sealed at rest; unsealed they are only in this object's memory, not extractable.
 */
export class Issuer extends LedgerObject implements wire.Ledger {
  /** An own property, not a method, so RPC cannot reach it. */
  readonly core: Core;

  constructor(state: DurableObjectState, env: Env) {
    super(state, env);
    this.core = makeCore(state, env);
    state.blockConcurrencyWhile(async () => {
      migrate(state.storage);
      this.core.alarmAt = await state.storage.getAlarm();
      // The platform drops an alarm after six failures: the next call sets it again.
      setAlarm(this.core);
    });
  }

  /** For tests. */
  set clock(clock: Clock) {
    this.core.clock = clock;
  }

  set random(random: Random) {
    this.core.random = random;
  }

  /** Requests are independent of each other. */
  issue(requests: readonly wire.IssueRequest[]): Promise<wire.IssueResult[]> {
    return Promise.all(requests.map((request) => this.#issue(request, () => issueLeaf(this.core, request))));
  }

  issueCa(request: wire.IssueCaRequest): Promise<wire.IssueResult> {
    return this.#issue(request, () => issueCa(this.core, request));
  }

  async serials(have: number | null): Promise<wire.SerialKnowledge> {
    return serials(this.core, have, await isWhole(this.core));
  }

  override async alarm(): Promise<void> {
    const { core } = this;
    core.alarmAt = null;
    if (!core.ended) await single(core, "alarm", () => doWhatIsDue(core));
  }

  async #issue(request: { request_id: string }, work: () => Promise<wire.Issued>): Promise<wire.IssueResult> {
    const result = await answer(() => whenWhole(this.core, () => refusing("out_of_bounds", work)));
    return result.ok ? result : { ...result, request_id: request.request_id };
  }
}

type Call = (core: Core, ...of: unknown[]) => unknown;

function addMethods(calls: Calls, guard: (core: Core, work: () => unknown) => unknown): void {
  for (const [name, call] of Object.entries(calls) as [string, Call][]) {
    const value = function (this: Issuer, ...of: unknown[]) {
      return answer(() => guard(this.core, () => call(this.core, ...of)));
    };
    Object.defineProperty(Issuer.prototype, name, { value });
  }
}

addMethods(ALWAYS, (_, work) => work());
addMethods(WHEN_WHOLE, whenWhole);

async function whenWhole<T>(core: Core, work: () => T | Promise<T>): Promise<T> {
  await mustBeWhole(core);
  return work();
}

/** Turns a thrown Refused into a returned Refusal. */
async function answer<T>(work: () => T | Promise<T>): Promise<T | wire.Refusal> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return { ok: false, code: error.code, message: error.message };
  }
}
