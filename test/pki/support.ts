import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Bytes } from "../../src/pki/bytes.ts";
import {
  buildTbsCertificate,
  type Certificate,
  compileIssuerTemplate,
  type Leaf,
  parseCertificate,
  randomSerial,
  signTbs,
} from "../../src/pki/certificate.ts";
import { parseSan } from "../../src/pki/general-names.ts";
import {
  generateKeyPair,
  importSigner,
  type KeyAlgorithm,
  keyIdentifier,
  type PublicKeyInfo,
  parseSpki,
  type Signer,
} from "../../src/pki/keys.ts";
import { encodeName } from "../../src/pki/names.ts";
import { type RootSpec, rootCertificate } from "../support/ca-certificates.ts";

/** A directory of its own for the files that openssl reads and writes; removed by `dispose`. */
export class Scratch {
  readonly path = mkdtempSync(join(tmpdir(), "pki-test-"));

  file(name: string): string {
    return join(this.path, name);
  }

  write(name: string, content: string | Uint8Array): string {
    writeFileSync(this.file(name), content);
    return this.file(name);
  }

  read(name: string): Bytes {
    return new Uint8Array(readFileSync(this.file(name)));
  }

  dispose(): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** What openssl prints on standard output; throws with its complaint when it fails. */
export function openssl(...args: readonly string[]): string {
  return execFileSync("openssl", [...args], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

export function random(octets: number): Bytes {
  return crypto.getRandomValues(new Uint8Array(octets));
}

export interface KeyPair {
  readonly spki: Bytes;
  readonly pkcs8: Bytes;
  readonly publicKey: PublicKeyInfo;
}

const pairs = new Map<string, Promise<KeyPair>>();

/** A key pair of that algorithm and label, made once in a test file: RSA keys take long. */
export function keyPair(algorithm: KeyAlgorithm, label = ""): Promise<KeyPair> {
  const key = `${algorithm} ${label}`;
  const known = pairs.get(key);
  if (known !== undefined) return known;
  const made = generateKeyPair(algorithm).then((pair) => ({ ...pair, publicKey: parseSpki(pair.spki) }));
  pairs.set(key, made);
  return made;
}

export const NOT_BEFORE = new Date("2026-11-01T00:00:00Z");
export const NOT_AFTER = new Date("2046-11-01T00:00:00Z");

export interface TestCa {
  readonly certificate: Certificate;
  readonly signer: Signer;
  readonly keys: KeyPair;
}

/** A self-signed root. */
export async function testRoot(
  algorithm: KeyAlgorithm = "ECDSA-P256",
  options: Partial<RootSpec> & { pss?: boolean; label?: string } = {},
): Promise<TestCa> {
  const keys = await keyPair(algorithm, options.label ?? "root");
  const signer = await importSigner(keys.pkcs8, { pss: options.pss ?? false });
  const der = await rootCertificate(
    {
      serial: randomSerial(random),
      notBefore: NOT_BEFORE,
      notAfter: NOT_AFTER,
      subject: encodeName({ common_name: "Test Root", organization: "Test" }),
      publicKey: keys.publicKey,
      ...options,
    },
    signer,
  );
  return { certificate: parseCertificate(der), signer, keys };
}

/** The parts of a leaf for `a.example`, to be changed by the test. */
export async function testLeaf(algorithm: KeyAlgorithm = "ECDSA-P256", changes: Partial<Leaf> = {}): Promise<Leaf> {
  const { publicKey } = await keyPair(algorithm, "leaf");
  return {
    serial: randomSerial(random),
    notBefore: new Date("2026-11-20T00:00:00Z"),
    notAfter: new Date("2027-02-01T00:00:00Z"),
    subject: encodeName({ common_name: "a.example" }),
    publicKey,
    subjectKeyIdentifier: await keyIdentifier(publicKey),
    sans: [parseSan("a.example")],
    ekus: ["serverAuth"],
    ...changes,
  };
}

export const URLS = {
  crlUrlsByShard: [["http://pki.test/crl/0"], ["http://pki.test/crl/1"]],
  ocspUrls: ["http://pki.test/ocsp"],
  caIssuersUrls: ["http://pki.test/ca"],
} as const;

/** A signed leaf, DER. */
export async function issue(ca: TestCa, leaf: Leaf): Promise<Bytes> {
  const { algorithmIdentifier } = ca.signer;
  const template = compileIssuerTemplate({
    issuerCertificate: ca.certificate,
    signatureAlgorithmIdentifier: algorithmIdentifier,
    ...URLS,
  });
  const tbs = buildTbsCertificate(template, leaf);
  return signTbs(tbs, ca.signer);
}
