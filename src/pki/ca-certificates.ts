import type { Bytes } from "./bytes.ts";
import { context, integer, NULL, octetString, oid, sequence, set } from "./der.ts";
import {
  EXTENSION,
  encodeAuthorityInfoAccess,
  encodeAuthorityKeyIdentifier,
  encodeBasicConstraints,
  encodeCrlDistributionPoints,
  encodeExtendedKeyUsage,
  encodeKeyUsage,
  extension,
} from "./extensions.ts";
import { buildTbs } from "./issue.ts";
import { encodeNameConstraints, type NameConstraints } from "./name-constraints.ts";
import { encodeName, nameBelow, organizationOf } from "./names.ts";
import type { Certificate } from "./parse-certificate.ts";
import type { PublicKeyInfo } from "./spki.ts";

/**
 * Certificates that are made rarely: roots, subordinates, OCSP responders, and a subordinate's CSR. Builders return the
 * octets to be signed; `signTbs` signs them.
 */

interface Subject {
  /** DER Name from `encodeName`; not empty for a CA. */
  readonly subject: Bytes;
  readonly publicKey: PublicKeyInfo;
  /** 20 octets from `await keyIdentifier(publicKey)`. */
  readonly subjectKeyIdentifier: Bytes;
}

interface Issuance {
  /** Unsigned big-endian, from `randomSerial`. */
  readonly serial: Bytes;
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** DER AlgorithmIdentifier of the future signature: `signer.algorithmIdentifier`. */
  readonly signatureAlgorithmIdentifier: Bytes;
}

interface Pointers {
  readonly crlUrls?: readonly string[];
  readonly ocspUrls?: readonly string[];
  readonly caIssuersUrls?: readonly string[];
}

interface CaProfile extends Subject {
  /** Null or absent: no limit. */
  readonly pathLen?: number | null;
  readonly nameConstraints?: NameConstraints | null;
}

const CA_KEY_USAGE = extension(EXTENSION.keyUsage, true, encodeKeyUsage(["keyCertSign", "cRLSign"]));

/** The extensions that a CA's profile decides, the same in its certificate and in its CSR. */
function caExtensions(profile: CaProfile): Bytes[] {
  const pathLen = profile.pathLen ?? null;
  const constraints = profile.nameConstraints ?? null;
  return [
    extension(EXTENSION.basicConstraints, true, encodeBasicConstraints({ ca: true, pathLen })),
    CA_KEY_USAGE,
    ...(constraints === null ? [] : [extension(EXTENSION.nameConstraints, true, encodeNameConstraints(constraints))]),
  ];
}

function ski({ subjectKeyIdentifier }: Subject): Bytes {
  return extension(EXTENSION.subjectKeyIdentifier, false, octetString(subjectKeyIdentifier));
}

function pointerExtensions({ crlUrls = [], ocspUrls = [], caIssuersUrls = [] }: Pointers): Bytes[] {
  const access =
    ocspUrls.length + caIssuersUrls.length === 0
      ? []
      : [extension(EXTENSION.authorityInfoAccess, false, encodeAuthorityInfoAccess(ocspUrls, caIssuersUrls))];
  const points =
    crlUrls.length === 0
      ? []
      : [extension(EXTENSION.crlDistributionPoints, false, encodeCrlDistributionPoints(crlUrls))];
  return [...access, ...points];
}

interface RootSpec extends Issuance, CaProfile {}

/**
 * The TBSCertificate of a self-signed root (RFC 5280 section 4.2): basicConstraints with pathLen, keyCertSign and
 * cRLSign, SKI, and an AKI equal to its SKI; every constraint of a trust anchor is critical. Must be signed with the
 * private half of `publicKey`.
 */
export function buildRootTbs(root: RootSpec): Bytes {
  return buildTbs({ ...root, spki: root.publicKey.spki, issuer: root.subject }, [
    ...caExtensions(root),
    ski(root),
    ...authorityKey(root),
  ]);
}

export interface SubordinateSpec extends Issuance, CaProfile, Pointers {
  readonly issuerCertificate: Pick<Certificate, "subject" | "subjectKeyIdentifier">;
  /** EKUs that the subordinate is limited to; empty: no limit. */
  readonly ekus?: readonly string[];
}

/** The TBSCertificate of a subordinate CA. CDP and AIA are the issuer's, whose signer must sign it. */
export function buildSubordinateTbs(spec: SubordinateSpec): Bytes {
  const { ekus = [], issuerCertificate } = spec;
  return buildTbs({ ...spec, spki: spec.publicKey.spki, issuer: issuerCertificate.subject.der }, [
    ...caExtensions(spec),
    ...(ekus.length === 0 ? [] : [extension(EXTENSION.extendedKeyUsage, false, encodeExtendedKeyUsage(ekus))]),
    ski(spec),
    ...authorityKey(issuerCertificate),
    ...pointerExtensions(spec),
  ]);
}

function authorityKey(issuer: Pick<Certificate, "subjectKeyIdentifier">): Bytes[] {
  const { subjectKeyIdentifier } = issuer;
  if (subjectKeyIdentifier === null) return [];
  return [extension(EXTENSION.authorityKeyIdentifier, false, encodeAuthorityKeyIdentifier(subjectKeyIdentifier))];
}

export interface OcspResponderSpec extends Issuance, Subject {
  readonly issuerCertificate: Pick<Certificate, "subject" | "subjectKeyIdentifier">;
}

/**
 * The TBSCertificate of a delegated OCSP responder (RFC 6960 section 4.2.2.2): id-kp-OCSPSigning, id-pkix-ocsp-nocheck,
 * digitalSignature, without CDP or AIA.
 */
export function buildOcspResponderTbs(spec: OcspResponderSpec): Bytes {
  const { issuerCertificate } = spec;
  return buildTbs({ ...spec, spki: spec.publicKey.spki, issuer: issuerCertificate.subject.der }, [
    extension(EXTENSION.keyUsage, true, encodeKeyUsage(["digitalSignature"])),
    extension(EXTENSION.extendedKeyUsage, false, encodeExtendedKeyUsage(["OCSPSigning"])),
    extension(EXTENSION.basicConstraints, true, encodeBasicConstraints({ ca: false, pathLen: null })),
    ski(spec),
    ...authorityKey(issuerCertificate),
    extension(EXTENSION.ocspNoCheck, false, NULL),
  ]);
}

/**
 * Possible DER names of an OCSP responder, best first: under the CA's own location and organization, under each dirName
 * that the CAs above permit (a CA's own name need not be inside what it permits), and alone. `caId` names a CA without
 * a common name.
 */
export function ocspResponderNames(
  chain: readonly Pick<Certificate, "subject" | "nameConstraints">[],
  caId: string,
): Bytes[] {
  const own = chain[0]?.subject;
  const commonName = `OCSP Responder of ${own?.commonName ?? caId}`.slice(0, 64).trim();
  const permitted = chain.flatMap(({ nameConstraints }) => nameConstraints?.permitted ?? []);
  const bases = permitted.flatMap((subtree) => (subtree.type === "directory" ? [subtree.name] : []));
  return [
    ...(own ? [nameBelow(organizationOf(own), commonName)] : []),
    ...bases.map(({ der }) => nameBelow(der, commonName)),
    encodeName({ common_name: commonName }),
  ];
}

const EXTENSION_REQUEST = oid("1.2.840.113549.1.9.14");

/**
 * The CertificationRequestInfo (RFC 2986 section 4.1) of a subordinate CA whose key is made here and that an outside
 * root will certify. Requests basicConstraints, keyUsage, name constraints and SKI in an extensionRequest (RFC 2985
 * section 5.4.2).
 */
export function buildSubordinateRequestInfo(profile: CaProfile): Bytes {
  const requested = sequence(...caExtensions(profile), ski(profile));
  return sequence(
    integer(0),
    profile.subject,
    profile.publicKey.spki,
    context(0, true, sequence(EXTENSION_REQUEST, set(requested))),
  );
}
