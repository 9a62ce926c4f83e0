import { type Bytes, concat, toHex } from "./bytes.ts";
import { context, integer, lengthOctets, octetString, sequence, TAG, time, tlv, writeHeader } from "./der.ts";
import { CertificateError } from "./errors.ts";
import {
  EXTENSION,
  encodeAuthorityInfoAccess,
  encodeAuthorityKeyIdentifier,
  encodeBasicConstraints,
  encodeCertificatePolicies,
  encodeCrlDistributionPoints,
  encodeExtendedKeyUsage,
  encodeKeyUsage,
  encodeMustStaple,
  extension,
  type KeyUsage,
} from "./extensions.ts";
import { encodeGeneralNames, type GeneralName } from "./general-names.ts";
import type { Certificate } from "./parse-certificate.ts";
import type { Signer } from "./signing.ts";
import type { PublicKeyInfo } from "./spki.ts";

/**
 * Leaf certificates from byte templates: everything that an issuer's certificates share is encoded once; each
 * certificate adds only its own octets.
 */

export interface IssuerTemplateOptions {
  /** Its subject becomes the issuer name and its SKI the AKI, octet for octet. */
  readonly issuerCertificate: Pick<Certificate, "subject" | "subjectKeyIdentifier">;
  /** DER AlgorithmIdentifier of the future signatures: `signer.algorithmIdentifier`. */
  readonly signatureAlgorithmIdentifier: Bytes;
  /** For each CRL shard, the URLs of its one distribution point; empty: no CDP. */
  readonly crlUrlsByShard?: readonly (readonly string[])[];
  readonly ocspUrls?: readonly string[];
  readonly caIssuersUrls?: readonly string[];
  /** Policy object identifiers; empty: no certificatePolicies. */
  readonly certificatePolicies?: readonly string[];
}

/** The result of `compileIssuerTemplate`. Opaque: constants and a bounded cache of EKU encodings. */
export interface IssuerTemplate {
  /** AlgorithmIdentifier and issuer Name, which follow the serial. */
  readonly afterSerial: Bytes;
  readonly signatureAlgorithmIdentifier: Bytes;
  readonly authorityKeyIdentifier: Bytes;
  /** authorityInfoAccess and certificatePolicies, if any. */
  readonly constantExtensions: Bytes;
  readonly distributionPoints: readonly Bytes[];
  readonly ekuCache: Map<string, Bytes>;
}

/** The leaf's own fields. */
export interface Leaf {
  /** Unsigned big-endian, positive, at most 20 octets as an INTEGER; from `randomSerial`. */
  readonly serial: Bytes;
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** DER Name from `encodeName`. */
  readonly subject: Bytes;
  readonly publicKey: PublicKeyInfo;
  /** 20 octets from `await keyIdentifier(publicKey)`. */
  readonly subjectKeyIdentifier: Bytes;
  /** Canonical names, at least one. */
  readonly sans: readonly GeneralName[];
  /** Names or dotted numbers; empty: no EKU extension. */
  readonly ekus: readonly string[];
  readonly mustStaple?: boolean;
  /** Index into `crlUrlsByShard`; default 0. */
  readonly shard?: number;
}

const VERSION_3 = context(0, true, integer(2));
const BASIC_CONSTRAINTS_LEAF = extension(
  EXTENSION.basicConstraints,
  true,
  encodeBasicConstraints({ ca: false, pathLen: null }),
);
const MUST_STAPLE = extension(EXTENSION.tlsFeature, false, encodeMustStaple());
const KEY_USAGE_SIGN = extension(EXTENSION.keyUsage, true, encodeKeyUsage(["digitalSignature"]));
const KEY_USAGE_SIGN_ENCIPHER = extension(
  EXTENSION.keyUsage,
  true,
  encodeKeyUsage(["digitalSignature", "keyEncipherment"]),
);
const SKI_PREFIX = extension(EXTENSION.subjectKeyIdentifier, false, octetString(new Uint8Array(20))).subarray(0, -20);
const SAN_OID = extension(EXTENSION.subjectAltName, false, new Uint8Array(0)).subarray(2, 7);
const CRITICAL = new Uint8Array([0x01, 0x01, 0xff]);
const NOTHING = new Uint8Array(0);
const MAX_EKU_ENCODINGS = 64;

/**
 * The key usages of a leaf: digitalSignature, and keyEncipherment for RSA keys of TLS servers and for email (RFC 5280
 * section 4.2.1.3, RFC 5480 section 3, RFC 8410 section 5).
 */
export function leafKeyUsage(algorithm: PublicKeyInfo["algorithm"], ekus: readonly string[]): KeyUsage[] {
  return enciphers(algorithm, ekus) ? ["digitalSignature", "keyEncipherment"] : ["digitalSignature"];
}

function enciphers(algorithm: PublicKeyInfo["algorithm"], ekus: readonly string[]): boolean {
  return algorithm === "RSA" && (ekus.includes("serverAuth") || ekus.includes("emailProtection"));
}

/**
 * Encodes what all leaves of an issuer share. Throws CertificateError if the issuer's certificate has no subject or no
 * subjectKeyIdentifier.
 */
export function compileIssuerTemplate(options: IssuerTemplateOptions): IssuerTemplate {
  const { subject, subjectKeyIdentifier } = options.issuerCertificate;
  if (subject.attributes.length === 0) throw new CertificateError("an issuer needs a subject");
  if (subjectKeyIdentifier === null) throw new CertificateError("an issuer needs a subjectKeyIdentifier");
  const { ocspUrls = [], caIssuersUrls = [], certificatePolicies = [] } = options;
  const access =
    ocspUrls.length + caIssuersUrls.length === 0
      ? NOTHING
      : extension(EXTENSION.authorityInfoAccess, false, encodeAuthorityInfoAccess(ocspUrls, caIssuersUrls));
  const policies =
    certificatePolicies.length === 0
      ? NOTHING
      : extension(EXTENSION.certificatePolicies, false, encodeCertificatePolicies(certificatePolicies));
  return {
    afterSerial: concat(options.signatureAlgorithmIdentifier, subject.der),
    signatureAlgorithmIdentifier: options.signatureAlgorithmIdentifier,
    authorityKeyIdentifier: extension(
      EXTENSION.authorityKeyIdentifier,
      false,
      encodeAuthorityKeyIdentifier(subjectKeyIdentifier),
    ),
    constantExtensions: concat(access, policies),
    distributionPoints: (options.crlUrlsByShard ?? []).map((urls) =>
      extension(EXTENSION.crlDistributionPoints, false, encodeCrlDistributionPoints(urls)),
    ),
    ekuCache: new Map(),
  };
}

function ekuExtension(template: IssuerTemplate, ekus: readonly string[]): Bytes {
  if (ekus.length === 0) return NOTHING;
  const key = ekus.join(" ");
  const known = template.ekuCache.get(key);
  if (known !== undefined) return known;
  // RFC 3161 section 2.3: timeStamping must be critical and the only EKU.
  const critical = ekus.length === 1 && ekus[0] === "timeStamping";
  const encoded = extension(EXTENSION.extendedKeyUsage, critical, encodeExtendedKeyUsage(ekus));
  if (template.ekuCache.size >= MAX_EKU_ENCODINGS) template.ekuCache.clear();
  template.ekuCache.set(key, encoded);
  return encoded;
}

function sanExtension(sans: readonly GeneralName[], critical: boolean): Bytes {
  const value = octetString(encodeGeneralNames(sans));
  return critical ? sequence(SAN_OID, CRITICAL, value) : sequence(SAN_OID, value);
}

/** The INTEGER of a serial; throws RangeError unless it is positive and at most 20 octets (RFC 5280 section 4.1.2.2). */
export function encodeSerial(serial: Bytes): Bytes {
  const encoded = integer(serial);
  if (encoded.length > 22 || (encoded.length === 3 && encoded[2] === 0)) {
    throw new RangeError(`serial ${toHex(serial)} is not positive or has more than 20 octets`);
  }
  return encoded;
}

/**
 * The TBSCertificate of a leaf (RFC 5280 section 4.1): keyUsage, EKU, basicConstraints (critical, empty: explicitly not
 * a CA, as CA/B BR 7.1.2.7.8 allows), SKI, AKI, AIA, policies, SAN (critical if the subject is empty), CDP,
 * must-staple. Throws RangeError on an invalid serial, shard or SKI.
 */
export function buildTbsCertificate(template: IssuerTemplate, leaf: Leaf): Bytes {
  if (leaf.subjectKeyIdentifier.length !== 20) throw new RangeError("subjectKeyIdentifier must be 20 octets");
  const shard = leaf.shard ?? 0;
  const cdp = template.distributionPoints[shard] ?? NOTHING;
  if (cdp === NOTHING && template.distributionPoints.length > 0) throw new RangeError(`no CRL shard ${shard}`);
  const extensions = [
    enciphers(leaf.publicKey.algorithm, leaf.ekus) ? KEY_USAGE_SIGN_ENCIPHER : KEY_USAGE_SIGN,
    ekuExtension(template, leaf.ekus),
    BASIC_CONSTRAINTS_LEAF,
    SKI_PREFIX,
    leaf.subjectKeyIdentifier,
    template.authorityKeyIdentifier,
    template.constantExtensions,
    leaf.sans.length === 0 ? NOTHING : sanExtension(leaf.sans, leaf.subject.length === 2),
    cdp,
    leaf.mustStaple === true ? MUST_STAPLE : NOTHING,
  ];
  const fields = [
    VERSION_3,
    encodeSerial(leaf.serial),
    template.afterSerial,
    sequence(time(leaf.notBefore), time(leaf.notAfter)),
    leaf.subject,
    leaf.publicKey.spki,
  ];
  return assemble(fields, extensions);
}

/** SEQUENCE { fields, [3] { SEQUENCE { extensions } } } in one allocation. */
function assemble(fields: readonly Bytes[], extensions: readonly Bytes[]): Bytes {
  let inner = 0;
  for (const part of extensions) inner += part.length;
  const list = 1 + lengthOctets(inner) + inner;
  let body = 1 + lengthOctets(list) + list;
  for (const part of fields) body += part.length;
  const out = new Uint8Array(1 + lengthOctets(body) + body);
  let at = writeHeader(out, 0, TAG.SEQUENCE, body);
  for (const part of fields) {
    out.set(part, at);
    at += part.length;
  }
  at = writeHeader(out, at, 0xa3, list);
  at = writeHeader(out, at, TAG.SEQUENCE, inner);
  for (const part of extensions) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** A TBSCertificate from encoded fields and extensions, for certificates off the hot path. */
export function buildTbs(
  fields: {
    serial: Bytes;
    signatureAlgorithmIdentifier: Bytes;
    issuer: Bytes;
    notBefore: Date;
    notAfter: Date;
    subject: Bytes;
    spki: Bytes;
  },
  extensions: readonly Bytes[],
): Bytes {
  return assemble(
    [
      VERSION_3,
      encodeSerial(fields.serial),
      fields.signatureAlgorithmIdentifier,
      fields.issuer,
      sequence(time(fields.notBefore), time(fields.notAfter)),
      fields.subject,
      fields.spki,
    ],
    extensions,
  );
}

/** Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signatureValue }. */
export function assembleCertificate(tbs: Bytes, algorithmIdentifier: Bytes, signature: Bytes): Bytes {
  return sequence(tbs, algorithmIdentifier, tlv(TAG.BIT_STRING, new Uint8Array(1), signature));
}

/**
 * Signs a TBSCertificate or a CertificationRequestInfo (RFC 2986 section 4.2, the same form); returns the whole, DER.
 */
export async function signTbs(tbs: Bytes, signer: Signer): Promise<Bytes> {
  return assembleCertificate(tbs, signer.algorithmIdentifier, await signer.sign(tbs));
}
