import { constants, createPublicKey, verify as nodeVerify } from "node:crypto";
import { afterAll, describe, expect, it } from "vitest";
import { ascii, type Bytes, equal, fromHex, toHex } from "../../src/pki/bytes.ts";
import { integer, NULL, octetString, oid, sequence } from "../../src/pki/der.ts";
import {
  encodeSignatureAlgorithm,
  generateKeyPair,
  importSigner,
  importStreamSigner,
  isKeyPair,
  KEY_ALGORITHMS,
  type KeyAlgorithm,
  keyIdentifier,
  parsePrivateKey,
  parseSignatureAlgorithm,
  parseSpki,
  publicKeyOf,
  verify,
} from "../../src/pki/keys.ts";
import { privateKeyFromPem } from "../../src/pki/pem.ts";
import { ecdsaFromDer, ecdsaToDer } from "../../src/pki/signing.ts";
import { keyPair, openssl, Scratch } from "./support.ts";

const scratch = new Scratch();
afterAll(() => scratch.dispose());

const DATA = ascii("to be signed");

/** What Node's OpenSSL says of a signature that is ours. */
function nodeAccepts(spki: Bytes, algorithm: KeyAlgorithm, pss: boolean, signature: Bytes): boolean {
  const key = createPublicKey({ key: Buffer.from(spki), format: "der", type: "spki" });
  const hash = { "ECDSA-P384": "sha384", "ECDSA-P521": "sha512", Ed25519: null }[algorithm as string];
  const padding = pss ? { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 } : {};
  return nodeVerify(hash === undefined ? "sha256" : hash, DATA, { key, ...padding }, signature);
}

const CASES = KEY_ALGORITHMS.flatMap((algorithm) =>
  (algorithm.startsWith("RSA") ? [false, true] : [false]).map((pss) => ({ algorithm, pss })),
);

describe("keys of every algorithm", () => {
  it.each(CASES)(
    "$algorithm, PSS $pss: signs what Node's OpenSSL verifies, whole and streamed",
    async ({ algorithm, pss }) => {
      const { spki, pkcs8, publicKey } = await keyPair(algorithm);
      expect(publicKey.name).toBe(algorithm);
      const signer = await importSigner(pkcs8, { pss });
      const signature = await signer.sign(DATA);
      expect(nodeAccepts(spki, algorithm, pss, signature)).toBe(true);
      expect(await verify(publicKey, signer.algorithmIdentifier, signature, DATA)).toBe(true);
      expect(await verify(publicKey, signer.algorithmIdentifier, signature, ascii("to be Signed"))).toBe(false);
      expect(await verify(publicKey, signer.algorithmIdentifier, signature.subarray(1), DATA)).toBe(false);

      const streamed = importStreamSigner(pkcs8, { pss });
      expect(streamed.streams).toBe(algorithm !== "Ed25519");
      streamed.update(DATA.subarray(0, 5));
      streamed.update(DATA.subarray(5));
      expect(toHex(streamed.algorithmIdentifier)).toBe(toHex(signer.algorithmIdentifier));
      expect(await verify(publicKey, streamed.algorithmIdentifier, streamed.finish(), DATA)).toBe(true);

      expect(toHex(await publicKeyOf(pkcs8))).toBe(toHex(spki));
      expect(await isKeyPair(publicKey, pkcs8)).toBe(true);
    },
  );

  it("tells a key that belongs to another certificate", async () => {
    const [own, other, third] = await Promise.all([
      keyPair("ECDSA-P256"),
      keyPair("ECDSA-P256", "b"),
      keyPair("Ed25519"),
    ]);
    expect(await isKeyPair(own.publicKey, other.pkcs8)).toBe(false);
    expect(await isKeyPair(own.publicKey, third.pkcs8)).toBe(false);
  });

  it("does not verify by an algorithm that does not fit the key", async () => {
    const { publicKey } = await keyPair("ECDSA-P256");
    const rsa = encodeSignatureAlgorithm({ kind: "rsa", hash: "SHA-256" });
    expect(await verify(publicKey, rsa, new Uint8Array(64), DATA)).toBe(false);
  });

  it("names a key by the leftmost 160 bits of SHA-256 of its bits (RFC 7093)", async () => {
    const { publicKey } = await keyPair("ECDSA-P256");
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", publicKey.keyBits));
    expect(toHex(await keyIdentifier(publicKey))).toBe(toHex(digest.subarray(0, 20)));
  });
});

describe("AlgorithmIdentifiers", () => {
  // CA/B Baseline Requirements 7.1.3.2, octet for octet.
  const golden = {
    "ECDSA-P256": "300a06082a8648ce3d040302",
    "ECDSA-P384": "300a06082a8648ce3d040303",
    "ECDSA-P521": "300a06082a8648ce3d040304",
    "RSA-2048": "300d06092a864886f70d01010b0500",
    Ed25519: "300506032b6570",
  } as const;

  it.each(Object.entries(golden))("%s", async (algorithm, wanted) => {
    const { pkcs8 } = await keyPair(algorithm as KeyAlgorithm);
    expect(toHex((await importSigner(pkcs8)).algorithmIdentifier)).toBe(wanted);
  });

  it("RSASSA-PSS with SHA-256, MGF1 with SHA-256 and a salt of 32 octets", async () => {
    const { pkcs8 } = await keyPair("RSA-2048");
    expect(toHex((await importSigner(pkcs8, { pss: true })).algorithmIdentifier)).toBe(
      "304106092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120",
    );
  });

  it("reads what it writes", () => {
    for (const hash of ["SHA-256", "SHA-384", "SHA-512"] as const) {
      for (const scheme of [
        { kind: "ecdsa", hash },
        { kind: "rsa", hash },
        { kind: "pss", hash, saltLength: 32 },
        { kind: "pss", hash, saltLength: 20 },
        { kind: "pss", hash, saltLength: 222 },
      ] as const) {
        expect(parseSignatureAlgorithm(encodeSignatureAlgorithm(scheme))).toEqual(scheme);
      }
    }
  });

  it.each([
    ["sha1WithRSAEncryption", sequence(oid("1.2.840.113549.1.1.5"), NULL), "unsupported_algorithm"],
    ["md5WithRSAEncryption", sequence(oid("1.2.840.113549.1.1.4"), NULL), "unsupported_algorithm"],
    ["ecdsa-with-SHA1", sequence(oid("1.2.840.10045.4.1")), "unsupported_algorithm"],
    [
      "RSASSA-PSS with all defaults (SHA-1)",
      sequence(oid("1.2.840.113549.1.1.10"), sequence()),
      "unsupported_algorithm",
    ],
    ["RSA with another parameter", sequence(oid("1.2.840.113549.1.1.11"), integer(1)), "der_invalid"],
    ["ECDSA with NULL", sequence(oid("1.2.840.10045.4.3.2"), NULL), "der_invalid"],
    ["Ed25519 with NULL", sequence(oid("1.3.101.112"), NULL), "der_invalid"],
    ["RSASSA-PSS without parameters", sequence(oid("1.2.840.113549.1.1.10")), "der_invalid"],
    [
      "RSASSA-PSS whose MGF1 uses another hash",
      fromHex(
        "304106092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f70d010108300d06096086480165030402020500a203020120",
      ),
      "unsupported_algorithm",
    ],
  ])("refuses %s", (_, der, code) => {
    expect(() => parseSignatureAlgorithm(der)).toThrow(expect.objectContaining({ code }));
  });
});

describe("SubjectPublicKeyInfo", () => {
  const make = (...options: readonly string[]): Bytes => {
    const key = scratch.file("k.pem");
    openssl("genpkey", ...options, "-out", key);
    openssl("pkey", "-in", key, "-pubout", "-outform", "DER", "-out", scratch.file("k.der"));
    return scratch.read("k.der");
  };

  it.each([
    ["RSASSA-PSS keys", ["-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"], "id-RSASSA-PSS key"],
    ["secp256k1", ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"], "unknown curve 1.3.132.0.10"],
    ["brainpool", ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:brainpoolP256r1"], "unknown curve"],
    [
      "explicit curve parameters",
      ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"],
      "explicit curve parameters",
    ],
    ["Ed448", ["-algorithm", "ED448"], "unsupported key algorithm"],
    ["X25519", ["-algorithm", "X25519"], "unsupported key algorithm"],
  ])("refuses %s", (_, options, message) => {
    const spki = make(...options);
    expect(() => parseSpki(spki)).toThrow(expect.objectContaining({ code: "unsupported_algorithm" }));
    expect(() => parseSpki(spki)).toThrow(message);
  });

  it("refuses a compressed point", () => {
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", scratch.file("c.pem"));
    openssl(
      "ec",
      "-in",
      scratch.file("c.pem"),
      "-pubout",
      "-conv_form",
      "compressed",
      "-outform",
      "DER",
      "-out",
      scratch.file("c.der"),
    );
    expect(() => parseSpki(scratch.read("c.der"))).toThrow("uncompressed");
  });

  it("refuses RSA without NULL, a point of the wrong length and octets behind the key", async () => {
    const { spki } = await keyPair("ECDSA-P256");
    const { publicKey: rsa } = await keyPair("RSA-2048");
    const bits = (content: Bytes): Bytes => octetString(new Uint8Array(1), content).map((o, i) => (i === 0 ? 3 : o));
    expect(() => parseSpki(sequence(sequence(oid("1.2.840.113549.1.1.1")), bits(rsa.keyBits)))).toThrow(
      expect.objectContaining({ code: "der_invalid" }),
    );
    const more = new Uint8Array([...rsa.keyBits, 0]);
    expect(() => parseSpki(sequence(sequence(oid("1.2.840.113549.1.1.1"), NULL), bits(more)))).toThrow(
      "after the element",
    );
    const p256 = sequence(oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7"));
    expect(() => parseSpki(sequence(p256, bits(spki.subarray(-65, -1))))).toThrow("wrong length");
    expect(() => parseSpki(sequence(p256, bits(spki.subarray(-65)), NULL))).toThrow("an element too many");
    const flags = spki.slice();
    flags[25] = 1;
    expect(() => parseSpki(flags)).toThrow(expect.objectContaining({ code: "der_invalid" }));
  });
});

describe("private keys that users bring", () => {
  it.each([
    ["RSA", ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]],
    ["P-384", ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]],
    ["Ed25519", ["-algorithm", "ED25519"]],
  ])("reads PKCS#8 of openssl: %s", async (_, options) => {
    const pem = openssl("genpkey", ...options);
    const spki = openssl("pkey", "-in", scratch.write("k.pem", pem), "-pubout", "-outform", "PEM");
    const own = await publicKeyOf(privateKeyFromPem(pem));
    expect(spki.replace(/-----[^-]+-----|\n/g, "")).toBe(Buffer.from(own).toString("base64"));
  });

  it("wraps PKCS#1 and SEC 1 keys and refuses encrypted ones", async () => {
    const rsa = openssl("genrsa", "-traditional", "2048");
    expect(rsa).toContain("BEGIN RSA PRIVATE KEY");
    expect(parseSpki(await publicKeyOf(privateKeyFromPem(rsa))).name).toBe("RSA-2048");
    const ec = openssl("ecparam", "-name", "secp521r1", "-genkey");
    expect(ec).toContain("BEGIN EC PRIVATE KEY");
    expect(parseSpki(await publicKeyOf(privateKeyFromPem(ec))).name).toBe("ECDSA-P521");
    const file = scratch.write("e.pem", ec);
    const encrypted = openssl("pkcs8", "-topk8", "-in", file, "-passout", "pass:x");
    expect(() => privateKeyFromPem(encrypted)).toThrow("encrypted");
    const legacy = openssl("ec", "-in", file, "-aes128", "-passout", "pass:x");
    expect(() => privateKeyFromPem(legacy)).toThrow("encrypted");
    expect(() => privateKeyFromPem(`${ec}${ec}`)).toThrow("exactly one");
  });

  it("refuses a key whose octets are none, and reduces version 1 (RFC 5958) to version 0", async () => {
    const broken = sequence(integer(0), sequence(oid("1.3.101.112")), octetString(octetString(new Uint8Array(31))));
    await expect(importSigner(broken)).rejects.toThrow(expect.objectContaining({ code: "der_invalid" }));
    const { pkcs8, spki } = await generateKeyPair("Ed25519");
    const seed = pkcs8.subarray(-34);
    const point = new Uint8Array([0x81, 33, 0, ...spki.subarray(-32)]);
    const version1 = sequence(integer(1), sequence(oid("1.3.101.112")), octetString(seed), point);
    expect(toHex(parsePrivateKey(version1).pkcs8)).toBe(toHex(pkcs8));
    expect(equal(await publicKeyOf(version1), spki)).toBe(true);
  });
});

describe("ECDSA signature values", () => {
  it("convert both ways with short and high values", () => {
    const raw = new Uint8Array(64);
    raw[31] = 1;
    raw[32] = 0x80;
    const der = ecdsaToDer(raw);
    expect(toHex(der).startsWith("3026020101022100800000")).toBe(true);
    expect(toHex(ecdsaFromDer(der, 32))).toBe(toHex(raw));
  });

  it("refuse what is not strict", () => {
    expect(() => ecdsaFromDer(fromHex("300702020001020101"), 32)).toThrow("not minimal");
    expect(() => ecdsaFromDer(fromHex("3006020181020101"), 32)).toThrow("negative");
    expect(() => ecdsaFromDer(sequence(integer(new Uint8Array(33).fill(1)), integer(1)), 32)).toThrow("too large");
    expect(() => ecdsaFromDer(fromHex("300602010102010100"), 32)).toThrow("after the element");
  });
});
