import { type Bytes, toHex } from "../../src/pki/bytes.ts";
import { buildRootCertificate, randomSerial } from "../../src/pki/certificate.ts";
import { generateKeyPair, importSigner, parseSpki, type Signer } from "../../src/pki/keys.ts";
import type { NameConstraints } from "../../src/pki/name-constraints.ts";
import { encodeName, type SubjectName } from "../../src/pki/names.ts";
import { encodePem } from "../../src/pki/pem.ts";
import type { Client } from "./api.ts";

const DAY = 86_400_000;

export function randomSerialNumber(): Bytes {
  return randomSerial((length) => crypto.getRandomValues(new Uint8Array(length)));
}

/** An outside root with its key, as an operator would have it in files. */
export async function outsideRoot(
  options: {
    pathLen?: number;
    days?: number;
    name?: string;
    subject?: SubjectName;
    nameConstraints?: NameConstraints;
  } = {},
): Promise<{ der: Bytes; signer: Signer; cert_pem: string; key_pem: string }> {
  const pair = await generateKeyPair("ECDSA-P256");
  const signer = await importSigner(pair.pkcs8);
  const now = Math.floor(Date.now() / 1000) * 1000;
  const der = await buildRootCertificate(
    {
      serial: randomSerialNumber(),
      notBefore: new Date(now - 2 * DAY),
      notAfter: new Date(now + (options.days ?? 1000) * DAY),
      subject: encodeName(
        options.subject ?? { common_name: options.name ?? "Outside Root", organization: "Elsewhere" },
      ),
      publicKey: parseSpki(pair.spki),
      pathLen: options.pathLen ?? null,
      nameConstraints: options.nameConstraints ?? null,
    },
    signer,
  );
  return { der, signer, cert_pem: encodePem("CERTIFICATE", der), key_pem: encodePem("PRIVATE KEY", pair.pkcs8) };
}

/** An issuer whose CA was brought in, with so many certificates that were revoked before. */
export async function importedIssuer(api: Client, { revoked }: { revoked: number }) {
  const { cert_pem, key_pem } = await outsideRoot({ name: "Brought in" });
  const known = Array.from({ length: revoked }, () => toHex(randomSerialNumber()));
  const revocations = known.map((serial_number) => ({
    serial_number,
    revoked_at: new Date(Date.now() - DAY).toISOString(),
    reason: "superseded",
  }));
  const config = { ca_cert_pem: cert_pem, ca_key_pem: key_pem, revocations };
  const { id } = await api.create<{ id: string }>("/api/v1/issuers", {
    name: crypto.randomUUID(),
    type: "GenericCA",
    config,
  });
  return { id, known };
}
