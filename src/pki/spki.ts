import type { Bytes } from "./bytes.ts";
import {
  bitStringOf,
  children,
  decode,
  type Element,
  integerBytes,
  NULL,
  octetString,
  oid,
  oidOf,
  Reader,
  sequence,
  TAG,
} from "./der.ts";
import { DerError, UnsupportedError } from "./errors.ts";

/** The key algorithms generated and certified here, by their names on the wire. */
export type KeyAlgorithm =
  | "ECDSA-P256"
  | "ECDSA-P384"
  | "ECDSA-P521"
  | "RSA-2048"
  | "RSA-3072"
  | "RSA-4096"
  | "Ed25519";

/** All of them, in the order offered. */
export const KEY_ALGORITHMS: readonly KeyAlgorithm[] = [
  "ECDSA-P256",
  "ECDSA-P384",
  "ECDSA-P521",
  "RSA-2048",
  "RSA-3072",
  "RSA-4096",
  "Ed25519",
];

export type CurveName = "P-256" | "P-384" | "P-521";

/** A strictly parsed SubjectPublicKeyInfo. */
export interface PublicKeyInfo {
  /** The whole SubjectPublicKeyInfo, DER. */
  readonly spki: Bytes;
  readonly algorithm: "RSA" | "ECDSA" | "Ed25519";
  /** In bits: the RSA modulus, the curve's field (256, 384, 521), 256 for Ed25519. */
  readonly size: number;
  /** Content of the subjectPublicKey BIT STRING, the input of key identifiers. */
  readonly keyBits: Bytes;
  /** A KeyAlgorithm, or a name such as `RSA-2056` for other sizes. */
  readonly name: KeyAlgorithm | (string & {});
}

/** RSAPublicKey of RFC 8017 appendix A.1.1, unsigned big-endian. */
export interface RsaPublicKey {
  readonly modulus: Bytes;
  readonly exponent: Bytes;
}

export const OID_RSA = "1.2.840.113549.1.1.1";
export const OID_RSASSA_PSS = "1.2.840.113549.1.1.10";
export const OID_EC = "1.2.840.10045.2.1";
export const OID_ED25519 = "1.3.101.112";

const CURVES: Readonly<Record<string, { name: CurveName; size: number }>> = {
  "1.2.840.10045.3.1.7": { name: "P-256", size: 256 },
  "1.3.132.0.34": { name: "P-384", size: 384 },
  "1.3.132.0.35": { name: "P-521", size: 521 },
};

/** Bits of an unsigned big-endian number without leading zero octets. */
export function bitLength(magnitude: Uint8Array): number {
  const first = magnitude[0] ?? 0;
  return first === 0 ? 0 : (magnitude.length - 1) * 8 + (32 - Math.clz32(first));
}

/** The key algorithm in the AlgorithmIdentifier of a public or private key (RFC 3279, 5480, 8410). */
export function keyAlgorithmOf(algorithm: Element): {
  algorithm: "RSA" | "ECDSA" | "Ed25519";
  curve: CurveName | null;
  size: number;
} {
  const reader = new Reader(algorithm);
  const id = oidOf(reader.next(TAG.OID));
  if (id === OID_RSA) {
    if (!reader.more) throw new DerError("rsaEncryption without its NULL parameters (RFC 3279 section 2.3.1)");
    if (reader.next(TAG.NULL).content.length !== 0) throw new DerError("NULL with content");
    reader.end();
    return { algorithm: "RSA", curve: null, size: 0 };
  }
  if (id === OID_ED25519) {
    reader.end();
    return { algorithm: "Ed25519", curve: null, size: 256 };
  }
  if (id === OID_EC) {
    const parameters = reader.next();
    reader.end();
    if (parameters.tag !== TAG.OID) throw new UnsupportedError("EC key with explicit curve parameters: name the curve");
    const curve = CURVES[oidOf(parameters)];
    if (curve === undefined) {
      throw new UnsupportedError(`unknown curve ${oidOf(parameters)}: use P-256, P-384 or P-521`);
    }
    return { algorithm: "ECDSA", curve: curve.name, size: curve.size };
  }
  if (id === OID_RSASSA_PSS) {
    throw new UnsupportedError(
      "id-RSASSA-PSS key: encode the key as rsaEncryption; PSS signatures are accepted with it",
    );
  }
  throw new UnsupportedError(`unsupported key algorithm ${id}: use RSA, ECDSA on P-256, P-384 or P-521, or Ed25519`);
}

/** RSAPublicKey from the content of a subjectPublicKey BIT STRING; throws DerError. */
export function parseRsaPublicKey(keyBits: Bytes): RsaPublicKey {
  const reader = new Reader(decode(keyBits));
  const modulusElement = reader.next(TAG.INTEGER);
  if ((modulusElement.content[0] ?? 0) >= 0x80) {
    throw new DerError("RSA modulus is negative: its sign octet 00 is missing");
  }
  const modulus = integerBytes(modulusElement);
  const exponent = integerBytes(reader.next(TAG.INTEGER));
  reader.end();
  return { modulus, exponent };
}

/**
 * Parses a SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7): rsaEncryption with NULL, id-ecPublicKey with a named curve
 * and an uncompressed point, id-Ed25519. Throws DerError if it is malformed and UnsupportedError for any other
 * algorithm. Does not check the key's strength: see `assertStrongKey`.
 */
export function parseSpki(der: Bytes): PublicKeyInfo {
  return spkiOf(decode(der));
}

/** The same for an element of an already decoded tree. */
export function spkiOf(element: Element): PublicKeyInfo {
  if (element.tag !== TAG.SEQUENCE) throw new DerError("SubjectPublicKeyInfo must be a SEQUENCE");
  const reader = new Reader(element);
  const { algorithm, size } = keyAlgorithmOf(reader.next(TAG.SEQUENCE));
  const { bytes: keyBits, unused } = bitStringOf(reader.next(TAG.BIT_STRING));
  reader.end();
  if (unused !== 0) throw new DerError("subjectPublicKey must be whole octets");
  const spki = element.bytes;
  if (algorithm === "RSA") {
    const bits = bitLength(parseRsaPublicKey(keyBits).modulus);
    return { spki, algorithm, size: bits, keyBits, name: `RSA-${bits}` };
  }
  if (algorithm === "Ed25519") {
    if (keyBits.length !== 32) throw new DerError("Ed25519 public key must be 32 octets");
    return { spki, algorithm, size, keyBits, name: "Ed25519" };
  }
  if (keyBits[0] === 0x02 || keyBits[0] === 0x03) {
    throw new UnsupportedError("EC point is compressed: write it uncompressed (openssl ec -conv_form uncompressed)");
  }
  if (keyBits[0] !== 0x04) throw new UnsupportedError("EC point must be uncompressed");
  if (keyBits.length !== 1 + 2 * Math.ceil(size / 8)) throw new DerError("EC point has the wrong length for its curve");
  return { spki, algorithm, size, keyBits, name: `ECDSA-P${size}` };
}

/** The WebCrypto name of an ECDSA key's curve. */
export function curveOf(size: number): CurveName {
  return size === 256 ? "P-256" : size === 384 ? "P-384" : "P-521";
}

/** A PrivateKeyInfo of RFC 5958 reduced to version 0 without attributes: the form that every WebCrypto imports. */
export interface PrivateKey {
  readonly pkcs8: Bytes;
  readonly algorithm: "RSA" | "ECDSA" | "Ed25519";
  readonly curve: CurveName | null;
}

/**
 * Strictly parses PKCS#8 (RFC 5958, version 0 or 1); throws DerError or UnsupportedError. Does not parse the key
 * itself.
 */
export function parsePrivateKey(pkcs8: Bytes): PrivateKey {
  const reader = new Reader(decode(pkcs8));
  const version = reader.next(TAG.INTEGER);
  if (version.content.length !== 1 || (version.content[0] as number) > 1) throw new DerError("PrivateKeyInfo version");
  const identifier = reader.next(TAG.SEQUENCE);
  const { algorithm, curve } = keyAlgorithmOf(identifier);
  const key = reader.next(TAG.OCTET_STRING);
  reader.optional(0xa0);
  reader.optional(0x81);
  reader.end();
  return { pkcs8: sequence(new Uint8Array([2, 1, 0]), identifier.bytes, key.bytes), algorithm, curve };
}

/** PKCS#8 around an RSAPrivateKey of PKCS#1 (RFC 8017 appendix A.1.2). */
export function pkcs8FromRsa(rsaPrivateKey: Bytes): Bytes {
  return wrapPrivateKey(sequence(oid(OID_RSA), NULL), decode(rsaPrivateKey));
}

/** PKCS#8 around an ECPrivateKey of SEC 1 (RFC 5915), which must name its curve. */
export function pkcs8FromEc(ecPrivateKey: Bytes): Bytes {
  const key = decode(ecPrivateKey);
  const parameters = children(key).find((element) => element.tag === 0xa0);
  if (parameters === undefined) throw new UnsupportedError("EC private key that does not name its curve");
  return wrapPrivateKey(sequence(oid(OID_EC), parameters.content), key);
}

function wrapPrivateKey(algorithm: Bytes, key: Element): Bytes {
  const wrapped = sequence(new Uint8Array([2, 1, 0]), algorithm, octetString(key.bytes));
  parsePrivateKey(wrapped);
  return wrapped;
}
