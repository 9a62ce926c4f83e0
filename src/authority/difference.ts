import { equal, fromHex } from "../pki/bytes.ts";
import type { Certificate } from "../pki/certificate.ts";
import { type GeneralName, parseSan, sameName } from "../pki/general-names.ts";
import { encodeName, formatName, parseName } from "../pki/names.ts";
import type { Approved } from "./ca.ts";

/** How an issued certificate differs from what the gate approved; null if it does not (invariant 8). */
export function differenceFrom(approved: Approved, certificate: Certificate): string | null {
  return (
    keyDifference(approved, certificate) ??
    nameDifference(approved, certificate) ??
    subjectDifference(approved, certificate) ??
    lifeDifference(approved, certificate) ??
    usageDifference(approved, certificate)
  );
}

function keyDifference(approved: Approved, { publicKey }: Certificate): string | null {
  return equal(publicKey.spki, fromHex(approved.spki)) ? null : "its public key is another one";
}

/** The certificate must carry exactly the approved names. */
function nameDifference({ sans }: Approved, { subjectAltName }: Certificate): string | null {
  const { names, others } = subjectAltName ?? { names: [], others: [] };
  const beyond = names.find((name) => !sans.some((known) => sameName(known, name)));
  if (beyond) return `its name ${beyond.type}:${beyond.value} was not approved`;
  if (others.length > 0) return `its name ${others[0]} was not approved`;
  const missing = sans.find((name) => !names.some((known) => sameName(known, name)));
  return missing ? `it lacks the name ${missing.type}:${missing.value}` : null;
}

/** A CA may drop attributes and may use another approved name as common name. */
function subjectDifference({ subject, sans }: Approved, certificate: Certificate): string | null {
  const allowed = parseName(encodeName(subject)).attributes;
  const isCommonName = ({ type, value }: { type: string; value: string }) =>
    type === COMMON_NAME && sans.some((name) => sameName(name, nameOf(value) ?? NO_NAME));
  const beyond = certificate.subject.attributes.find(
    (attribute) =>
      !allowed.some(({ type, value }) => type === attribute.type && value === attribute.value) &&
      !isCommonName(attribute),
  );
  return beyond ? `its subject ${formatName(certificate.subject)} has more than was approved` : null;
}

const COMMON_NAME = "2.5.4.3";
const NO_NAME: GeneralName = { type: "dns", value: "" };

function nameOf(text: string): GeneralName | null {
  try {
    return parseSan(text);
  } catch {
    return null;
  }
}

/** notBefore and notAfter are both inclusive (RFC 5280 section 4.1.2.5). */
function lifeDifference({ ttl_seconds }: Approved, { notBefore, notAfter }: Certificate): string | null {
  const seconds = (notAfter.getTime() - notBefore.getTime()) / 1000 + 1;
  return seconds > ttl_seconds ? `it is valid for ${seconds} seconds; ${ttl_seconds} were approved` : null;
}

function usageDifference({ ekus, must_staple }: Approved, certificate: Certificate): string | null {
  if (certificate.basicConstraints?.ca) return "it is the certificate of a CA";
  const own = certificate.extendedKeyUsage;
  if (own === null && ekus.length > 0) return "it has no extended key usage, so that it is good for any";
  const beyond = own?.find((eku) => !ekus.includes(eku));
  if (beyond) return `its extended key usage ${beyond} was not approved`;
  if (must_staple && !certificate.tlsFeatures?.includes(STATUS_REQUEST)) return "it lacks must-staple";
  return null;
}

/** The TLS extension status_request (RFC 7633). */
const STATUS_REQUEST = 5;
