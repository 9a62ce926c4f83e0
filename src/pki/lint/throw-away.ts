import type { Bytes } from "../bytes.ts";
import type { Certificate } from "../parse-certificate.ts";
import { generateKeyPair, importSigner, type Signer } from "../signing.ts";
import { type CertificateKind, lintErrors, lintTbsCertificate } from "./index.ts";

/** A key that signs only copies discarded after the lint: one an isolate, never stored. */
let throwAway: Signer | null = null;

/** The key is shared within an isolate, its generation is not: two concurrent first calls each generate one. */
async function throwAwaySigner(): Promise<Signer> {
  if (throwAway === null) {
    const { pkcs8 } = await generateKeyPair("ECDSA-P256");
    throwAway = await importSigner(pkcs8);
  }
  return throwAway;
}

/**
 * The reason these octets must not be signed; null if they may be. Warnings do not count. `chain`: the issuer and those
 * above it.
 */
export async function lintTbs(
  tbs: Bytes,
  kind: CertificateKind,
  chain: readonly Certificate[],
): Promise<string | null> {
  const signer = await throwAwaySigner();
  const [issuer = null, ...ancestors] = chain;
  const findings = lintErrors(lintTbsCertificate(tbs, await signer.sign(tbs), { kind, issuer, ancestors }));
  if (findings.length === 0) return null;
  return findings.map((finding) => `${finding.rule}: ${finding.message}`).join("; ");
}
