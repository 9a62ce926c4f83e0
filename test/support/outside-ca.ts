import { type Bytes, fromHex, toHex } from "../../src/pki/bytes.ts";
import { parseCertificate, randomSerial, signTbs } from "../../src/pki/certificate.ts";
import { encodeCrlEntry } from "../../src/pki/crl.ts";
import { bitString, context, integer, octetString, sequence, time } from "../../src/pki/der.ts";
import {
  EXTENSION,
  encodeBasicConstraints,
  encodeExtendedKeyUsage,
  encodeKeyUsage,
  extension,
  type KeyUsage,
} from "../../src/pki/extensions.ts";
import { buildTbs } from "../../src/pki/issue.ts";
import { generateKeyPair, importSigner, keyIdentifier, parseSpki, type Signer } from "../../src/pki/keys.ts";
import { encodeNameConstraints, type NameConstraints } from "../../src/pki/name-constraints.ts";
import { encodeName, type SubjectName } from "../../src/pki/names.ts";
import { encodePem } from "../../src/pki/pem.ts";
import type { Client } from "./api.ts";

const DAY = 86_400_000;

export function randomSerialNumber(): Bytes {
  return randomSerial((length) => crypto.getRandomValues(new Uint8Array(length)));
}

/** A CA as an operator has it in files. */
export interface OutsideCa {
  readonly der: Bytes;
  readonly signer: Signer;
  readonly keys: { readonly spki: Bytes; readonly pkcs8: Bytes };
  readonly cert_pem: string;
  readonly key_pem: string;
}

export interface OutsideCaOptions {
  /** The common name of a subject at Elsewhere. */
  readonly name?: string;
  readonly subject?: SubjectName;
  /** Who issued it; a root without. */
  readonly above?: OutsideCa;
  readonly keys?: OutsideCa["keys"];
  readonly days?: number;
  readonly pathLen?: number;
  /** Null: without the extension. */
  readonly keyUsage?: readonly KeyUsage[] | null;
  readonly ekus?: readonly string[];
  readonly nameConstraints?: NameConstraints;
  readonly ski?: Bytes;
  /** In place of the real one, over a signature of nobody. */
  readonly signatureAlgorithm?: Bytes;
}

/** A CA of any shape, right unless told otherwise. */
export async function outsideCa(options: OutsideCaOptions = {}): Promise<OutsideCa> {
  const { above, name = "Outside Root", keyUsage = ["keyCertSign", "cRLSign"], nameConstraints } = options;
  const keys = options.keys ?? (await generateKeyPair("ECDSA-P256"));
  const signer = await importSigner(keys.pkcs8);
  const by = above?.signer ?? signer;
  const now = Math.floor(Date.now() / 1000) * 1000;
  const subject = encodeName(options.subject ?? { common_name: name, organization: "Elsewhere" });
  const ski = options.ski ?? (await keyIdentifier(parseSpki(keys.spki)));
  const signatureAlgorithmIdentifier = options.signatureAlgorithm ?? by.algorithmIdentifier;
  const tbs = buildTbs(
    {
      serial: randomSerialNumber(),
      notBefore: new Date(now - 2 * DAY),
      notAfter: new Date(now + (options.days ?? 1000) * DAY),
      subject,
      issuer: above ? parseCertificate(above.der).subject.der : subject,
      spki: keys.spki,
      signatureAlgorithmIdentifier,
    },
    [
      extension(
        EXTENSION.basicConstraints,
        true,
        encodeBasicConstraints({ ca: true, pathLen: options.pathLen ?? null }),
      ),
      ...(keyUsage === null ? [] : [extension(EXTENSION.keyUsage, true, encodeKeyUsage(keyUsage))]),
      extension(EXTENSION.subjectKeyIdentifier, false, octetString(ski)),
      ...(options.ekus ? [extension(EXTENSION.extendedKeyUsage, false, encodeExtendedKeyUsage(options.ekus))] : []),
      ...(nameConstraints ? [extension(EXTENSION.nameConstraints, true, encodeNameConstraints(nameConstraints))] : []),
    ],
  );
  const der = await signTbs(tbs, { ...by, algorithmIdentifier: signatureAlgorithmIdentifier });
  return { der, signer, keys, cert_pem: encodePem("CERTIFICATE", der), key_pem: encodePem("PRIVATE KEY", keys.pkcs8) };
}

/** A CRL of an outside CA, DER: of version 2 where it has a number, else of version 1. */
export async function outsideCrl(
  ca: OutsideCa,
  revoked: readonly { readonly serial: string; readonly at: string; readonly reason?: number }[],
  options: { readonly number?: bigint; readonly delta?: boolean } = {},
): Promise<Bytes> {
  const { number, delta = false } = options;
  const now = Math.floor(Date.now() / 1000) * 1000;
  const own = parseCertificate(ca.der);
  const entries = revoked.map(({ serial, at, reason = 0 }) => encodeCrlEntry(serial, new Date(at), reason));
  const numbered = (of: bigint) => [
    extension("2.5.29.20", false, integer(fromHex(of.toString(16).padStart(40, "0")))),
    ...(delta ? [extension("2.5.29.27", true, integer(1))] : []),
  ];
  const tbs = sequence(
    ...(number === undefined ? [] : [integer(1)]),
    ca.signer.algorithmIdentifier,
    own.subject.der,
    time(new Date(now - DAY)),
    time(new Date(now + DAY)),
    ...(entries.length > 0 ? [sequence(...entries)] : []),
    ...(number === undefined ? [] : [context(0, true, sequence(...numbered(number)))]),
  );
  return sequence(tbs, ca.signer.algorithmIdentifier, bitString(await ca.signer.sign(tbs)));
}

/** An issuer whose CA was brought in, with so many certificates that were revoked before. */
export async function importedIssuer(api: Client, { revoked }: { revoked: number }) {
  const { cert_pem, key_pem } = await outsideCa({ name: "Brought in" });
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
