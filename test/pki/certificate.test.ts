import { X509Certificate } from "node:crypto";
import { afterAll, describe, expect, it } from "vitest";
import { equal, fromHex, toHex } from "../../src/pki/bytes.ts";
import {
  buildOcspResponderTbs,
  buildTbsCertificate,
  compileIssuerTemplate,
  leafKeyUsage,
  parseCertificate,
  randomSerial,
  signTbs,
  verifyIssued,
} from "../../src/pki/certificate.ts";
import { planCrl } from "../../src/pki/crl.ts";
import { children, decode, integer, sequence } from "../../src/pki/der.ts";
import { parseSan } from "../../src/pki/general-names.ts";
import { importSigner, KEY_ALGORITHMS, keyIdentifier, parseSpki } from "../../src/pki/keys.ts";
import { EMPTY_NAME, encodeName, formatName } from "../../src/pki/names.ts";
import { encodePem } from "../../src/pki/pem.ts";
import { subordinateCertificate } from "../support/ca-certificates.ts";
import {
  issue,
  keyPair,
  NOT_AFTER,
  NOT_BEFORE,
  openssl,
  random,
  Scratch,
  type TestCa,
  testLeaf,
  testRoot,
} from "./support.ts";

const scratch = new Scratch();
afterAll(() => scratch.dispose());

const ATTIME = String(Date.parse("2026-12-01T00:00:00Z") / 1000);

async function testSubordinate(
  root: TestCa,
  algorithm: (typeof KEY_ALGORITHMS)[number],
  pss: boolean,
): Promise<TestCa> {
  const keys = await keyPair(algorithm, "sub");
  const der = await subordinateCertificate(
    {
      serial: randomSerial(random),
      notBefore: NOT_BEFORE,
      notAfter: NOT_AFTER,
      subject: encodeName({ common_name: "Sub", organization: "Test" }),
      publicKey: keys.publicKey,
      issuerCertificate: root.certificate,
      pathLen: 0,
      crlUrls: ["http://pki.test/crl/root"],
      ocspUrls: ["http://pki.test/ocsp/root"],
      caIssuersUrls: ["http://pki.test/ca/root"],
    },
    root.signer,
  );
  return { certificate: parseCertificate(der), keys, signer: await importSigner(keys.pkcs8, { pss }) };
}

const CASES = KEY_ALGORITHMS.flatMap((algorithm) =>
  (algorithm.startsWith("RSA") ? [false, true] : [false]).map((pss) => ({ algorithm, pss })),
);

describe("a chain of root, subordinate, leaf and responder", () => {
  it.each(CASES)("$algorithm, PSS $pss: openssl and Node accept it", async ({ algorithm, pss }) => {
    const root = await testRoot(algorithm, { pss, pathLen: 1 });
    const sub = await testSubordinate(root, algorithm, pss);
    const leaf = await testLeaf(algorithm, { mustStaple: true });
    const der = await issue(sub, leaf);
    const responderTbs = buildOcspResponderTbs({
      ...leaf,
      subject: encodeName({ common_name: "Responder" }),
      issuerCertificate: sub.certificate,
      signatureAlgorithmIdentifier: sub.signer.algorithmIdentifier,
    });
    const responder = await signTbs(responderTbs, sub.signer);
    scratch.write("root.pem", encodePem("CERTIFICATE", root.certificate.der));
    scratch.write("sub.pem", encodePem("CERTIFICATE", sub.certificate.der));
    scratch.write("leaf.pem", encodePem("CERTIFICATE", der));
    scratch.write("ocsp.pem", encodePem("CERTIFICATE", responder));
    const files = ["-CAfile", scratch.file("root.pem"), "-untrusted", scratch.file("sub.pem")];
    const strict = ["verify", "-x509_strict", "-check_ss_sig", "-attime", ATTIME];
    expect(openssl(...strict, "-purpose", "sslserver", ...files, scratch.file("leaf.pem"))).toContain("leaf.pem: OK");
    expect(openssl(...strict, "-purpose", "ocsphelper", ...files, scratch.file("ocsp.pem"))).toContain("ocsp.pem: OK");
    expect(() => openssl(...strict, "-purpose", "sslclient", ...files, scratch.file("leaf.pem"))).toThrow("purpose");

    const seen = new X509Certificate(der);
    expect(seen.verify(new X509Certificate(sub.certificate.der).publicKey)).toBe(true);
    expect(seen.checkIssued(new X509Certificate(sub.certificate.der))).toBe(true);
    expect(seen.serialNumber.toLowerCase()).toBe(toHex(leaf.serial));
    expect(new X509Certificate(root.certificate.der).ca).toBe(true);
    expect(seen.ca).toBe(false);

    const parsed = parseCertificate(der);
    expect(await verifyIssued(parsed, sub.certificate)).toBe(true);
    expect(await verifyIssued(sub.certificate, root.certificate)).toBe(true);
    expect(await verifyIssued(root.certificate, root.certificate)).toBe(true);
    expect(await verifyIssued(parsed, root.certificate)).toBe(false);
    expect(parseCertificate(responder)).toMatchObject({
      ocspNoCheck: true,
      extendedKeyUsage: ["OCSPSigning"],
      keyUsage: ["digitalSignature"],
      crlUrls: [],
      ocspUrls: [],
    });
  });
});

describe("a leaf", () => {
  const SANS = ["a.example", "*.b.example", "10.0.0.1", "2001:db8::1", "a@b.example", "spiffe://x.example/y"].map(
    parseSan,
  );

  it("says what it was told, by openssl's reading", async () => {
    const root = await testRoot();
    const leaf = await testLeaf("RSA-2048", {
      sans: SANS,
      ekus: ["serverAuth", "clientAuth"],
      mustStaple: true,
      shard: 1,
    });
    const pem = scratch.write("leaf.pem", encodePem("CERTIFICATE", await issue(root, leaf)));
    const text = openssl("x509", "-in", pem, "-noout", "-text").replace(/^ +/gm, "");
    const block = (title: string): string => text.split(`${title}\n`)[1]?.split("\n")[0] ?? "";
    expect(text).toContain("Version: 3 (0x2)");
    expect(text).toContain("Issuer: O = Test, CN = Test Root");
    expect(text).toContain("Subject: CN = a.example");
    expect(text).toContain("Not Before: Nov 20 00:00:00 2026 GMT\nNot After : Feb  1 00:00:00 2027 GMT");
    expect(block("X509v3 Key Usage: critical")).toBe("Digital Signature, Key Encipherment");
    expect(block("X509v3 Extended Key Usage: ")).toBe("TLS Web Server Authentication, TLS Web Client Authentication");
    expect(block("X509v3 Basic Constraints: critical")).toBe("CA:FALSE");
    expect(block("X509v3 Subject Alternative Name: ")).toBe(
      "DNS:a.example, DNS:*.b.example, IP Address:10.0.0.1, IP Address:2001:DB8:0:0:0:0:0:1, email:a@b.example, URI:spiffe://x.example/y",
    );
    expect(text).toContain(
      "Authority Information Access: \nOCSP - URI:http://pki.test/ocsp\nCA Issuers - URI:http://pki.test/ca",
    );
    expect(text).toContain("X509v3 CRL Distribution Points: \nFull Name:\nURI:http://pki.test/crl/1\n");
    expect(text).toContain("TLS Feature: \nstatus_request\n");
    const identifier = (bytes: Uint8Array | null): string =>
      (toHex(bytes ?? random(1)).match(/../g) ?? []).join(":").toUpperCase();
    expect(block("X509v3 Subject Key Identifier: ")).toBe(identifier(leaf.subjectKeyIdentifier));
    expect(block("X509v3 Authority Key Identifier: ")).toBe(identifier(root.certificate.subjectKeyIdentifier));
    expect(openssl("asn1parse", "-in", pem)).not.toContain("Error");
  });

  it("is read back by our own parser as it was told", async () => {
    const root = await testRoot();
    const leaf = await testLeaf("ECDSA-P256", { sans: SANS, mustStaple: true });
    const certificate = parseCertificate(await issue(root, leaf));
    expect(certificate).toMatchObject({
      version: 3,
      serial: toHex(leaf.serial),
      notBefore: leaf.notBefore,
      notAfter: leaf.notAfter,
      basicConstraints: { ca: false, pathLen: null },
      keyUsage: ["digitalSignature"],
      extendedKeyUsage: ["serverAuth"],
      subjectAltName: { names: SANS, others: [] },
      crlUrls: ["http://pki.test/crl/0"],
      ocspUrls: ["http://pki.test/ocsp"],
      caIssuersUrls: ["http://pki.test/ca"],
      tlsFeatures: [5],
      ocspNoCheck: false,
      nameConstraints: null,
      unknownCritical: [],
    });
    expect(formatName(certificate.subject)).toBe("CN=a.example");
    expect(toHex(certificate.publicKey.spki)).toBe(toHex(leaf.publicKey.spki));
    expect(equal(certificate.issuer.der, root.certificate.subject.der)).toBe(true);
  });

  it("has a critical SAN exactly when the subject is empty", async () => {
    const root = await testRoot();
    for (const subject of [EMPTY_NAME, encodeName({ common_name: "a.example" })]) {
      const certificate = parseCertificate(await issue(root, await testLeaf("ECDSA-P256", { subject })));
      const san = certificate.extensions.find(({ oid }) => oid === "2.5.29.17");
      expect(san?.critical).toBe(subject === EMPTY_NAME);
    }
  });

  it("has its template golden, octet for octet", async () => {
    const spki = fromHex("302a300506032b6570032100d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    const root = await testRoot("Ed25519", { subject: encodeName({ common_name: "R" }) });
    const template = compileIssuerTemplate({
      issuerCertificate: { subject: root.certificate.subject, subjectKeyIdentifier: new Uint8Array(20).fill(0xaa) },
      signatureAlgorithmIdentifier: fromHex("300506032b6570"),
      ocspUrls: ["http://o"],
      crlUrlsByShard: [["http://c"]],
    });
    const tbs = buildTbsCertificate(template, {
      serial: new Uint8Array([0x7f, 1]),
      notBefore: new Date("2049-12-31T23:59:59Z"),
      notAfter: new Date("2050-01-01T00:00:00Z"),
      subject: EMPTY_NAME,
      publicKey: parseSpki(spki),
      subjectKeyIdentifier: new Uint8Array(20).fill(0xbb),
      sans: [parseSan("a.b")],
      ekus: ["serverAuth"],
      mustStaple: true,
    });
    expect(toHex(tbs)).toBe(
      `3082014ea00302010202027f01300506032b6570300c310a300806035504030c0152` +
        `3020170d3439313233313233353935395a180f32303530303130313030303030305a3000${toHex(spki)}` +
        `a381dd3081da300e0603551d0f0101ff04040302078030130603551d25040c300a06082b06010505070301` +
        `300c0603551d130101ff04023000301d0603551d0e04160414${"bb".repeat(20)}` +
        `301f0603551d23041830168014${"aa".repeat(20)}` +
        `302406082b0601050507010104183016301406082b060105050730018608687474703a2f2f6f` +
        "30110603551d110101ff040730058203612e6230190603551d1f04123010300ea00ca00a8608687474703a2f2f63" +
        "301106082b0601050507011804053003020105",
    );
  });

  it("has the distribution point of its shard's CRL, octet for octet (CA/B BR 7.2.2.1)", async () => {
    const root = await testRoot();
    const leaf = parseCertificate(await issue(root, await testLeaf("ECDSA-P256", { shard: 1 })));
    const { suffix } = planCrl({
      issuer: root.certificate.subject.der,
      algorithmIdentifier: root.signer.algorithmIdentifier,
      thisUpdate: NOT_BEFORE,
      nextUpdate: NOT_AFTER,
      number: 1,
      authorityKeyId: root.certificate.subjectKeyIdentifier ?? random(20),
      distributionPoint: leaf.crlUrls[0] ?? null,
      entriesLength: 0,
    });
    const cdp = leaf.extensions.find(({ oid }) => oid === "2.5.29.31");
    const [point] = children(decode(cdp?.value ?? random(1)));
    expect(leaf.crlUrls).toEqual(["http://pki.test/crl/1"]);
    expect(toHex(suffix)).toContain(toHex(point?.content ?? random(40)));
  });

  it("takes its key usage from its key's type", () => {
    expect(leafKeyUsage("RSA", ["serverAuth"])).toEqual(["digitalSignature", "keyEncipherment"]);
    expect(leafKeyUsage("RSA", ["emailProtection"])).toEqual(["digitalSignature", "keyEncipherment"]);
    expect(leafKeyUsage("RSA", ["clientAuth", "codeSigning", "timeStamping"])).toEqual(["digitalSignature"]);
    expect(leafKeyUsage("ECDSA", ["serverAuth"])).toEqual(["digitalSignature"]);
    expect(leafKeyUsage("Ed25519", ["serverAuth", "emailProtection"])).toEqual(["digitalSignature"]);
  });

  it("refuses a serial that is zero, empty or too long, a shard and an SKI that are none", async () => {
    const root = await testRoot();
    const bad = {
      serial: [new Uint8Array(0), new Uint8Array(3), new Uint8Array(21).fill(1), new Uint8Array(20).fill(0x80)],
    };
    for (const serial of bad.serial) {
      await expect(issue(root, await testLeaf("ECDSA-P256", { serial }))).rejects.toThrow(RangeError);
    }
    await expect(issue(root, await testLeaf("ECDSA-P256", { shard: 2 }))).rejects.toThrow("no CRL shard 2");
    await expect(issue(root, await testLeaf("ECDSA-P256", { subjectKeyIdentifier: random(8) }))).rejects.toThrow(
      RangeError,
    );
  });
});

describe("serials", () => {
  it("have 17 octets, the first 01 to 7f, whatever the random source says", () => {
    for (let octet = 0; octet < 256; octet++) {
      const serial = randomSerial((n) => new Uint8Array(n).fill(octet));
      expect(serial).toHaveLength(17);
      expect(serial[0]).toBeGreaterThan(0);
      expect(serial[0]).toBeLessThan(0x80);
      expect(serial[16]).toBe(octet);
      expect(integer(serial)).toHaveLength(19);
    }
  });
});

describe("CA certificates", () => {
  it("carry the constraints of a root and the pointers of a subordinate", async () => {
    const root = await testRoot("ECDSA-P384", { pathLen: 2 });
    const sub = await testSubordinate(root, "ECDSA-P256", false);
    expect(root.certificate).toMatchObject({
      basicConstraints: { ca: true, pathLen: 2 },
      keyUsage: ["keyCertSign", "cRLSign"],
      extendedKeyUsage: null,
      crlUrls: [],
    });
    expect(root.certificate.authorityKeyIdentifier?.keyIdentifier).toEqual(root.certificate.subjectKeyIdentifier);
    expect(toHex(root.certificate.subjectKeyIdentifier ?? random(1))).toBe(
      toHex(await keyIdentifier(root.keys.publicKey)),
    );
    expect(sub.certificate).toMatchObject({
      basicConstraints: { ca: true, pathLen: 0 },
      keyUsage: ["keyCertSign", "cRLSign"],
      crlUrls: ["http://pki.test/crl/root"],
      ocspUrls: ["http://pki.test/ocsp/root"],
      caIssuersUrls: ["http://pki.test/ca/root"],
    });
    for (const id of ["2.5.29.19", "2.5.29.15"]) {
      expect(sub.certificate.extensions.find(({ oid }) => oid === id)?.critical).toBe(true);
    }
  });

  it("must have a subject and an SKI to issue", async () => {
    const { certificate, signer } = await testRoot();
    const options = { signatureAlgorithmIdentifier: signer.algorithmIdentifier };
    expect(() =>
      compileIssuerTemplate({ ...options, issuerCertificate: { ...certificate, subjectKeyIdentifier: null } }),
    ).toThrow("subjectKeyIdentifier");
  });
});

describe("a certificate of openssl", () => {
  const generate = (config: string): Uint8Array<ArrayBuffer> => {
    const file = scratch.write(
      "x.cnf",
      `[req]\ndistinguished_name=dn\nx509_extensions=v3\nprompt=no\n[dn]\nCN=x\nO=y\n[v3]\n${config}`,
    );
    openssl(
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-days",
      "100",
      "-config",
      file,
      "-keyout",
      scratch.file("x.key"),
      "-outform",
      "DER",
      "-out",
      scratch.file("x.der"),
    );
    return scratch.read("x.der");
  };

  it("is read with all its extensions", () => {
    const parsed = parseCertificate(
      generate(
        "basicConstraints=critical,CA:TRUE,pathlen:3\nkeyUsage=critical,keyCertSign,cRLSign,digitalSignature\n" +
          "extendedKeyUsage=serverAuth,1.2.3.4\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid:always,issuer:always\n" +
          "subjectAltName=DNS:A.example,IP:10.0.0.1,otherName:1.2.3;UTF8:x\nnameConstraints=critical,permitted;DNS:a.example,excluded;IP:10.0.0.0/255.0.0.0\n" +
          "crlDistributionPoints=URI:http://c/1,URI:ldap://c/2\nauthorityInfoAccess=OCSP;URI:http://o/,caIssuers;URI:http://i/\n" +
          "certificatePolicies=1.2.3,2.23.140.1.2.1\ntlsfeature=status_request\n1.2.3.4.5=critical,DER:0500\n",
      ),
    );
    expect(parsed).toMatchObject({
      version: 3,
      basicConstraints: { ca: true, pathLen: 3 },
      keyUsage: ["digitalSignature", "keyCertSign", "cRLSign"],
      extendedKeyUsage: ["serverAuth", "1.2.3.4"],
      subjectAltName: {
        names: [
          { type: "dns", value: "A.example" },
          { type: "ip", value: "10.0.0.1" },
        ],
        others: ["otherName 1.2.3"],
      },
      nameConstraints: {
        permitted: [{ type: "dns", value: "a.example" }],
        excluded: [{ type: "ip", value: "10.0.0.0/8" }],
      },
      crlUrls: ["http://c/1", "ldap://c/2"],
      ocspUrls: ["http://o/"],
      caIssuersUrls: ["http://i/"],
      certificatePolicies: ["1.2.3", "2.23.140.1.2.1"],
      tlsFeatures: [5],
      unknownCritical: ["1.2.3.4.5"],
    });
    expect(parsed.authorityKeyIdentifier).toMatchObject({ namesIssuer: true });
  });

  it("of version 1 is read and chains to itself", async () => {
    const config = scratch.write("v1.cnf", "[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nCN=v1\n");
    openssl(
      "req",
      "-new",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-config",
      config,
      "-keyout",
      scratch.file("v.key"),
      "-out",
      scratch.file("v.csr"),
    );
    openssl(
      "x509",
      "-req",
      "-in",
      scratch.file("v.csr"),
      "-signkey",
      scratch.file("v.key"),
      "-days",
      "9",
      "-outform",
      "DER",
      "-out",
      scratch.file("v.der"),
    );
    const parsed = parseCertificate(scratch.read("v.der"));
    expect(parsed.version).toBe(1);
    expect(await verifyIssued(parsed, parsed)).toBe(true);
  });
});

describe("what is no certificate", () => {
  it("is refused at once: truncated at every octet, with garbage, of indefinite length, of 10 MB", async () => {
    const { certificate } = await testRoot();
    const { der } = certificate;
    for (let n = 0; n < der.length; n++) {
      expect(() => parseCertificate(der.slice(0, n))).toThrow(expect.objectContaining({ code: "der_invalid" }));
    }
    expect(() => parseCertificate(new Uint8Array([...der, 0]))).toThrow("octets after the element");
    const indefinite = new Uint8Array([0x30, 0x80, ...der.subarray(4), 0, 0]);
    expect(() => parseCertificate(indefinite)).toThrow("indefinite length");
    expect(() => parseCertificate(new Uint8Array(10_000_000).fill(0x30))).toThrow("longer than 65536 octets");
    expect(() => parseCertificate(sequence())).toThrow(expect.objectContaining({ code: "der_invalid" }));
    expect(decode(der).bytes).toHaveLength(der.length);
  });

  it("is refused when an extension stands twice, versions lie or fields are too many", async () => {
    const { certificate } = await testRoot();
    const hex = toHex(certificate.der);
    const tampered = (from: string, to: string): Uint8Array<ArrayBuffer> => {
      expect(hex.includes(from)).toBe(true);
      return fromHex(hex.replace(from, to));
    };
    expect(() => parseCertificate(tampered("0603551d0f", "0603551d13"))).toThrow("stands more than once");
    expect(() => parseCertificate(tampered("a003020102", "a003020101"))).toThrow("extensions need version 3");
    expect(() => parseCertificate(tampered("a003020102", "a003020100"))).toThrow("default version");
    expect(() => parseCertificate(tampered("a003020102", "a003020103"))).toThrow("unknown certificate version");
    expect(() => parseCertificate(tampered("0603551d0f0101ff", "0603551d0f010100"))).toThrow("default FALSE");
  });
});
