import type { IssueResult, Refusal, RefusalCode } from "../../src/authority/ledger.ts";
import type { Inventory } from "../../src/authority/ledger-inventory.ts";
import type { Bytes } from "../../src/pki/bytes.ts";
import type { SerialFilter } from "../../src/pki/certificate.ts";
import { importSigner, type Signer } from "../../src/pki/keys.ts";
import type { Clock, Random } from "../../src/platform/context.ts";
import { consoleLog, type Log } from "../../src/platform/log.ts";
import { makeSealer, type Sealer } from "../../src/platform/sealing.ts";
import { parseSettings } from "../../src/platform/settings.ts";
import type { CaRow } from "./storage.ts";

/** The filter of serials without a tag, in memory (issuer/serials.ts). */
export interface BuiltFilter {
  readonly filter: SerialFilter;
  /** The cursor of the last row that is in it. */
  upTo: number;
}

/**
 * What the parts of a ledger share. The tables are the truth; the rest are caches of this object's memory, emptied when it
 * is evicted. Between two `await`s nothing else runs: what must be one step is written without one.
 */
export interface Core {
  readonly storage: DurableObjectStorage;
  readonly sql: SqlStorage;
  /** The ledger's id where the platform tells it (an alarm may come without). */
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
  /** By RPC: the worker's entrypoint. */
  inventory: Inventory;
  /** This ledger knows all that the inventory has heard of (issuer/restore.ts). */
  whole: boolean;
  /** The last comparison came to its end, with what it entails. */
  compared: boolean;
  /** One comparison with the inventory at a time, and one taking back. */
  comparing: Promise<void> | null;
  restoring: Promise<void> | null;
  /** The row of `ca`; undefined when not read yet. */
  ca: CaRow | null | undefined;
  /** The CA's key, unsealed and not extractable. */
  signer: Promise<Signer> | null;
  /** Anything compiled from the CA's certificate, its URLs and one list. */
  readonly templates: Map<string, unknown>;
  /** Request ids being signed right now: who asks again waits for the same signature. */
  readonly signing: Map<string, Promise<IssueResult>>;
  /** Of the tags in this CA's serials; undefined when not read yet. */
  serialKey: Bytes | undefined;
  /** The serials without a tag; null when nobody has asked for them yet. */
  serialFilter: BuiltFilter | null;
  /** What waits for the next common turn. */
  turn: Promise<void> | null;
  /** When the alarm is set for, in this clock's milliseconds; null when it is not set. */
  alarmAt: number | null;
  /** What the alarm does at present. */
  ringing: Promise<void> | null;
  /** One build of lists at a time. */
  publishing: Promise<void> | null;
  /** The last sequence number of crl_entries that the list which is being built shows; null between two builds. */
  building: number | null;
  /** It has ended, or is ending: nothing is done or stored any more. */
  ended: boolean;
  /** One renewal of the OCSP responder at a time. */
  renewing: Promise<void> | null;
  /** Why the OCSP responder has no certificate; the next attempt is after `until`. */
  responderRefused: { readonly refusal: Refusal; readonly until: number } | null;
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
    whole: false,
    compared: false,
    comparing: null,
    restoring: null,
    ca: undefined,
    signer: null,
    templates: new Map(),
    signing: new Map(),
    serialKey: undefined,
    serialFilter: null,
    turn: null,
    alarmAt: null,
    ringing: null,
    publishing: null,
    building: null,
    ended: false,
    renewing: null,
    responderRefused: null,
  };
}

export function nowOf(core: Core): number {
  return core.clock.now().getTime();
}

export function refuse(code: RefusalCode, message: string): Refusal {
  return { ok: false, code, message };
}

/** By which the inventory knows this ledger; empty for one that was never made. */
export function ledgerIdOf(core: Core): string {
  return caOf(core)?.ledger_id ?? core.name ?? "";
}

/** The CA of this ledger, or null while there is none. */
export function caOf(core: Core): CaRow | null {
  core.ca ??= core.sql.exec<CaRow>("select * from ca").toArray()[0] ?? null;
  return core.ca;
}

/** After a write to `ca` or `ca_chain`: everything that was compiled from them is stale. */
export function forgetCa(core: Core): void {
  core.ca = undefined;
  core.signer = null;
  core.templates.clear();
  core.responderRefused = null;
}

/** DER of the chain, the CA's own certificate first. */
export function chainOf(core: Core): Bytes[] {
  return cached(core, "chain", () =>
    core.sql
      .exec<{ der: ArrayBuffer }>("select der from ca_chain order by position")
      .toArray()
      .map((row) => new Uint8Array(row.der)),
  );
}

/** A value compiled once from the CA's rows. */
export function cached<T>(core: Core, name: string, make: () => T): T {
  if (!core.templates.has(name)) core.templates.set(name, make());
  return core.templates.get(name) as T;
}

export function keyPurpose(ledgerId: string, keyId: string, use: "ca" | "ocsp"): string {
  return `ledger|${ledgerId}|${keyId}|${use}`;
}

/** The CA's private key in the clear: for importing it, never for keeping. */
export function openCaKey(core: Core, ca: CaRow): Promise<Bytes> {
  return core.sealer.open(ca.sealed_key, keyPurpose(ca.ledger_id, ca.key_id, "ca"));
}

/** Signs with the CA's key; imported once and not extractable. */
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

/** Long enough for those who were answered together to come again together. */
const TURN_MS = 2;

/**
 * The next common turn, two milliseconds from now. Everything that waits for it runs on without leaving the turn and so shares
 * one durable write: with a disk that takes milliseconds to flush, that is the difference between hundreds and thousands.
 */
export function commonTurn(core: Core): Promise<void> {
  core.turn ??= new Promise((resolve) => {
    setTimeout(() => {
      core.turn = null;
      resolve();
    }, TURN_MS);
  });
  return core.turn;
}

/** The alarm rings at `at` or earlier. */
export function wakeAt(core: Core, at: number): void {
  if (core.ended || (core.alarmAt !== null && core.alarmAt <= at)) return;
  core.alarmAt = at;
  // Relative to the real clock, which is the alarm's: a clock that stands elsewhere must not make it ring in a loop.
  void core.storage.setAlarm(Date.now() + Math.max(0, at - nowOf(core)));
}
