import type { Bytes } from "../../src/pki/bytes.ts";
import { buildRootTbs, buildSubordinateTbs, signTbs } from "../../src/pki/certificate.ts";
import { keyIdentifier, type PublicKeyInfo, type Signer } from "../../src/pki/keys.ts";

/** Certificates of CAs, DER, whose key identifier and signature algorithm are those of the keys at hand. */

type Root = Parameters<typeof buildRootTbs>[0];
export type RootSpec = Omit<Root, OfKeys>;
type Subordinate = Parameters<typeof buildSubordinateTbs>[0];
type OfKeys = "subjectKeyIdentifier" | "signatureAlgorithmIdentifier";

export async function rootCertificate(root: RootSpec, signer: Signer): Promise<Bytes> {
  return signTbs(buildRootTbs({ ...root, ...(await ofKeys(root.publicKey, signer)) }), signer);
}

/** `signer` is the issuer's. */
export async function subordinateCertificate(spec: Omit<Subordinate, OfKeys>, signer: Signer): Promise<Bytes> {
  return signTbs(buildSubordinateTbs({ ...spec, ...(await ofKeys(spec.publicKey, signer)) }), signer);
}

async function ofKeys(publicKey: PublicKeyInfo, signer: Signer): Promise<Pick<Root, OfKeys>> {
  return {
    subjectKeyIdentifier: await keyIdentifier(publicKey),
    signatureAlgorithmIdentifier: signer.algorithmIdentifier,
  };
}
