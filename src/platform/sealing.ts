import type { Database } from "./database.ts";
import type { SealingKey } from "./settings.ts";
import { sealingKeys } from "./tables.ts";
import { base64url, constantTimeEqual, fromBase64url, hex, utf8 } from "./text.ts";

export class SealingError extends Error {
  readonly code = "sealing_failed";
}

/**
 * Seals secrets at rest with AES-256-GCM. The envelope is `v1.<key id>.<iv>.<ciphertext and tag>` (base64url). Key id
 * and `purpose` are associated data, so an envelope opens only under the key it names and for the purpose it was sealed
 * for. The first configured key seals and every configured key opens, which allows rotation.
 */
export interface Sealer {
  seal(plaintext: Uint8Array<ArrayBuffer>, purpose: string): Promise<string>;
  /** Throws SealingError if the key is not configured or the envelope was not sealed for this purpose. */
  open(envelope: string, purpose: string): Promise<Uint8Array<ArrayBuffer>>;
  /**
   * A keyed digest, `<key id>.<HMAC-SHA256>`: without the key, nobody can test guesses of the data against it. Compare
   * with `isMac`, which accepts every configured key.
   */
  mac(data: Uint8Array, purpose: string): Promise<string>;
  /**
   * Whether `mac` is the keyed digest of the data for this purpose. Throws SealingError if its key is not configured.
   */
  isMac(mac: string, data: Uint8Array, purpose: string): Promise<boolean>;
  /** Records the id of the sealing key in the database, before anything sealed with it is stored. */
  register(db: Database, now: Date): Promise<void>;
}

export function makeSealer(keys: readonly SealingKey[]): Sealer {
  const imported = new Map<string, CryptoKey>();
  const configured = (id: string): SealingKey => {
    const key = keys.find((candidate) => candidate.id === id);
    if (!key) throw new SealingError(`CERTCTL_SEALING_KEYS has no key ${JSON.stringify(id)}`);
    return key;
  };
  const sealingKey = (): SealingKey => {
    const [first] = keys;
    if (!first) throw new SealingError("CERTCTL_SEALING_KEYS is not set: nothing can be sealed");
    return first;
  };
  const keyOf = async (id: string): Promise<CryptoKey> => {
    const known = imported.get(id);
    if (known) return known;
    const { bytes } = configured(id);
    const fresh = await crypto.subtle.importKey("raw", bytes, "AES-GCM", false, ["encrypt", "decrypt"]);
    imported.set(id, fresh);
    return fresh;
  };
  const macBy = async (key: SealingKey, data: Uint8Array, purpose: string): Promise<string> => {
    const prefix = utf8(`certctl-edge mac\0${purpose}\0`);
    const message = new Uint8Array(prefix.length + data.length);
    message.set(prefix);
    message.set(data, prefix.length);
    return `${key.id}.${base64url(await hmac(key, message))}`;
  };
  let registered = false;

  return {
    async seal(plaintext, purpose) {
      const first = sealingKey();
      const iv = crypto.getRandomValues(new Uint8Array(12));
      const algorithm = { name: "AES-GCM", iv, additionalData: associatedData(first.id, purpose) };
      const sealed = await crypto.subtle.encrypt(algorithm, await keyOf(first.id), plaintext);
      return `v1.${first.id}.${base64url(iv)}.${base64url(new Uint8Array(sealed))}`;
    },

    async open(envelope, purpose) {
      const [version, id, iv, sealed, ...rest] = envelope.split(".");
      if (version !== "v1" || !id || !iv || !sealed || rest.length > 0) throw new SealingError("not a sealed envelope");
      const algorithm = { name: "AES-GCM", iv: fromBase64url(iv), additionalData: associatedData(id, purpose) };
      const key = await keyOf(id);
      try {
        return new Uint8Array(await crypto.subtle.decrypt(algorithm, key, fromBase64url(sealed)));
      } catch (cause) {
        throw new SealingError(`the envelope sealed by key ${JSON.stringify(id)} does not open for ${purpose}`, {
          cause,
        });
      }
    },

    mac: async (data, purpose) => macBy(sealingKey(), data, purpose),

    async isMac(mac, data, purpose) {
      const [id, digest, ...rest] = mac.split(".");
      if (!id || !digest || rest.length > 0) return false;
      return constantTimeEqual(mac, await macBy(configured(id), data, purpose));
    },

    async register(db, now) {
      if (registered) return;
      const first = sealingKey();
      const row = { id: first.id, check_value: await checkValue(first), created_at: now.toISOString() };
      await db.insert(sealingKeys).values(row).onConflictDoNothing();
      registered = true;
    },
  };
}

/** The ids of the keys that sealed something in this database. */
export async function sealedUnder(db: Database): Promise<string[]> {
  return (await db.select({ id: sealingKeys.id }).from(sealingKeys)).map(({ id }) => id);
}

/** Distinguishes two keys with the same id without revealing the key: 128 bits of an HMAC-SHA256 under it. */
export async function checkValue(key: SealingKey): Promise<string> {
  return hex((await hmac(key, utf8("certctl-edge sealing key check"))).subarray(0, 16));
}

async function hmac({ bytes }: SealingKey, message: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const key = await crypto.subtle.importKey("raw", bytes, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return new Uint8Array(await crypto.subtle.sign("HMAC", key, message));
}

function associatedData(keyId: string, purpose: string): Uint8Array<ArrayBuffer> {
  return utf8(`certctl-edge\0${keyId}\0${purpose}`);
}
