import type { Issued, RefusalCode } from "../../src/authority/ledger.ts";
import type { Inventory } from "../../src/authority/ledger-inventory.ts";
import type { Bytes } from "../../src/pki/bytes.ts";
import type { SerialFilter } from "../../src/pki/certificate.ts";
import { PkiError } from "../../src/pki/errors.ts";
import { importSigner, type Signer } from "../../src/pki/keys.ts";
import type { Clock, Random } from "../../src/platform/context.ts";
import { consoleLog, type Log } from "../../src/platform/log.ts";
import { makeSealer, type Sealer } from "../../src/platform/sealing.ts";
import { parseSettings } from "../../src/platform/settings.ts";
import { type CaRow, first } from "./storage.ts";

/** The filter of serials without a tag, in memory (issuer/serials.ts). */
export interface BuiltFilter {
  readonly filter: SerialFilter;
  /** The cursor of the last row in the filter. */
  upTo: number;
}

/**
 * Shared by the parts of a ledger. The tables are the truth; the rest are caches in this object's memory, lost on
 * eviction. Nothing else runs between two `await`s: code that must be one step contains none.
 */
export interface Core {
  readonly storage: DurableObjectStorage;
  readonly sql: SqlStorage;
  /** The ledger's id if the platform provides it (an alarm may not). */
  readonly name: string | null;
  readonly bytes: R2Bucket;
  /** Gathers purges of the edge cache. */
  readonly purge: DurableObjectNamespace | null;
  readonly sealer: Sealer;
  readonly publicUrl: string;
  readonly log: Log;
  /** Replaced by tests. */
  clock: Clock;
  random: Random;
  /** The worker's entrypoint, by RPC. */
  inventory: Inventory;
  /** Running work by name, one of each at a time (`single`). */
  readonly running: Map<string, Promise<void>>;
  /** Request ids being signed now: a repeated request waits for the same signature. */
  readonly signing: Map<string, Promise<Issued>>;
  /** This ledger knows everything that the inventory has heard of (issuer/restore.ts). */
  whole: boolean;
  /** The last comparison was completed, with its consequences. */
  compared: boolean;
  /** The row of `ca`; undefined: not read yet. */
  ca: CaRow | null | undefined;
  /** The CA's key, unsealed and not extractable. */
  signer: Promise<Signer> | null;
  /** Values compiled from the CA's rows, its URLs and one list. */
  readonly compiled: Map<string, unknown>;
  /** The filter of serials without a tag; null until first needed. */
  serialFilter: BuiltFilter | null;
  /** The time the alarm is set for, in this clock's milliseconds; null: not set. */
  alarmAt: number | null;
  /** The last sequence number of crl_entries in the list being built; null between builds. */
  building: number | null;
  /** The ledger has ended or is ending: it does and stores nothing more. */
  ended: boolean;
  /** Why the OCSP responder has no certificate; the next attempt is after `until`. */
  responderRefused: { readonly refusal: Refused; readonly until: number } | null;
}

export function makeCore(state: DurableObjectState, env: Readonly<Record<string, unknown>>): Core {
  const settings = parseSettings(env);
  return {
    storage: state.storage,
    sql: state.storage.sql,
    name: state.id.name ?? null,
    bytes: env.BYTES as R2Bucket,
    purge: (env.PURGE as DurableObjectNamespace | undefined) ?? null,
    sealer: makeSealer(settings.sealingKeys),
    publicUrl: settings.publicUrl,
    log: consoleLog({ object: "issuer" }),
    clock: { now: () => new Date() },
    random: { bytes: (length) => crypto.getRandomValues(new Uint8Array(length)) },
    inventory: (state.exports as unknown as { Inventory: Inventory }).Inventory,
    running: new Map(),
    signing: new Map(),
    whole: false,
    compared: false,
    ca: undefined,
    signer: null,
    compiled: new Map(),
    serialFilter: null,
    alarmAt: null,
    building: null,
    ended: false,
    responderRefused: null,
  };
}

export function nowOf(core: Core): number {
  return core.clock.now().getTime();
}

/** A request that cannot be met. Thrown inside a ledger; its RPC methods return it as a `Refusal`. */
export class Refused extends Error {
  readonly code: RefusalCode;

  constructor(code: RefusalCode, message: string) {
    super(message);
    this.code = code;
  }
}

export function refuse(code: RefusalCode, message: string): never {
  throw new Refused(code, message);
}

/** An error of our parsers and encoders is the request's fault: it becomes a refusal. */
export async function refusing<T>(code: RefusalCode, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof PkiError || error instanceof RangeError) refuse(code, error.message);
    throw error;
  }
}

/** Runs work once at a time: a call meanwhile waits for the running one. */
export function single(core: Core, name: string, work: () => Promise<void>): Promise<void> {
  const running = core.running.get(name);
  if (running) return running;
  const begun = work().finally(() => core.running.delete(name));
  core.running.set(name, begun);
  return begun;
}

/** Lets other waiting work run. */
export function pause(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** The inventory's id of this ledger; empty for a ledger that was never made. */
export function ledgerIdOf(core: Core): string {
  return caOf(core)?.ledger_id ?? core.name ?? "";
}

/** The CA of this ledger, or null if there is none. */
export function caOf(core: Core): CaRow | null {
  core.ca ??= first<CaRow>(core.sql, "select * from ca") ?? null;
  return core.ca;
}

/** The CA; throws if it has no certificate yet. */
export function certifiedCa(core: Core): CaRow {
  const ca = caOf(core);
  if (!ca || ca.state === "awaiting_certificate") refuse("ca_absent", "this CA has no certificate yet");
  return ca;
}

/** Call after a write to `ca` or `ca_chain`: every value compiled from them is stale. */
export function forgetCa(core: Core): void {
  core.ca = undefined;
  core.signer = null;
  core.compiled.clear();
  core.responderRefused = null;
}

/** A value compiled once from the CA's rows. */
export function cached<T>(core: Core, name: string, make: () => T): T {
  if (!core.compiled.has(name)) core.compiled.set(name, make());
  return core.compiled.get(name) as T;
}

export function keyPurpose(ledgerId: string, keyId: string, use: "ca" | "ocsp"): string {
  return `ledger|${ledgerId}|${keyId}|${use}`;
}

/** The CA's private key in the clear: import it, never store it. */
export function openCaKey(core: Core, ca: CaRow): Promise<Bytes> {
  return core.sealer.open(ca.sealed_key, keyPurpose(ca.ledger_id, ca.key_id, "ca"));
}

/** Signs with the CA's key, which is imported once and not extractable. */
export function caSigner(core: Core, ca: CaRow): Promise<Signer> {
  if (core.signer === null) {
    const fresh = openCaKey(core, ca).then((pkcs8) =>
      importSigner(pkcs8, { pss: ca.pss === 1 }).finally(() => pkcs8.fill(0)),
    );
    core.signer = fresh;
    fresh.catch(() => {
      if (core.signer === fresh) core.signer = null;
    });
  }
  return core.signer;
}

/** Long enough for callers answered together to come back together. */
const TURN_MS = 2;

/**
 * The next common turn, two milliseconds from now. All its waiters resume in the same turn and so share one durable
 * write: with a disk that takes milliseconds to flush, this makes thousands of writes a second instead of hundreds.
 */
export function commonTurn(core: Core): Promise<void> {
  return single(core, "turn", () => new Promise((resolve) => setTimeout(resolve, TURN_MS)));
}

/** Makes sure that the alarm fires at `at` or earlier. */
export function wakeAt(core: Core, at: number): void {
  if (core.ended || (core.alarmAt !== null && core.alarmAt <= at)) return;
  core.alarmAt = at;
  // Relative to the real clock, which the alarm uses: another `clock` must not make it fire in a loop.
  void core.storage.setAlarm(Date.now() + Math.max(0, at - nowOf(core)));
}
