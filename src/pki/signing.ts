import { type Bytes, digest, equal, fromHex, toHex } from "./bytes.ts";
import {
  context,
  decode,
  integer,
  integerBytes,
  NULL,
  oid,
  oidOf,
  Reader,
  sequence,
  smallInteger,
  TAG,
} from "./der.ts";
import { DerError, UnsupportedError } from "./errors.ts";
import {
  type CurveName,
  curveOf,
  type KeyAlgorithm,
  type PublicKeyInfo,
  parsePrivateKey,
  parseRsaPublicKey,
} from "./spki.ts";

/** Signs with a private key that cannot be read back. */
export interface Signer {
  /** DER AlgorithmIdentifier of its signatures. */
  readonly algorithmIdentifier: Bytes;
  /** The content of the X.509 signature BIT STRING over the data: ECDSA-Sig-Value DER, the RSA or the Ed25519 signature. */
  sign(data: Bytes): Promise<Bytes>;
}

type Hash = "SHA-256" | "SHA-384" | "SHA-512";

/** How a signature is made or checked, as its AlgorithmIdentifier says. */
export type SignatureScheme =
  | { readonly kind: "ecdsa"; readonly hash: Hash }
  | { readonly kind: "rsa"; readonly hash: Hash }
  | { readonly kind: "pss"; readonly hash: Hash; readonly saltLength: number }
  | { readonly kind: "ed25519" };

const HASH_OID: Readonly<Record<Hash, string>> = {
  "SHA-256": "2.16.840.1.101.3.4.2.1",
  "SHA-384": "2.16.840.1.101.3.4.2.2",
  "SHA-512": "2.16.840.1.101.3.4.2.3",
};
const HASH_OCTETS: Readonly<Record<Hash, number>> = { "SHA-256": 32, "SHA-384": 48, "SHA-512": 64 };
const OID_PSS = "1.2.840.113549.1.1.10";
const OID_MGF1 = "1.2.840.113549.1.1.8";

const SCHEMES: Readonly<Record<string, SignatureScheme>> = {
  "1.2.840.10045.4.3.2": { kind: "ecdsa", hash: "SHA-256" },
  "1.2.840.10045.4.3.3": { kind: "ecdsa", hash: "SHA-384" },
  "1.2.840.10045.4.3.4": { kind: "ecdsa", hash: "SHA-512" },
  "1.2.840.113549.1.1.11": { kind: "rsa", hash: "SHA-256" },
  "1.2.840.113549.1.1.12": { kind: "rsa", hash: "SHA-384" },
  "1.2.840.113549.1.1.13": { kind: "rsa", hash: "SHA-512" },
  "1.3.101.112": { kind: "ed25519" },
};

/** The AlgorithmIdentifier of a scheme: RFC 5758 section 3.2, RFC 4055 sections 3.1 and 5, RFC 8410 section 3. */
export function encodeSignatureAlgorithm(scheme: SignatureScheme): Bytes {
  if (scheme.kind === "pss") {
    const hash = sequence(oid(HASH_OID[scheme.hash]), NULL);
    const mask = sequence(oid(OID_MGF1), hash);
    const parameters = sequence(
      context(0, true, hash),
      context(1, true, mask),
      ...(scheme.saltLength === 20 ? [] : [context(2, true, integer(scheme.saltLength))]),
    );
    return sequence(oid(OID_PSS), parameters);
  }
  for (const [id, known] of Object.entries(SCHEMES)) {
    const same =
      known.kind === scheme.kind && ("hash" in known ? known.hash : "") === ("hash" in scheme ? scheme.hash : "");
    if (same) return known.kind === "rsa" ? sequence(oid(id), NULL) : sequence(oid(id));
  }
  throw new UnsupportedError("unsupported signature scheme");
}

/**
 * The scheme of a signature's AlgorithmIdentifier. Parameters must be exactly those of its RFC; RSA with PKCS#1 v1.5
 * may omit the NULL (RFC 4055 section 5). RSASSA-PSS: SHA-256, SHA-384 or SHA-512, MGF1 with the same hash, any salt
 * length, hash identifiers with NULL or no parameters. Throws DerError, and UnsupportedError for any other algorithm
 * (including SHA-1 and MD5).
 */
export function parseSignatureAlgorithm(algorithmIdentifier: Bytes): SignatureScheme {
  const element = decode(algorithmIdentifier);
  if (element.tag !== TAG.SEQUENCE) throw new DerError("AlgorithmIdentifier must be a SEQUENCE");
  const reader = new Reader(element);
  const id = oidOf(reader.next(TAG.OID));
  if (id === OID_PSS) {
    const scheme = parsePss(new Reader(reader.next(TAG.SEQUENCE)));
    reader.end();
    return scheme;
  }
  const scheme = SCHEMES[id];
  if (scheme === undefined) throw new UnsupportedError(`unsupported signature algorithm ${id}`);
  if (scheme.kind === "rsa" && reader.more) reader.next(TAG.NULL);
  reader.end();
  return scheme;
}

function parsePss(reader: Reader): SignatureScheme {
  const only = (tag: number): Reader => {
    const wrapped = reader.optional(tag);
    if (wrapped === null) throw new UnsupportedError("RSASSA-PSS with SHA-1: use SHA-256, SHA-384 or SHA-512");
    return new Reader(wrapped);
  };
  const hashWrapper = only(0xa0);
  const hash = hashOf(new Reader(hashWrapper.next(TAG.SEQUENCE)));
  hashWrapper.end();
  const maskWrapper = only(0xa1);
  const mask = new Reader(maskWrapper.next(TAG.SEQUENCE));
  maskWrapper.end();
  if (oidOf(mask.next(TAG.OID)) !== OID_MGF1) throw new UnsupportedError("RSASSA-PSS with another mask than MGF1");
  if (hashOf(new Reader(mask.next(TAG.SEQUENCE))) !== hash) {
    throw new UnsupportedError("RSASSA-PSS whose MGF1 uses another hash than the signature");
  }
  mask.end();
  let saltLength = 20;
  const saltWrapper = reader.optional(0xa2);
  if (saltWrapper !== null) {
    const salt = new Reader(saltWrapper);
    saltLength = smallInteger(salt.next(TAG.INTEGER));
    salt.end();
    if (saltLength === 20) throw new DerError("RSASSA-PSS default salt length must be left out");
    if (saltLength > 1024) throw new UnsupportedError("RSASSA-PSS salt longer than any modulus here");
  }
  reader.end();
  return { kind: "pss", hash, saltLength };
}

function hashOf(reader: Reader): Hash {
  const id = oidOf(reader.next(TAG.OID));
  if (reader.more) reader.next(TAG.NULL);
  reader.end();
  for (const hash of ["SHA-256", "SHA-384", "SHA-512"] as const) if (HASH_OID[hash] === id) return hash;
  throw new UnsupportedError(`unsupported hash ${id}: use SHA-256, SHA-384 or SHA-512`);
}

/**
 * The scheme that a key of ours signs with: its curve's hash, SHA-256 for RSA (PSS, if requested, with a salt of 32
 * octets).
 */
export function schemeFor(
  algorithm: "RSA" | "ECDSA" | "Ed25519",
  curve: CurveName | null,
  pss: boolean,
): SignatureScheme {
  if (algorithm === "Ed25519") return { kind: "ed25519" };
  if (algorithm === "RSA")
    return pss ? { kind: "pss", hash: "SHA-256", saltLength: 32 } : { kind: "rsa", hash: "SHA-256" };
  return { kind: "ecdsa", hash: curve === "P-521" ? "SHA-512" : curve === "P-384" ? "SHA-384" : "SHA-256" };
}

function importParameters(scheme: SignatureScheme, curve: CurveName | null) {
  switch (scheme.kind) {
    case "ecdsa":
      return { name: "ECDSA", namedCurve: curve ?? "P-256" };
    case "rsa":
      return { name: "RSASSA-PKCS1-v1_5", hash: scheme.hash };
    case "pss":
      return { name: "RSA-PSS", hash: scheme.hash };
    case "ed25519":
      return { name: "Ed25519" };
  }
}

function signParameters(scheme: SignatureScheme) {
  switch (scheme.kind) {
    case "ecdsa":
      return { name: "ECDSA", hash: scheme.hash };
    case "rsa":
      return { name: "RSASSA-PKCS1-v1_5" };
    case "pss":
      return { name: "RSA-PSS", saltLength: scheme.saltLength };
    case "ed25519":
      return { name: "Ed25519" };
  }
}

/** Converts WebCrypto's r || s to ECDSA-Sig-Value (RFC 3279 section 2.2.3). */
export function ecdsaToDer(raw: Uint8Array): Bytes {
  const half = raw.length / 2;
  return sequence(integer(raw.subarray(0, half)), integer(raw.subarray(half)));
}

/** Converts an ECDSA-Sig-Value to WebCrypto's r || s, each `octets` long; throws DerError. */
export function ecdsaFromDer(der: Bytes, octets: number): Bytes {
  const reader = new Reader(decode(der));
  const raw = new Uint8Array(2 * octets);
  for (const end of [octets, 2 * octets]) {
    const value = integerBytes(reader.next(TAG.INTEGER));
    if (value.length > octets) throw new DerError("ECDSA signature value is too large for the curve");
    raw.set(value, end - value.length);
  }
  reader.end();
  return raw;
}

async function imported<T>(importing: Promise<T>): Promise<T> {
  try {
    return await importing;
  } catch (cause) {
    throw new DerError("private key that cannot be read", { cause });
  }
}

/**
 * A signer over an unencrypted PKCS#8 key: P-256 with SHA-256, P-384 with SHA-384, P-521 with SHA-512, RSA with SHA-256
 * (PKCS#1 v1.5, or PSS with a salt of 32 octets), Ed25519. Throws DerError or UnsupportedError.
 */
export async function importSigner(pkcs8: Bytes, options: { pss?: boolean } = {}): Promise<Signer> {
  const key = parsePrivateKey(pkcs8);
  const scheme = schemeFor(key.algorithm, key.curve, options.pss ?? false);
  const parameters = importParameters(scheme, key.curve);
  const handle = await imported(crypto.subtle.importKey("pkcs8", key.pkcs8, parameters, false, ["sign"]));
  const signing = signParameters(scheme);
  return {
    algorithmIdentifier: encodeSignatureAlgorithm(scheme),
    async sign(data) {
      const signature = new Uint8Array(await crypto.subtle.sign(signing, handle, data));
      return scheme.kind === "ecdsa" ? ecdsaToDer(signature) : signature;
    },
  };
}

/**
 * Whether the signature over the data is valid for this key and algorithm. False for a malformed signature and for an
 * algorithm that does not fit the key; throws UnsupportedError for an unsupported algorithm or RSA exponent, DerError
 * for a malformed algorithm.
 */
export async function verify(
  key: PublicKeyInfo,
  algorithmIdentifier: Bytes,
  signature: Bytes,
  data: Bytes,
): Promise<boolean> {
  const scheme = parseSignatureAlgorithm(algorithmIdentifier);
  const fits =
    scheme.kind === "pss" ? "RSA" : ({ ecdsa: "ECDSA", rsa: "RSA", ed25519: "Ed25519" } as const)[scheme.kind];
  if (fits !== key.algorithm) return false;
  if (key.algorithm === "RSA") assertImportableExponent(key);
  if (scheme.kind === "pss" && scheme.saltLength > Math.ceil((key.size - 1) / 8) - HASH_OCTETS[scheme.hash] - 2)
    return false;
  const curve = key.algorithm === "ECDSA" ? curveOf(key.size) : null;
  try {
    const raw = curve === null ? signature : ecdsaFromDer(signature, Math.ceil(key.size / 8));
    const parameters = importParameters(scheme, curve);
    const handle = await crypto.subtle.importKey("spki", key.spki, parameters, false, ["verify"]);
    return await crypto.subtle.verify(signParameters(scheme), handle, raw, data);
  } catch {
    return false;
  }
}

/** workerd's WebCrypto imports only RSA keys with public exponent 3 or 65537. */
function assertImportableExponent(key: PublicKeyInfo): void {
  const exponent = toHex(parseRsaPublicKey(key.keyBits).exponent);
  if (exponent === "03" || exponent === "010001") return;
  const shown = exponent.length <= 16 ? `${BigInt(`0x${exponent}`)}` : `of ${exponent.length / 2} octets`;
  throw new UnsupportedError(`RSA key with the public exponent ${shown}: make a key with 65537`);
}

const RSA_EXPONENT = new Uint8Array([1, 0, 1]);

/** A new key pair: SubjectPublicKeyInfo and PKCS#8, both DER. The private key is in clear: seal it at once. */
export async function generateKeyPair(algorithm: KeyAlgorithm): Promise<{ spki: Bytes; pkcs8: Bytes }> {
  const [kind, size] = algorithm.split("-");
  const parameters =
    kind === "ECDSA"
      ? { name: "ECDSA", namedCurve: curveOf(Number(size?.slice(1))) }
      : kind === "RSA"
        ? { name: "RSASSA-PKCS1-v1_5", modulusLength: Number(size), publicExponent: RSA_EXPONENT, hash: "SHA-256" }
        : { name: "Ed25519" };
  const pair = (await crypto.subtle.generateKey(parameters, true, ["sign", "verify"])) as CryptoKeyPair;
  return { spki: await exported("spki", pair.publicKey), pkcs8: await exported("pkcs8", pair.privateKey) };
}

async function exported(format: "spki" | "pkcs8", key: CryptoKey): Promise<Bytes> {
  return new Uint8Array((await crypto.subtle.exportKey(format, key)) as ArrayBuffer);
}

/** The SubjectPublicKeyInfo of a PKCS#8 key. Throws DerError or UnsupportedError. */
export async function publicKeyOf(pkcs8: Bytes): Promise<Bytes> {
  const key = parsePrivateKey(pkcs8);
  const parameters = importParameters(schemeFor(key.algorithm, key.curve, false), key.curve);
  const handle = await imported(crypto.subtle.importKey("pkcs8", key.pkcs8, parameters, true, ["sign"]));
  const jwk = (await crypto.subtle.exportKey("jwk", handle)) as JsonWebKey;
  const { kty, crv, x, y, n, e } = jwk;
  const fields = Object.entries({ kty, crv, x, y, n, e }).filter(([, value]) => value !== undefined);
  const publicJwk = Object.fromEntries(fields) as unknown as JsonWebKey;
  return exported("spki", await crypto.subtle.importKey("jwk", publicJwk, parameters, true, ["verify"]));
}

/**
 * Whether the PKCS#8 key is the private half of the public key; proven by a signature, not by the file's own public
 * key.
 */
export async function isKeyPair(key: PublicKeyInfo, pkcs8: Bytes): Promise<boolean> {
  if (!equal(await publicKeyOf(pkcs8), key.spki)) return false;
  const signer = await importSigner(pkcs8);
  const sample = fromHex("63657274206b65792070616972");
  return verify(key, signer.algorithmIdentifier, await signer.sign(sample), sample);
}

/** The 20 octets of a key identifier: leftmost 160 bits of SHA-256 over the key bits (RFC 7093 section 2, method 1). */
export async function keyIdentifier(key: PublicKeyInfo): Promise<Bytes> {
  return (await digest("SHA-256", key.keyBits)).slice(0, 20);
}
