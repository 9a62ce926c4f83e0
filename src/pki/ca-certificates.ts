import type { Bytes } from "./bytes.ts";
import { context, integer, NULL, octetString, oid, sequence, set, TAG, tlv } from "./der.ts";
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
import { assembleCertificate, buildTbs } from "./issue.ts";
import { encodeNameConstraints, type NameConstraints } from "./name-constraints.ts";
import type { Certificate } from "./parse-certificate.ts";
import { keyIdentifier, type Signer } from "./signing.ts";
import type { PublicKeyInfo } from "./spki.ts";

/** Certificates that are made once in a while: roots, subordinates, OCSP responders, and the request of a subordinate. */

interface Validity {
  /** Unsigned big-endian: `randomSerial`. */
  readonly serial: Bytes;
  readonly notBefore: Date;
  readonly notAfter: Date;
}

interface Pointers {
  readonly crlUrls?: readonly string[];
  readonly ocspUrls?: readonly string[];
  readonly caIssuersUrls?: readonly string[];
}

interface CaProfile {
  /** Name, DER: `encodeName`; not empty. */
  readonly subject: Bytes;
  readonly publicKey: PublicKeyInfo;
  /** Null or absent: no bound. */
  readonly pathLen?: number | null;
  readonly nameConstraints?: NameConstraints | null;
}

const CA_KEY_USAGE = extension(EXTENSION.keyUsage, true, encodeKeyUsage(["keyCertSign", "cRLSign"]));

/** What only the CA's own profile says: the same in its certificate and in its request. */
function caExtensions(profile: CaProfile): Bytes[] {
  const pathLen = profile.pathLen ?? null;
  const constraints = profile.nameConstraints ?? null;
  return [
    extension(EXTENSION.basicConstraints, true, encodeBasicConstraints({ ca: true, pathLen })),
    CA_KEY_USAGE,
    ...(constraints === null ? [] : [extension(EXTENSION.nameConstraints, true, encodeNameConstraints(constraints))]),
  ];
}

async function ski(publicKey: PublicKeyInfo): Promise<Bytes> {
  return extension(EXTENSION.subjectKeyIdentifier, false, octetString(await keyIdentifier(publicKey)));
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

async function signed(tbs: Bytes, signer: Signer): Promise<Bytes> {
  return assembleCertificate(tbs, signer.algorithmIdentifier, await signer.sign(tbs));
}

export interface RootSpec extends Validity, CaProfile {}

/**
 * A self-signed root (RFC 5280 section 4.2): basicConstraints with pathLen, keyCertSign and cRLSign, SKI, and AKI of itself;
 * all that a trust anchor constrains is critical. `signer` must hold the private half of `publicKey`. Answers DER.
 */
export async function buildRootCertificate(root: RootSpec, signer: Signer): Promise<Bytes> {
  const own = await keyIdentifier(root.publicKey);
  const tbs = buildTbs(
    {
      ...root,
      spki: root.publicKey.spki,
      issuer: root.subject,
      signatureAlgorithmIdentifier: signer.algorithmIdentifier,
    },
    [
      ...caExtensions(root),
      await ski(root.publicKey),
      extension(EXTENSION.authorityKeyIdentifier, false, encodeAuthorityKeyIdentifier(own)),
    ],
  );
  return signed(tbs, signer);
}

export interface SubordinateSpec extends Validity, CaProfile, Pointers {
  readonly issuerCertificate: Pick<Certificate, "subject" | "subjectKeyIdentifier">;
  /** EKUs that the subordinate is bound to; empty: none. */
  readonly ekus?: readonly string[];
}

/** A subordinate CA's certificate, by its issuer's signer. CDP and AIA are those of the issuer. Answers DER. */
export async function buildSubordinateCertificate(spec: SubordinateSpec, signer: Signer): Promise<Bytes> {
  const tbs = buildTbs(
    {
      ...spec,
      spki: spec.publicKey.spki,
      issuer: spec.issuerCertificate.subject.der,
      signatureAlgorithmIdentifier: signer.algorithmIdentifier,
    },
    [
      ...caExtensions(spec),
      ...((spec.ekus ?? []).length === 0
        ? []
        : [extension(EXTENSION.extendedKeyUsage, false, encodeExtendedKeyUsage(spec.ekus ?? []))]),
      await ski(spec.publicKey),
      ...authorityKey(spec.issuerCertificate),
      ...pointerExtensions(spec),
    ],
  );
  return signed(tbs, signer);
}

function authorityKey(issuer: Pick<Certificate, "subjectKeyIdentifier">): Bytes[] {
  const { subjectKeyIdentifier } = issuer;
  if (subjectKeyIdentifier === null) return [];
  return [extension(EXTENSION.authorityKeyIdentifier, false, encodeAuthorityKeyIdentifier(subjectKeyIdentifier))];
}

export interface OcspResponderSpec extends Validity {
  readonly subject: Bytes;
  readonly publicKey: PublicKeyInfo;
  readonly issuerCertificate: Pick<Certificate, "subject" | "subjectKeyIdentifier">;
}

/**
 * A delegated OCSP responder's certificate (RFC 6960 section 4.2.2.2): id-kp-OCSPSigning, id-pkix-ocsp-nocheck,
 * digitalSignature, no pointers to status of its own. Answers DER.
 */
export async function buildOcspResponderCertificate(spec: OcspResponderSpec, signer: Signer): Promise<Bytes> {
  const tbs = buildTbs(
    {
      ...spec,
      spki: spec.publicKey.spki,
      issuer: spec.issuerCertificate.subject.der,
      signatureAlgorithmIdentifier: signer.algorithmIdentifier,
    },
    [
      extension(EXTENSION.keyUsage, true, encodeKeyUsage(["digitalSignature"])),
      extension(EXTENSION.extendedKeyUsage, false, encodeExtendedKeyUsage(["OCSPSigning"])),
      extension(EXTENSION.basicConstraints, true, encodeBasicConstraints({ ca: false, pathLen: null })),
      await ski(spec.publicKey),
      ...authorityKey(spec.issuerCertificate),
      extension(EXTENSION.ocspNoCheck, false, NULL),
    ],
  );
  return signed(tbs, signer);
}

const EXTENSION_REQUEST = oid("1.2.840.113549.1.9.14");

/**
 * The PKCS#10 request (RFC 2986) of a subordinate CA whose key is made here, for an outside root to sign. It asks for
 * basicConstraints, keyUsage, name constraints and SKI in an extensionRequest (RFC 2985 section 5.4.2). Answers DER.
 */
export async function buildSubordinateRequest(profile: CaProfile, signer: Signer): Promise<Bytes> {
  const requested = sequence(...caExtensions(profile), await ski(profile.publicKey));
  const info = sequence(
    integer(0),
    profile.subject,
    profile.publicKey.spki,
    context(0, true, sequence(EXTENSION_REQUEST, set(requested))),
  );
  return sequence(info, signer.algorithmIdentifier, tlv(TAG.BIT_STRING, new Uint8Array(1), await signer.sign(info)));
}
