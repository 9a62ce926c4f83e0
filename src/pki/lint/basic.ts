import { equal } from "../bytes.ts";
import { children, decode, TAG, timeOf } from "../der.ts";
import { PkiError } from "../errors.ts";
import { assertStrongKey } from "../key-strength.ts";
import { parseSignatureAlgorithm, type SignatureScheme } from "../signing.ts";
import type { PublicKeyInfo } from "../spki.ts";
import type { Rule, Subject } from "./rule.ts";

/** Rules for the fields of TBSCertificate. */

function problemOf(check: () => void): string | null {
  try {
    check();
    return null;
  } catch (error) {
    if (error instanceof PkiError) return error.message;
    throw error;
  }
}

const HASH_OF_CURVE: Readonly<Record<number, string>> = { 256: "SHA-256", 384: "SHA-384", 521: "SHA-512" };

/** CA/B BR 7.1.3.2: the scheme must fit the key, an ECDSA hash its curve. */
function misfit(scheme: SignatureScheme, key: PublicKeyInfo): string | null {
  const algorithm = { ecdsa: "ECDSA", rsa: "RSA", pss: "RSA", ed25519: "Ed25519" }[scheme.kind];
  if (algorithm !== key.algorithm) return `${algorithm} signature of an issuer whose key is ${key.name}`;
  if (scheme.kind === "ecdsa" && HASH_OF_CURVE[key.size] !== scheme.hash)
    return `${key.name} signs with ${scheme.hash}`;
  return null;
}

function timeEncoding({ certificate }: Subject): string | null {
  for (const time of children(decode(certificate.validity))) {
    const year = timeOf(time).getUTCFullYear();
    if ((time.tag === TAG.UTC_TIME) !== (year >= 1950 && year < 2050))
      return `the year ${year} has the wrong time type`;
  }
  return null;
}

export const BASIC_RULES: readonly Rule[] = [
  {
    name: "version_3",
    source: "RFC 5280 4.1.2.1",
    level: "error",
    check: ({ certificate }) => (certificate.version === 3 ? null : `version is ${certificate.version}`),
  },
  {
    name: "serial_positive",
    source: "RFC 5280 4.1.2.2",
    level: "error",
    check: ({ certificate: { serial } }) => {
      if (/^0+$/.test(serial)) return "serial is zero";
      const octets = serial.length / 2 + (serial >= "8" ? 1 : 0);
      return octets > 20 ? `serial has ${octets} octets` : null;
    },
  },
  {
    name: "serial_random",
    source: "CA/B BR 7.1",
    level: "error",
    check: ({ certificate: { serial } }) => (serial.length >= 16 ? null : "serial has less than 64 bits"),
  },
  {
    name: "signature_algorithms_equal",
    source: "RFC 5280 4.1.1.2",
    level: "error",
    check: ({ certificate }) =>
      equal(certificate.signatureAlgorithm, certificate.tbsSignatureAlgorithm)
        ? null
        : "signatureAlgorithm and TBSCertificate.signature differ",
  },
  {
    name: "signature_algorithm_offered",
    source: "CA/B BR 7.1.3.2",
    level: "error",
    check: ({ certificate, issuer }) => {
      let found: string | null = null;
      const problem = problemOf(() => {
        found = misfit(parseSignatureAlgorithm(certificate.tbsSignatureAlgorithm), issuer.publicKey);
      });
      return problem ?? found;
    },
  },
  {
    name: "issuer_not_empty",
    source: "RFC 5280 4.1.2.4",
    level: "error",
    check: ({ certificate }) => (certificate.issuer.attributes.length > 0 ? null : "issuer is empty"),
  },
  {
    name: "issuer_is_parents_subject",
    source: "RFC 5280 6.1.3",
    level: "error",
    check: ({ certificate, issuer }) =>
      equal(certificate.issuer.der, issuer.subject.der)
        ? null
        : "issuer is not the issuing CA's subject, octet for octet",
  },
  {
    name: "issuer_may_sign",
    source: "RFC 5280 4.2.1.9",
    level: "error",
    check: ({ issuer }) => {
      if (issuer.basicConstraints?.ca !== true) return "the issuing certificate is not a CA";
      return issuer.keyUsage?.includes("keyCertSign") === false ? "the issuing CA lacks keyCertSign" : null;
    },
  },
  {
    name: "validity_order",
    source: "RFC 5280 4.1.2.5",
    level: "error",
    check: ({ certificate }) =>
      certificate.notBefore < certificate.notAfter ? null : "notAfter is not after notBefore",
  },
  {
    name: "validity_within_issuer",
    source: "CA/B BR 6.3.2",
    level: "error",
    check: ({ certificate, issuer, chain, kind }) => {
      // A responder may last as long as its CA.
      const above = kind === "responder" ? [issuer] : [issuer, ...chain];
      const sooner = above.find(({ notAfter }) => certificate.notAfter > notAfter);
      return sooner ? `ends after a CA above it (${sooner.notAfter.toISOString()})` : null;
    },
  },
  {
    name: "validity_starts_within_issuer",
    source: "RFC 5280 6.1.3",
    level: "warning",
    check: ({ certificate, issuer }) =>
      certificate.notBefore >= issuer.notBefore ? null : `starts before its issuer (${issuer.notBefore.toISOString()})`,
  },
  { name: "validity_time_type", source: "RFC 5280 4.1.2.5", level: "error", check: timeEncoding },
  {
    name: "key_strong",
    source: "CA/B BR 6.1.1.3",
    level: "error",
    check: ({ certificate }) => problemOf(() => assertStrongKey(certificate.publicKey)),
  },
  {
    name: "critical_extensions_understood",
    source: "RFC 5280 4.2",
    level: "error",
    check: ({ certificate: { unknownCritical } }) =>
      unknownCritical.length === 0 ? null : `unknown critical extension ${unknownCritical.join(", ")}`,
  },
];
