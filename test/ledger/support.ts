import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import type { Issuer } from "../../durable-objects/issuer.ts";
import type { Issued, IssueRequest, Ledger } from "../../src/authority/ledger.ts";
import { generateKeyPair, type KeyAlgorithm } from "../../src/pki/keys.ts";
import { systemRandom } from "../../src/platform/context.ts";
import { randomId } from "../../src/platform/ids.ts";
import { NO_INVENTORY } from "../support/inventory.ts";

const bindings = env as unknown as { ISSUER: DurableObjectNamespace<Issuer>; BYTES: R2Bucket };

export const BYTES: R2Bucket = bindings.BYTES;

/** A fresh ledger by its random id: its stub, and the same by the interface that the wings use. */
export function newLedger(): { id: string; stub: DurableObjectStub<Issuer>; ledger: Ledger } {
  const id = randomId(systemRandom, "led-");
  const stub = bindings.ISSUER.getByName(id);
  return { id, stub, ledger: stub as unknown as Ledger };
}

/** Another stub of a ledger: one that was used breaks with its object. */
export function ledgerById(id: string): Ledger {
  return bindings.ISSUER.getByName(id) as unknown as Ledger;
}

/** A ledger with a root of one day's leaves. */
export async function newRoot(options: { crl_shards?: number; algorithm?: KeyAlgorithm; pss?: boolean } = {}) {
  const made = newLedger();
  const ca = expectOk(
    await made.ledger.createRoot({
      ledger_id: made.id,
      ca_id: `iss-${made.id.slice(4, 14)}`,
      crl_shards: options.crl_shards ?? 1,
      pss: options.pss ?? false,
      subject: { common_name: "Ledger Test Root" },
      algorithm: options.algorithm ?? "ECDSA-P256",
      ttl_seconds: 365 * 86_400,
      path_len: 1,
    }),
  );
  await inside(made.stub, (issuer) => {
    issuer.core.inventory = { ...NO_INVENTORY };
  });
  return { ...made, ca };
}

let key: Promise<Uint8Array<ArrayBuffer>> | null = null;

/** A request for a leaf; one subject key for all of them. */
export async function leafRequest(request_id: string, changes: Partial<IssueRequest> = {}): Promise<IssueRequest> {
  key ??= generateKeyPair("ECDSA-P256").then((pair) => pair.spki);
  return {
    request_id,
    certificate_id: "mc-test",
    subject: { common_name: "leaf.test" },
    sans: [{ type: "dns", value: "leaf.test" }],
    spki: await key,
    ekus: ["serverAuth"],
    must_staple: false,
    ttl_seconds: 86_400,
    settle: {},
    ...changes,
  };
}

export async function issueOne(
  ledger: Ledger,
  request_id: string,
  changes: Partial<IssueRequest> = {},
): Promise<Issued> {
  const [result] = await ledger.issue([await leafRequest(request_id, changes)]);
  if (!result?.ok) throw new Error(`not issued: ${JSON.stringify(result)}`);
  return result;
}

export function expectOk<T extends { ok: boolean }>(result: T): Extract<T, { ok: true }> {
  if (!result.ok) throw new Error(`refused: ${JSON.stringify(result)}`);
  return result as Extract<T, { ok: true }>;
}

/** Runs inside the object. */
export function inside<T>(
  stub: DurableObjectStub<Issuer>,
  work: (issuer: Issuer, state: DurableObjectState) => T | Promise<T>,
) {
  return runInDurableObject(stub, work);
}

/** Stands the object's clock at `at`, Unix milliseconds. */
export function setClock(stub: DurableObjectStub<Issuer>, at: number): Promise<void> {
  return inside(stub, (issuer) => {
    issuer.clock = { now: () => new Date(at) };
  });
}
