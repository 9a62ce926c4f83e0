/** The key and signature functions that the wings use. */

export { WeakKeyError } from "./errors.ts";
export { assertStrongKey } from "./key-strength.ts";
export {
  encodeSignatureAlgorithm,
  generateKeyPair,
  importSigner,
  isKeyPair,
  keyIdentifier,
  parseSignatureAlgorithm,
  publicKeyOf,
  type Signer,
  verify,
} from "./signing.ts";
export {
  KEY_ALGORITHMS,
  type KeyAlgorithm,
  type PublicKeyInfo,
  parsePrivateKey,
  parseSpki,
} from "./spki.ts";
export { importStreamSigner } from "./stream-signer.ts";
