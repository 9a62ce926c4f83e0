import { constants, createPublicKey, createVerify, verify } from "node:crypto";
import { type Bytes, concat } from "./bytes.ts";
import { parseSignatureAlgorithm } from "./signing.ts";
import type { PublicKeyInfo } from "./spki.ts";

/** Verifies a signature over a body in pieces. One signature each. */
export interface StreamVerifier {
  update(chunk: Uint8Array): void;
  /** Whether this signature BIT STRING content is valid for everything given to `update`. */
  finish(signature: Bytes): boolean;
}

const KINDS = { ecdsa: "ECDSA", rsa: "RSA", pss: "RSA", ed25519: "Ed25519" } as const;

/**
 * The verifying counterpart of `importStreamSigner`. `finish` returns false for an algorithm that does not fit the key;
 * Ed25519 keeps the pieces until then. Throws DerError or UnsupportedError for a malformed or unsupported
 * AlgorithmIdentifier.
 */
export function importStreamVerifier(key: PublicKeyInfo, algorithmIdentifier: Bytes): StreamVerifier {
  const scheme = parseSignatureAlgorithm(algorithmIdentifier);
  if (KINDS[scheme.kind] !== key.algorithm) return { update: () => undefined, finish: () => false };
  const der = { key: Buffer.from(key.spki), format: "der", type: "spki" } as const;
  const publicKey = createPublicKey(der);
  if (scheme.kind === "ed25519") {
    const chunks: Uint8Array[] = [];
    return {
      update: (chunk) => void chunks.push(chunk.slice()),
      finish: (signature) => verify(null, concat(...chunks), publicKey, signature),
    };
  }
  const verification = createVerify(scheme.hash.replace("-", ""));
  return {
    update: (chunk) => void verification.update(chunk),
    finish: (signature) =>
      scheme.kind === "pss"
        ? // workerd does not accept a KeyObject together with a padding.
          verification.verify(
            { ...der, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: scheme.saltLength },
            signature,
          )
        : verification.verify(publicKey, signature),
  };
}
