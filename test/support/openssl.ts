import { execFileSync, spawnSync } from "node:child_process";
import { createHash, X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Bytes } from "../../src/pki/bytes.ts";
import { children, decode } from "../../src/pki/der.ts";

/** What a run of the openssl command said. */
export interface Ran {
  readonly code: number;
  readonly stdout: Bytes;
  readonly text: string;
  readonly stderr: string;
}

/** A scratch directory in which openssl runs; `remove()` when done. */
export class OpensslDirectory {
  readonly directory = mkdtempSync(path.join(tmpdir(), "certctl-openssl-"));

  file(name: string): string {
    return path.join(this.directory, name);
  }

  write(name: string, content: Uint8Array | string): string {
    writeFileSync(this.file(name), content);
    return this.file(name);
  }

  read(name: string): Bytes {
    return new Uint8Array(readFileSync(this.file(name)));
  }

  /** Runs openssl, whatever its exit code. */
  try(...args: string[]): Ran {
    const ran = spawnSync("openssl", args, { cwd: this.directory, maxBuffer: 1 << 28 });
    if (ran.error !== undefined) throw ran.error;
    return {
      code: ran.status ?? -1,
      stdout: new Uint8Array(ran.stdout),
      text: ran.stdout.toString(),
      stderr: ran.stderr.toString(),
    };
  }

  /** Runs openssl, which must succeed. */
  run(...args: string[]): Ran {
    const ran = this.try(...args);
    if (ran.code !== 0) throw new Error(`openssl ${args.join(" ")} ended with ${ran.code}: ${ran.stderr}`);
    return ran;
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** A CA made by openssl: `ca.pem`, `ca.key`, `leaf.pem`, `responder.pem`, `responder.key` (PKCS#8) in a directory. */
export interface OpensslCa {
  readonly files: OpensslDirectory;
  readonly caDer: Bytes;
  readonly leafDer: Bytes;
  readonly responderDer: Bytes;
  /** DER Name of the CA. */
  readonly issuerName: Bytes;
  /** Lower-case hex. */
  readonly leafSerial: string;
}

const CA_CONFIG = `
[req]
distinguished_name = dn
prompt = no
[dn]
CN = OCSP test CA
O = Example / Org
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
subjectAltName = DNS:leaf.example
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[ocsp]
extendedKeyUsage = OCSPSigning
noCheck = yes
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
`;

function keyArguments(kind: "ec" | "rsa"): string[] {
  return kind === "ec"
    ? ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"]
    : ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"];
}

/** Makes the CA. */
export function opensslCa(kind: "ec" | "rsa" = "ec"): OpensslCa {
  const files = new OpensslDirectory();
  files.write("ca.cnf", CA_CONFIG);
  files.run(...keyArguments(kind), "ca.key");
  files.run(
    ...["req", "-x509", "-new", "-key", "ca.key", "-config", "ca.cnf", "-extensions", "ca", "-days", "3650"],
    ...["-sha256", "-out", "ca.pem"],
  );
  for (const [name, section, serial] of [
    ["leaf", "leaf", "0x7f0123456789abcdef0123456789abcd"],
    ["responder", "ocsp", "0x55"],
  ] as const) {
    files.run(...keyArguments(kind), `${name}.key`);
    files.run("req", "-new", "-key", `${name}.key`, "-subj", `/CN=${name}`, "-out", `${name}.csr`);
    files.run(
      ...["x509", "-req", "-in", `${name}.csr`, "-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", serial],
      ...["-days", "365", "-sha256", "-extfile", "ca.cnf", "-extensions", section, "-out", `${name}.pem`],
    );
  }
  const der = (name: string): Bytes => new Uint8Array(new X509Certificate(files.read(name)).raw);
  return {
    files,
    caDer: der("ca.pem"),
    leafDer: der("leaf.pem"),
    responderDer: der("responder.pem"),
    issuerName: subjectOf(der("ca.pem")),
    leafSerial: "7f0123456789abcdef0123456789abcd",
  };
}

/** The fields of a DER TBSCertificate after its version, which must be there. */
function fieldsOf(certificate: Bytes): ReturnType<typeof children> {
  const [tbs] = children(decode(certificate));
  if (tbs === undefined) throw new Error("not a certificate");
  return children(tbs).slice(1);
}

/** DER Name of a certificate's subject. */
export function subjectOf(certificate: Bytes): Bytes {
  const field = fieldsOf(certificate)[4];
  if (field === undefined) throw new Error("not a certificate");
  return field.bytes;
}

/** Content of a certificate's subjectPublicKey BIT STRING. */
export function keyBitsOf(certificate: Bytes): Bytes {
  const spki = fieldsOf(certificate)[5];
  const bits = spki === undefined ? undefined : children(spki)[1];
  if (bits === undefined) throw new Error("not a certificate");
  return bits.content.subarray(1);
}

/** A hash of the octets. */
export function hashOf(algorithm: "sha1" | "sha256" | "sha384" | "sha512", data: Uint8Array): Bytes {
  return new Uint8Array(createHash(algorithm).update(data).digest());
}

/** Whether a program can be started. */
export function isInstalled(program: string, ...args: string[]): boolean {
  try {
    execFileSync(program, args, { stdio: "ignore" });
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ENOENT";
  }
}
