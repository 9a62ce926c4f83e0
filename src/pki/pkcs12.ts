import { type Bytes, utf8 } from "./bytes.ts";

/** PKCS#12 stores with certificates and no key (RFC 7292), protected by PBES2 (RFC 8018) and an HMAC. */

export interface TrustStoreOptions {
  /** A name for each certificate, in order; defaults are `certificate-1`, `certificate-2`, ... */
  readonly friendlyNames?: readonly string[];
  /**
   * PBKDF2 rounds, 1 to 100,000; default 10,000. Certificates are public: the password only proves the store's origin.
   */
  readonly iterations?: number;
}

/** Rounds of the MAC's key derivation, as keytool writes. */
const MAC_ITERATIONS = 10_000;
/** Cloudflare's maximum of PBKDF2 rounds. */
const MAX_ITERATIONS = 100_000;

const CERT_BAG = "1.2.840.113549.1.12.10.1.3";
const X509_CERTIFICATE = "1.2.840.113549.1.9.22.1";
const FRIENDLY_NAME = "1.2.840.113549.1.9.20";
/** Oracle's attribute of a trusted certificate: keytool shows only certificates that have it. */
const TRUSTED_KEY_USAGE = "2.16.840.1.113894.746875.1.1";
const ANY_EXTENDED_KEY_USAGE = "2.5.29.37.0";

/** pkijs' names for RFC 7292: the content is encrypted with a password, and the store has a MAC. */
const PASSWORD_PRIVACY = 1;
const PASSWORD_INTEGRITY = 0;

/** Makes names distinct for keytool, which ignores case and keeps one certificate a name. */
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

/** Both libraries are large and stores are rarely requested: they are loaded with the first one. */
async function libraries() {
  const [pkijs, asn1js] = await Promise.all([import("pkijs"), import("asn1js")]);
  return {
    ...pkijs,
    BmpString: asn1js.BmpString,
    ObjectIdentifier: asn1js.ObjectIdentifier,
    OctetString: asn1js.OctetString,
  };
}

type Libraries = Awaited<ReturnType<typeof libraries>>;

/** SafeBag with a CertBag (RFC 7292 section 4.2.3). */
function certBag(from: Libraries, certificate: Bytes, name: string) {
  const { Attribute, BmpString, CertBag, ObjectIdentifier, OctetString, SafeBag } = from;
  return new SafeBag({
    bagId: CERT_BAG,
    // As octets: a parsed certificate would be encoded again.
    bagValue: new CertBag({
      certId: X509_CERTIFICATE,
      certValue: new OctetString({ valueHex: certificate.slice().buffer }),
    }),
    bagAttributes: [
      new Attribute({ type: FRIENDLY_NAME, values: [new BmpString({ value: name })] }),
      new Attribute({ type: TRUSTED_KEY_USAGE, values: [new ObjectIdentifier({ value: ANY_EXTENDED_KEY_USAGE })] }),
    ],
  });
}

/**
 * A DER PFX of these DER certificates, each a trusted certificate for keytool and visible to openssl. The password may
 * be empty; Java can use only ASCII ones. Names that differ only in case get a number. Throws RangeError without
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
  const from = await libraries();
  const safeBags = certificates.map((certificate, i) => certBag(from, certificate, names[i] ?? ""));
  const contents = new from.SafeContents({ safeBags });
  const authenticatedSafe = new from.AuthenticatedSafe({
    parsedValue: { safeContents: [{ privacyMode: PASSWORD_PRIVACY, value: contents }] },
  });
  const secret = utf8(password).buffer;
  await authenticatedSafe.makeInternalValues({
    safeContents: [
      {
        password: secret,
        contentEncryptionAlgorithm: { name: "AES-CBC", length: 256 },
        hmacHashAlgorithm: "SHA-256",
        iterationCount: iterations,
      },
    ],
  });
  const pfx = new from.PFX({ parsedValue: { integrityMode: PASSWORD_INTEGRITY, authenticatedSafe } });
  await pfx.makeInternalValues({
    password: secret,
    iterations: MAC_ITERATIONS,
    pbkdf2HashAlgorithm: "SHA-256",
    hmacHashAlgorithm: "SHA-256",
  });
  return new Uint8Array(pfx.toSchema().toBER());
}
