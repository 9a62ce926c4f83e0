import { X509Certificate } from "node:crypto";
import fc from "fast-check";
import { afterAll, expect, it } from "vitest";
import { type Bytes, equal, toHex } from "../../src/pki/bytes.ts";
import { type Certificate, parseCertificate } from "../../src/pki/certificate.ts";
import { decode } from "../../src/pki/der.ts";
import { PkiError } from "../../src/pki/errors.ts";
import { ekuOid } from "../../src/pki/extensions.ts";
import { parseSan } from "../../src/pki/general-names.ts";
import { lintCertificate } from "../../src/pki/lint/index.ts";
import { issue, openssl, Scratch, testLeaf, testRoot } from "../pki/support.ts";
import { attempt, reencoded, runs } from "./mutate.ts";
import { mutatedTree } from "./tree.ts";

const scratch = new Scratch();
afterAll(() => scratch.dispose());

const ROOT = await testRoot("ECDSA-P256", { pathLen: 1 });
const SANS = ["a.example", "10.0.0.1", "2001:db8::1", "a@b.example", "https://u.example/x"].map(parseSan);

async function realCertificates(): Promise<Bytes[]> {
  const config = scratch.write(
    "x.cnf",
    "[req]\ndistinguished_name=dn\nx509_extensions=v3\nprompt=no\n[dn]\nC=CH\nO=Zürich\nCN=x\n[v3]\nbasicConstraints=critical,CA:TRUE,pathlen:3\n" +
      "keyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid:always,issuer:always\n" +
      "subjectAltName=DNS:a.example,otherName:1.2.3;UTF8:x,dirName:dn\nnameConstraints=critical,permitted;DNS:a.example,excluded;IP:10.0.0.0/255.0.0.0,permitted;dirName:dn\n" +
      "crlDistributionPoints=URI:http://c/1\nauthorityInfoAccess=OCSP;URI:http://o/\ncertificatePolicies=1.2.3\n",
  );
  const made = ["rsa:2048", "ed25519"].map((key) => {
    openssl(
      "req",
      "-x509",
      "-newkey",
      key,
      "-nodes",
      "-days",
      "30000",
      "-config",
      config,
      "-utf8",
      "-keyout",
      scratch.file("k"),
      "-outform",
      "DER",
      "-out",
      scratch.file("c"),
    );
    return scratch.read("c");
  });
  const leaf = await testLeaf("ECDSA-P256", { sans: SANS, mustStaple: true });
  return [...made, ROOT.certificate.der, await issue(ROOT, leaf)];
}

const REAL = await realCertificates();

/** What both say of a certificate that both accept. */
function agree(ours: Certificate, theirs: X509Certificate): void {
  expect(theirs.serialNumber.toLowerCase().replace(/^0+(?=..)/, "")).toBe(ours.serial.replace(/^0+(?=..)/, ""));
  expect(theirs.validFromDate.getTime()).toBe(ours.notBefore.getTime());
  expect(theirs.validToDate.getTime()).toBe(ours.notAfter.getTime());
  const spki = attempt(() => new Uint8Array(theirs.publicKey.export({ type: "spki", format: "der" })));
  if (spki !== undefined) expect(toHex(spki)).toBe(toHex(ours.publicKey.spki));
  const ekus = theirs.keyUsage as string[] | undefined;
  if (ekus !== undefined && ours.extendedKeyUsage !== null) expect(ekus).toEqual(ours.extendedKeyUsage.map(ekuOid));
  expect(theirs.raw.equals(Buffer.from(ours.der))).toBe(true);
}

it("certificates: our parser accepts or throws its typed error; what it accepts is what Node's parser reads", () => {
  let accepted = 0;
  fc.assert(
    fc.property(mutatedTree(REAL), (input) => {
      let ours: Certificate;
      try {
        ours = parseCertificate(input);
      } catch (error) {
        expect(error).toBeInstanceOf(PkiError);
        return;
      }
      accepted++;
      expect(equal(reencoded(decode(input)), input)).toBe(true);
      const theirs = attempt(() => new X509Certificate(input));
      if (theirs !== undefined) agree(ours, theirs);
    }),
    runs(),
  );
  expect(accepted).toBeGreaterThan(0);
});

it("certificates: lint answers findings for any input, and never throws", () => {
  fc.assert(
    fc.property(mutatedTree(REAL), fc.constantFrom("leaf", "ca", "root", "responder"), (input, kind) => {
      const findings = lintCertificate(input, { kind, issuer: kind === "root" ? null : ROOT.certificate });
      expect(Array.isArray(findings)).toBe(true);
    }),
    runs(1_000),
  );
});
