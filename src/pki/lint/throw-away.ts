import type { Bytes } from "../bytes.ts";
import type { Certificate } from "../parse-certificate.ts";
import { generateKeyPair, importSigner, type Signer } from "../signing.ts";
import { type CertificateKind, lintErrors, lintTbsCertificate } from "./index.ts";

/** A key that signs only what is thrown away after the lint: one in an isolate, never stored. */
let throwAway: Signer | null = null;

/** The value is shared in an isolate, its making is not: two that begin at once make a key each. */
async function throwAwaySigner(): Promise<Signer> {
  if (throwAway === null) {
    const { pkcs8 } = await generateKeyPair("ECDSA-P256");
    throwAway = await importSigner(pkcs8);
  }
  return throwAway;
}

/** What forbids to sign these octets; null when nothing does. Warnings do not. `chain`: the issuer and those above it. */
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
