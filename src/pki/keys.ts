/** Everything about keys and signatures that the wings use. */

export { UnsupportedError, WeakKeyError } from "./errors.ts";
export { assertStrongKey } from "./key-strength.ts";
export {
  encodeSignatureAlgorithm,
  generateKeyPair,
  importSigner,
  isKeyPair,
  keyIdentifier,
  parseSignatureAlgorithm,
  publicKeyOf,
  type SignatureScheme,
  type Signer,
  verify,
} from "./signing.ts";
export {
  KEY_ALGORITHMS,
  type KeyAlgorithm,
  type PublicKeyInfo,
  parsePrivateKey,
  parseSpki,
  pkcs8FromEc,
  pkcs8FromRsa,
  spkiOf,
} from "./spki.ts";
export { importStreamSigner, type StreamSigner } from "./stream-signer.ts";
