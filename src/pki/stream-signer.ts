import { constants, createPrivateKey, createSign, sign } from "node:crypto";
import { type Bytes, concat } from "./bytes.ts";
import { encodeSignatureAlgorithm, schemeFor } from "./signing.ts";
import { parsePrivateKey } from "./spki.ts";

/** Signs a body in pieces, without keeping it in memory. One signature each. */
export interface StreamSigner {
  /** The AlgorithmIdentifier of the signature, DER. */
  readonly algorithmIdentifier: Bytes;
  /** False for Ed25519, which reads the whole body twice (RFC 8032): the pieces are then kept until `finish`. */
  readonly streams: boolean;
  update(chunk: Uint8Array): void;
  /** The content of the signature BIT STRING, as from `Signer.sign`. */
  finish(): Bytes;
}

/** A stream signer over an unencrypted PKCS#8 key, with the algorithms of `importSigner`. Throws DerError or UnsupportedError. */
export function importStreamSigner(pkcs8: Bytes, options: { pss?: boolean } = {}): StreamSigner {
  const parsed = parsePrivateKey(pkcs8);
  const scheme = schemeFor(parsed.algorithm, parsed.curve, options.pss ?? false);
  const der = { key: Buffer.from(parsed.pkcs8), format: "der", type: "pkcs8" } as const;
  const key = createPrivateKey(der);
  const algorithmIdentifier = encodeSignatureAlgorithm(scheme);
  if (scheme.kind === "ed25519") {
    const chunks: Uint8Array[] = [];
    return {
      algorithmIdentifier,
      streams: false,
      update: (chunk) => void chunks.push(chunk.slice()),
      finish: () => new Uint8Array(sign(null, concat(...chunks), key)),
    };
  }
  const signature = createSign(scheme.hash.replace("-", ""));
  return {
    algorithmIdentifier,
    streams: true,
    update: (chunk) => void signature.update(chunk),
    finish: () =>
      new Uint8Array(
        scheme.kind === "pss"
          ? // workerd does not accept a KeyObject together with a padding.
            signature.sign({ ...der, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: scheme.saltLength })
          : signature.sign(key),
      ),
  };
}
