import { type Bytes, concat, digest, utf8 } from "./bytes.ts";
import { context, integer, NULL, octetString, oid, sequence, set, tlv } from "./der.ts";

/** PKCS#12 stores that hold certificates and no key (RFC 7292), protected by PBES2 (RFC 8018) and an HMAC. */

export interface TrustStoreOptions {
  /** A name for each certificate, in their order; what is missing is `certificate-1`, `certificate-2`, ... */
  readonly friendlyNames?: readonly string[];
  /** PBKDF2 rounds, 1 to 100,000; 10,000 unless told. Certificates are public: the password only proves the store's origin. */
  readonly iterations?: number;
}

/** Rounds of the key derivation of the MAC: what keytool writes. */
const MAC_ITERATIONS = 10_000;
/** Cloudflare runs no more PBKDF2 rounds than this. */
const MAX_ITERATIONS = 100_000;

const OID_DATA = oid("1.2.840.113549.1.7.1");
const OID_ENCRYPTED_DATA = oid("1.2.840.113549.1.7.6");
const OID_CERT_BAG = oid("1.2.840.113549.1.12.10.1.3");
const OID_X509_CERTIFICATE = oid("1.2.840.113549.1.9.22.1");
const OID_FRIENDLY_NAME = oid("1.2.840.113549.1.9.20");
/** Oracle's mark of a trusted certificate: without it keytool shows none. */
const OID_TRUSTED_KEY_USAGE = oid("2.16.840.1.113894.746875.1.1");
const OID_ANY_EXTENDED_KEY_USAGE = oid("2.5.29.37.0");
const OID_PBES2 = oid("1.2.840.113549.1.5.13");
const OID_PBKDF2 = oid("1.2.840.113549.1.5.12");
const OID_HMAC_SHA256 = oid("1.2.840.113549.2.9");
const OID_AES256_CBC = oid("2.16.840.1.101.3.4.1.42");
const OID_SHA256 = oid("2.16.840.1.101.3.4.2.1");

/** UTF-16 in network order: the content of a BMPString. */
function bmp(text: string): Bytes {
  const out = new Uint8Array(2 * text.length);
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    out[2 * i] = unit >> 8;
    out[2 * i + 1] = unit & 0xff;
  }
  return out;
}

function random(length: number): Bytes {
  return crypto.getRandomValues(new Uint8Array(length));
}

/** Names of which no two are the same to keytool, which ignores case and keeps one certificate a name. */
function distinctNames(count: number, given: readonly string[]): string[] {
  const taken = new Set<string>();
  return Array.from({ length: count }, (_, i) => {
    const wanted = given[i] || `certificate-${i + 1}`;
    let name = wanted;
    for (let n = 2; taken.has(name.toLowerCase()); n++) name = `${wanted}-${n}`;
    taken.add(name.toLowerCase());
    return name;
  });
}

/** SafeBag with a CertBag (RFC 7292 section 4.2.3). */
function certBag(certificate: Bytes, name: string): Bytes {
  const bag = sequence(OID_X509_CERTIFICATE, context(0, true, octetString(certificate)));
  const attributes = set(
    sequence(OID_FRIENDLY_NAME, set(tlv(0x1e, bmp(name)))),
    sequence(OID_TRUSTED_KEY_USAGE, set(OID_ANY_EXTENDED_KEY_USAGE)),
  );
  return sequence(OID_CERT_BAG, context(0, true, bag), attributes);
}

/** ContentInfo of EncryptedData under PBES2 with PBKDF2-HMAC-SHA256 and AES-256-CBC. */
async function encrypted(content: Bytes, password: string, iterations: number): Promise<Bytes> {
  const [salt, iv] = [random(16), random(16)];
  const secret = await crypto.subtle.importKey("raw", utf8(password), "PBKDF2", false, ["deriveKey"]);
  const key = await crypto.subtle.deriveKey(
    { name: "PBKDF2", hash: "SHA-256", salt, iterations },
    secret,
    { name: "AES-CBC", length: 256 },
    false,
    ["encrypt"],
  );
  const ciphertext = new Uint8Array(await crypto.subtle.encrypt({ name: "AES-CBC", iv }, key, content));
  const derivation = sequence(
    OID_PBKDF2,
    sequence(octetString(salt), integer(iterations), integer(32), sequence(OID_HMAC_SHA256, NULL)),
  );
  const algorithm = sequence(OID_PBES2, sequence(derivation, sequence(OID_AES256_CBC, octetString(iv))));
  const info = sequence(OID_DATA, algorithm, context(0, false, ciphertext));
  return sequence(OID_ENCRYPTED_DATA, context(0, true, sequence(integer(0), info)));
}

/** Repeats the octets to fill whole blocks of 64; nothing stays nothing. */
function fillBlocks(octets: Bytes): Bytes {
  const length = 64 * Math.ceil(octets.length / 64);
  return Uint8Array.from({ length }, (_, i) => octets[i % octets.length] ?? 0);
}

/** The MAC key: RFC 7292 appendix B.2 with SHA-256, purpose 3, one block. The password ends in a null character. */
async function macKey(password: string, salt: Bytes): Promise<Bytes> {
  let hash = concat(new Uint8Array(64).fill(3), fillBlocks(salt), fillBlocks(bmp(`${password}\0`)));
  for (let i = 0; i < MAC_ITERATIONS; i++) hash = await digest("SHA-256", hash);
  return hash;
}

/** MacData over the content of the authenticated safe (RFC 7292 section 4). */
async function macData(content: Bytes, password: string): Promise<Bytes> {
  const salt = random(16);
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const key = await crypto.subtle.importKey("raw", await macKey(password, salt), algorithm, false, ["sign"]);
  const mac = new Uint8Array(await crypto.subtle.sign("HMAC", key, content));
  const digestInfo = sequence(sequence(OID_SHA256, NULL), octetString(mac));
  return sequence(digestInfo, octetString(salt), integer(MAC_ITERATIONS));
}

/**
 * A DER PFX with these DER certificates, each of them a trusted certificate to keytool and visible to openssl. The password may
 * be empty; Java itself can use only ASCII ones. Names that are the same but for case get a number. Throws RangeError without
 * certificates or with rounds out of range.
 */
export async function buildTrustStore(
  certificates: readonly Bytes[],
  password: string,
  options: TrustStoreOptions = {},
): Promise<Bytes> {
  const { friendlyNames = [], iterations = 10_000 } = options;
  if (certificates.length === 0) throw new RangeError("at least one certificate");
  if (!Number.isInteger(iterations) || iterations < 1 || iterations > MAX_ITERATIONS) {
    throw new RangeError(`iterations are from 1 to ${MAX_ITERATIONS}`);
  }
  const names = distinctNames(certificates.length, friendlyNames);
  const bags = sequence(...certificates.map((certificate, i) => certBag(certificate, names[i] ?? "")));
  const safe = sequence(await encrypted(bags, password, iterations));
  const authSafe = sequence(OID_DATA, context(0, true, octetString(safe)));
  return sequence(integer(3), authSafe, await macData(safe, password));
}
