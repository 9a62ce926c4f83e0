import { equal, toHex } from "./bytes.ts";
import { CertificateError, UnsupportedError } from "./errors.ts";
import { assertStrongKey } from "./key-strength.ts";
import { inheritNameConstraints, isSubset, type NameConstraints, parseNameConstraints } from "./name-constraints.ts";
import { formatName } from "./names.ts";
import { type Certificate, verifyIssued } from "./parse-certificate.ts";
import { KEY_ALGORITHMS, type KeyAlgorithm } from "./spki.ts";

/**
 * The chain of a CA that signs here: its own certificate, then each issuer, with the root last if known. A root above
 * it is a trust anchor: relying parties have it from elsewhere, and its self-signature proves nothing (RFC 5280 section
 * 6.1).
 */
export type CaChain = readonly Certificate[];

/**
 * Throws CertificateError, with the remedy, for an unusable chain: order, signatures, validity at `now` (Unix
 * milliseconds), extensions, a repeated certificate, and extended key usages that leave none of `ekus`.
 */
export async function checkCaChain(chain: CaChain, now: number, ekus: readonly string[]): Promise<void> {
  const [own] = chain;
  if (!own) throw new CertificateError("holds no certificate");
  const seen = new Set<string>();
  for (const [i, certificate] of chain.entries()) {
    const flaw = flawOf(chain, i, now) ?? (await signatureFlaw(chain, i));
    if (flaw) throw new CertificateError(`certificate ${i + 1} ${flaw}`);
    const der = toHex(certificate.der);
    if (seen.has(der)) throw new CertificateError(`certificate ${i + 1} stands in the chain twice: leave it out once`);
    seen.add(der);
  }
  if (!own.keyUsage?.includes("cRLSign")) throw new CertificateError("certificate 1 lacks the key usage cRLSign");
  if (own.subjectKeyIdentifier === null) throw new CertificateError("certificate 1 lacks a subjectKeyIdentifier");
  if (!KEY_ALGORITHMS.includes(own.publicKey.name as KeyAlgorithm)) {
    throw new CertificateError(`a CA key of ${own.publicKey.name} is not offered; ${KEY_ALGORITHMS.join(", ")} are`);
  }
  assertStrongKey(own.publicKey);
  const excluded = ekus.map((eku) => excludedEku(chain, eku));
  const [first] = excluded;
  if (first && excluded.every((found) => found !== null)) {
    throw new CertificateError(`${first}: nothing that is issued here would be left (${ekus.join(", ")})`);
  }
}

function flawOf(chain: CaChain, i: number, now: number): string | null {
  const certificate = chain[i] as Certificate;
  if (certificate.subject.attributes.length === 0)
    return "has an empty subject: a CA must have a name (RFC 5280 4.1.2.6)";
  if (!certificate.basicConstraints?.ca) return "is not a CA (basicConstraints)";
  const usage = keyUsageFlaw(chain, i);
  if (usage !== null) return usage;
  if (certificate.notBefore.getTime() > now) return `is valid only from ${certificate.notBefore.toISOString()}`;
  if (certificate.notAfter.getTime() < now) return `has expired on ${certificate.notAfter.toISOString()}`;
  if (certificate.unknownCritical.length > 0)
    return `has the critical extension ${certificate.unknownCritical[0]}, which is not known here`;
  // The CAs below it in the chain, not counting self-issued ones.
  const limit = certificate.basicConstraints.pathLen;
  if (limit !== null && i > limit) return "has a path length that its own chain breaks";
  return null;
}

function keyUsageFlaw(chain: CaChain, i: number): string | null {
  const { keyUsage } = chain[i] as Certificate;
  if (keyUsage?.includes("keyCertSign")) return null;
  if (keyUsage !== null) return "lacks the key usage keyCertSign";
  if (isAnchor(chain, i)) return null;
  return i > 0
    ? "has no keyUsage, which needs keyCertSign"
    : "has no keyUsage, which needs keyCertSign and cRLSign: make it again with the same key and subject and both of them (openssl req -x509 -key KEY -subj SUBJECT -addext keyUsage=critical,keyCertSign,cRLSign)";
}

/** Whether the certificate is the root above a CA. */
function isAnchor(chain: CaChain, i: number): boolean {
  const certificate = chain[i];
  return certificate !== undefined && i > 0 && i === chain.length - 1 && isSelfIssued(certificate);
}

function isSelfIssued({ subject, issuer }: Certificate): boolean {
  return equal(subject.der, issuer.der);
}

async function signatureFlaw(chain: CaChain, i: number): Promise<string | null> {
  const certificate = chain[i] as Certificate;
  const parent = chain[i + 1];
  if (parent && !(await verifyIssued(certificate, parent))) {
    return `is not issued by certificate ${i + 2}; the issuing CA comes first, the root last`;
  }
  if (parent || !isSelfIssued(certificate)) return null;
  try {
    return (await verifyIssued(certificate, certificate)) ? null : "is a root whose own signature does not hold";
  } catch (error) {
    if (isAnchor(chain, i) && error instanceof UnsupportedError) return null;
    throw error;
  }
}

/** Valid but noteworthy properties of a chain. */
export async function caChainWarnings(chain: CaChain): Promise<string[]> {
  const last = chain.length - 1;
  const anchor = chain[last];
  if (!anchor || !isAnchor(chain, last)) return [];
  const name = formatName(anchor.subject);
  const warnings: string[] = [];
  if (anchor.keyUsage === null) warnings.push(`the root ${name} has no keyUsage`);
  try {
    await verifyIssued(anchor, anchor);
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error;
    warnings.push(`the root ${name} has a self-signature that is not checked (${error.message})`);
  }
  return warnings;
}

/** The earliest notAfter in the chain, Unix milliseconds: certificates must not outlive it. */
export function endOfChain(chain: CaChain): number {
  return Math.min(...chain.map(({ notAfter }) => notAfter.getTime()));
}

/**
 * The CA whose extended key usage excludes that of a leaf, in words; null if every CA allows it. RFC 5280 gives the
 * extension no meaning in a CA, but relying parties treat it as a limit on everything below.
 */
export function excludedEku(chain: CaChain, eku: string): string | null {
  for (const { extendedKeyUsage, subject } of chain) {
    if (
      extendedKeyUsage === null ||
      extendedKeyUsage.includes("anyExtendedKeyUsage") ||
      extendedKeyUsage.includes(eku)
    ) {
      continue;
    }
    return `${eku} is excluded by the extended key usage of ${formatName(subject)} (${extendedKeyUsage.join(", ")})`;
  }
  return null;
}

/**
 * Path length and name constraints of a CA below a chain: the requested ones if they stay within those of every CA
 * above, or inherited ones if none are requested. Throws CertificateError for bounds that are exceeded, NameError for
 * malformed constraints.
 */
export function boundsOfSubordinate(
  chain: CaChain,
  pathLen: number | null,
  constraints: { readonly permitted: readonly string[]; readonly excluded: readonly string[] } | null,
): { readonly pathLen: number | null; readonly nameConstraints: NameConstraints | null } {
  const limit = chain[0]?.basicConstraints?.pathLen ?? null;
  if (limit === 0)
    throw new CertificateError("path_len_constraint: this CA may have no CA below it (its path length is 0)");
  if (limit !== null && pathLen !== null && pathLen >= limit)
    throw new CertificateError(`path_len_constraint: must be below the parent's, which is ${limit}`);
  const asked = constraints ? parseNameConstraints([constraints]) : null;
  const nameConstraints = chain.reduce((inner, above) => inheritNameConstraints(inner, above.nameConstraints), asked);
  const broken = chain.find((above) => !isSubset(nameConstraints, above.nameConstraints));
  if (broken) throw new CertificateError(`name_constraints: reach beyond those of ${formatName(broken.subject)}`);
  return { pathLen: pathLen ?? (limit === null ? null : limit - 1), nameConstraints };
}
