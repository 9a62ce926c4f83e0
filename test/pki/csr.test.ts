import { afterAll, describe, expect, it } from "vitest";
import { type Bytes, fromHex, toHex } from "../../src/pki/bytes.ts";
import { buildSubordinateRequestInfo, signTbs } from "../../src/pki/certificate.ts";
import { parseCsr, verifyCsr } from "../../src/pki/csr.ts";
import { bitString, boolean, integer, octetString, oid, sequence, set, tlv, utf8String } from "../../src/pki/der.ts";
import { parseSan } from "../../src/pki/general-names.ts";
import { importSigner, KEY_ALGORITHMS, keyIdentifier, parseSpki } from "../../src/pki/keys.ts";
import { parseNameConstraints } from "../../src/pki/name-constraints.ts";
import { encodeName, formatName } from "../../src/pki/names.ts";
import { encodePem } from "../../src/pki/pem.ts";
import { parseRsaPublicKey } from "../../src/pki/spki.ts";
import { makeCsr, microsoftExtras, newKey, RSA_WITHOUT_NULL, rsaSpki } from "../support/csr.ts";
import { keyPair, openssl, random, Scratch } from "./support.ts";

const scratch = new Scratch();
afterAll(() => scratch.dispose());

const KEY_OPTIONS: Readonly<Record<string, readonly string[]>> = {
  "ECDSA-P256": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
  "ECDSA-P384": ["ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
  "ECDSA-P521": ["ec", "-pkeyopt", "ec_paramgen_curve:P-521"],
  "RSA-2048": ["rsa:2048"],
  "RSA-3072": ["rsa:3072"],
  "RSA-4096": ["rsa:4096"],
  Ed25519: ["ed25519"],
};

/** A request of `openssl req`. */
function request(config: string, options: readonly string[] = [], key = KEY_OPTIONS["ECDSA-P256"] ?? []): Bytes {
  const file = scratch.write("r.cnf", `[req]\ndistinguished_name=dn\nprompt=no\nstring_mask=utf8only\n${config}`);
  openssl(
    "req",
    "-new",
    "-newkey",
    ...key,
    "-nodes",
    "-config",
    file,
    "-keyout",
    scratch.file("r.key"),
    "-outform",
    "DER",
    "-out",
    scratch.file("r.der"),
    ...options,
  );
  return scratch.read("r.der");
}

describe("a request of openssl", () => {
  it.each(KEY_ALGORITHMS)("%s: parsed, possession proven", async (algorithm) => {
    const csr = parseCsr(request("[dn]\nCN=a.example\n", [], KEY_OPTIONS[algorithm]));
    expect(csr.publicKey.name).toBe(algorithm);
    expect(csr.commonName).toBe("a.example");
    expect(csr).toMatchObject({ sans: [], extensionOids: [], attributeOids: [], isCa: false, requestedEkus: [] });
    expect(await verifyCsr(csr)).toBe(true);
    const last = csr.info.length - 1;
    const other = { ...csr, info: csr.info.map((octet, i) => (i === last - 40 ? octet ^ 1 : octet)) };
    expect(await verifyCsr(other)).toBe(false);
    const { publicKey } = await keyPair("ECDSA-P256", "foreign");
    expect(await verifyCsr({ ...csr, publicKey })).toBe(false);
  });

  it.each([
    ["its longest salt", "-2"],
    ["the digest's length", "-1"],
    ["32", "32"],
    ["none", "0"],
    ["20, the default of the standard", "20"],
  ])("RSASSA-PSS with a salt of %s", async (_, salt) => {
    const options = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", `rsa_pss_saltlen:${salt}`];
    const csr = parseCsr(request("[dn]\nCN=a.example\n", options, KEY_OPTIONS["RSA-2048"]));
    expect(await verifyCsr(csr)).toBe(true);
  });

  it.each(["sha384", "sha512"])("RSA and ECDSA with %s", async (hash) => {
    for (const key of ["RSA-2048", "ECDSA-P256"]) {
      expect(await verifyCsr(parseCsr(request("[dn]\nCN=a\n", [`-${hash}`], KEY_OPTIONS[key])))).toBe(true);
    }
  });

  it("signed with SHA-1 is refused", async () => {
    const csr = parseCsr(request("[dn]\nCN=a\n", ["-sha1"], KEY_OPTIONS["RSA-2048"]));
    await expect(verifyCsr(csr)).rejects.toThrow(expect.objectContaining({ code: "unsupported_algorithm" }));
  });

  it("gives away everything that it asks for", () => {
    const csr = parseCsr(
      request(
        "req_extensions=v3\nattributes=at\n[at]\nchallengePassword=secret1\nunstructuredName=x\n[dn]\nC=CH\nO=Corp\nCN=a.example\n[v3]\n" +
          "subjectAltName=DNS:A.example,DNS:a.example,DNS:*.b.example,IP:10.0.0.1,IP:2001:DB8::1,email:x@B.example,URI:https://U.example/x,otherName:1.3.6.1.4.1.311.20.2.3;UTF8:u\n" +
          "basicConstraints=CA:TRUE\nkeyUsage=keyCertSign,digitalSignature\nextendedKeyUsage=serverAuth,1.2.3.4\ntlsfeature=status_request\n1.2.3.4.5=DER:0500\n",
      ),
    );
    expect(csr).toMatchObject({
      commonName: "a.example",
      sans: ["a.example", "*.b.example", "10.0.0.1", "2001:db8::1", "x@b.example", "https://u.example/x"].map(parseSan),
      otherNames: ["otherName 1.3.6.1.4.1.311.20.2.3"],
      requestedEkus: ["serverAuth", "1.2.3.4"],
      isCa: true,
      mustStaple: true,
      extensionOids: ["2.5.29.17", "2.5.29.19", "2.5.29.15", "2.5.29.37", "1.3.6.1.5.5.7.1.24", "1.2.3.4.5"],
      ignored: [
        "subject attribute C",
        "subject attribute O",
        "extension keyUsage (2.5.29.15)",
        "extension 1.2.3.4.5",
        "attribute unstructuredName (1.2.840.113549.1.9.2)",
        "attribute challengePassword (1.2.840.113549.1.9.7)",
      ],
      challengePassword: "secret1",
    });
    expect(new Set(csr.attributeOids)).toEqual(
      new Set(["1.2.840.113549.1.9.14", "1.2.840.113549.1.9.7", "1.2.840.113549.1.9.2"]),
    );
    expect(formatName(csr.subject)).toBe("CN=a.example,O=Corp,C=CH");
  });

  it("is read as PEM, alone", () => {
    const der = request("[dn]\nCN=a.example\n");
    const pem = encodePem("CERTIFICATE REQUEST", der);
    expect(toHex(parseCsr(pem).der)).toBe(toHex(der));
    expect(toHex(parseCsr(encodePem("NEW CERTIFICATE REQUEST", der)).der)).toBe(toHex(der));
    expect(() => parseCsr(pem + pem)).toThrow("exactly one");
    expect(() => parseCsr(encodePem("CERTIFICATE", der))).toThrow("found CERTIFICATE");
    expect(() => parseCsr("nonsense")).toThrow(expect.objectContaining({ code: "invalid_encoding" }));
  });
});

describe("a request that real clients send", () => {
  it("from IIS and certreq: what is not certified is named", async () => {
    const pem = await makeCsr({ commonName: "iis.example", sans: ["iis.example"], ...microsoftExtras() });
    const csr = parseCsr(pem.replaceAll("\n", "\r\n"));
    expect(await verifyCsr(csr)).toBe(true);
    expect(csr.sans).toEqual([parseSan("iis.example")]);
    expect(csr.ignored).toEqual([
      "extension keyUsage (2.5.29.15)",
      "extension sMIMECapabilities (1.2.840.113549.1.9.15)",
      "extension subjectKeyIdentifier (2.5.29.14)",
      "extension authorityKeyIdentifier (2.5.29.35)",
      "extension Microsoft certificate template (1.3.6.1.4.1.311.21.7)",
      "extension nsComment (2.16.840.1.113730.1.13)",
      "attribute Microsoft OS version (1.3.6.1.4.1.311.13.2.3)",
      "attribute Microsoft client information (1.3.6.1.4.1.311.21.20)",
    ]);
  });

  it("without attributes, and with FALSE written out", async () => {
    const bare = parseCsr(await makeCsr({ commonName: "a.example", withoutAttributes: true }));
    expect(await verifyCsr(bare)).toBe(true);
    expect(bare).toMatchObject({ sans: [], ignored: [] });
    const basic = sequence(oid("2.5.29.19"), octetString(sequence(boolean(false))));
    const explicit = parseCsr(await makeCsr({ sans: ["a.example"], explicitFalse: true, extensions: [basic] }));
    expect(await verifyCsr(explicit)).toBe(true);
    expect(explicit).toMatchObject({ sans: [parseSan("a.example")], isCa: false, ignored: [] });
  });

  it("with sha256WithRSAEncryption that has no parameters", async () => {
    const key = await newKey("RSA-2048");
    const csr = parseCsr(await makeCsr({ key, commonName: "a.example", signatureAlgorithm: RSA_WITHOUT_NULL }));
    expect(await verifyCsr(csr)).toBe(true);
  });

  it("an RSA exponent that cannot be used is named before the signature is judged", async () => {
    const key = await newKey("RSA-2048");
    const { modulus } = parseRsaPublicKey(parseSpki(key.spki).keyBits);
    const csr = parseCsr(await makeCsr({ key, commonName: "a.example", spki: rsaSpki(modulus, 65_539) }));
    await expect(verifyCsr(csr)).rejects.toThrow("exponent 65539");
  });

  it("a key that is encoded wrongly is refused for that", async () => {
    const key = await newKey("RSA-2048");
    const { modulus } = parseRsaPublicKey(parseSpki(key.spki).keyBits);
    const ec = (await newKey()).spki;
    const compressed = sequence(
      sequence(oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7")),
      bitString(new Uint8Array([2, ...ec.subarray(-64, -32)])),
    );
    const cases: readonly [Bytes, string][] = [
      [rsaSpki(modulus, 65_537, { null: true }), "without its NULL"],
      [rsaSpki(modulus, 65_537, { sign: true }), "sign octet"],
      [compressed, "compressed"],
    ];
    for (const [spki, message] of cases) {
      const pem = await makeCsr({ commonName: "a.example", spki });
      expect(() => parseCsr(pem)).toThrow(message);
    }
  });
});

describe("a request that is made here for a subordinate", () => {
  it.each(KEY_ALGORITHMS)("%s: openssl verifies it", async (algorithm) => {
    const keys = await keyPair(algorithm);
    const info = buildSubordinateRequestInfo({
      subject: encodeName({ common_name: "Sub", organization: "Corp" }),
      publicKey: keys.publicKey,
      subjectKeyIdentifier: await keyIdentifier(keys.publicKey),
      pathLen: 0,
      nameConstraints: parseNameConstraints([{ permitted: ["DNS:corp.example"] }]),
    });
    const der = await signTbs(info, await importSigner(keys.pkcs8, { pss: algorithm === "RSA-3072" }));
    const file = scratch.write("s.der", der);
    const text = openssl("req", "-inform", "DER", "-in", file, "-verify", "-noout", "-text").replace(/^ +/gm, "");
    expect(text).toContain("X509v3 Basic Constraints: critical\nCA:TRUE, pathlen:0");
    expect(text).toContain("X509v3 Key Usage: critical\nCertificate Sign, CRL Sign");
    expect(text).toContain("Permitted:\nDNS:corp.example");
    const csr = parseCsr(der);
    expect(await verifyCsr(csr)).toBe(true);
    expect(csr.isCa).toBe(true);
  });
});

describe("what is no request", () => {
  /** CertificationRequestInfo of parts, with a signature of nobody. */
  async function forged(parts: { version?: Bytes; subject?: Bytes; attributes?: Bytes }): Promise<Bytes> {
    const { spki } = await keyPair("ECDSA-P256");
    const info = sequence(
      parts.version ?? integer(0),
      parts.subject ?? encodeName({ common_name: "a" }),
      spki,
      parts.attributes ?? fromHex("a000"),
    );
    return sequence(info, sequence(oid("1.2.840.10045.4.3.2")), fromHex("030100"));
  }
  const attributes = (...values: Bytes[]): Bytes => tlv(0xa0, ...values);
  const attribute = (id: string, ...values: Bytes[]): Bytes => sequence(oid(id), set(...values));
  const asking = (...extensions: Bytes[]): Bytes =>
    attributes(attribute("1.2.840.113549.1.9.14", sequence(...extensions)));
  const san = (hex: string): Bytes => sequence(oid("2.5.29.17"), octetString(fromHex(hex)));

  it("is refused with its typed error", async () => {
    const twice = sequence(
      set(sequence(oid("2.5.4.3"), utf8String("a"))),
      set(sequence(oid("2.5.4.3"), utf8String("b"))),
    );
    const dns = (name: string): Bytes =>
      san(
        `30${(name.length + 2).toString(16).padStart(2, "0")}82${name.length.toString(16).padStart(2, "0")}${Buffer.from(name).toString("hex")}`,
      );
    const cases: readonly [Bytes, string][] = [
      [await forged({ version: integer(1) }), "csr_invalid"],
      [await forged({ subject: twice }), "csr_invalid"],
      [await forged({ attributes: attributes(attribute("1.2.3")) }), "der_invalid"],
      [
        await forged({ attributes: attributes(attribute("1.2.3", integer(1)), attribute("1.2.3", integer(1))) }),
        "csr_invalid",
      ],
      [await forged({ attributes: asking(dns("a.b"), dns("a.c")) }), "certificate_invalid"],
      [await forged({ attributes: asking(dns("a..b")) }), "invalid_name"],
      [await forged({ attributes: asking(dns("a.*.b")) }), "invalid_name"],
      [await forged({ attributes: asking(dns("a\u0000.b")) }), "der_invalid"],
      [await forged({ attributes: asking(san("3000")) }), "der_invalid"],
      [await forged({ attributes: asking(san("30048702 0a00".replace(" ", ""))) }), "der_invalid"],
      [await forged({ attributes: asking(san("3003820161ff")) }), "der_invalid"],
    ];
    for (const [der, code] of cases) {
      expect(() => parseCsr(der), toHex(der)).toThrow(expect.objectContaining({ code }));
    }
    expect(await verifyCsr(parseCsr(await forged({})))).toBe(false);
  });

  it("is refused at once: truncated at every octet, with garbage, of indefinite length, of 10 MB", () => {
    const der = request("[dn]\nCN=a.example\n");
    for (let n = 0; n < der.length; n++) {
      expect(() => parseCsr(der.slice(0, n))).toThrow(expect.objectContaining({ code: "der_invalid" }));
    }
    expect(() => parseCsr(new Uint8Array([...der, 0]))).toThrow("octets after the element");
    expect(() => parseCsr(new Uint8Array([0x30, 0x80, ...der.subarray(3), 0, 0]))).toThrow("indefinite length");
    expect(() => parseCsr(random(10).map(() => 0x30))).toThrow(expect.objectContaining({ code: "der_invalid" }));
    expect(() => parseCsr(new Uint8Array(10_000_000).fill(0x30))).toThrow("longer than 65536 octets");
    expect(() => parseCsr("A".repeat(10_000_000))).toThrow("longer than");
  });
});
