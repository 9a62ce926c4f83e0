import { equal } from "../bytes.ts";
import { excludedEku } from "../ca-chain.ts";
import { EXTENSION, type KeyUsage } from "../extensions.ts";
import type { Rule, Subject } from "./rule.ts";

/** Rules for extensions other than names. */

/** RFC 5280's requirement for each extension's critical flag. */
const CRITICALITY: readonly {
  oid: string;
  name: string;
  critical: boolean;
  level: "error" | "warning";
  source: string;
}[] = [
  { oid: EXTENSION.keyUsage, name: "key_usage", critical: true, level: "error", source: "CA/B BR 7.1.2.7.11" },
  {
    oid: EXTENSION.basicConstraints,
    name: "basic_constraints",
    critical: true,
    level: "error",
    source: "RFC 5280 4.2.1.9",
  },
  {
    oid: EXTENSION.nameConstraints,
    name: "name_constraints",
    critical: true,
    level: "error",
    source: "RFC 5280 4.2.1.10",
  },
  { oid: EXTENSION.subjectKeyIdentifier, name: "ski", critical: false, level: "error", source: "RFC 5280 4.2.1.2" },
  { oid: EXTENSION.authorityKeyIdentifier, name: "aki", critical: false, level: "error", source: "RFC 5280 4.2.1.1" },
  { oid: EXTENSION.authorityInfoAccess, name: "aia", critical: false, level: "error", source: "RFC 5280 4.2.2.1" },
  { oid: EXTENSION.crlDistributionPoints, name: "cdp", critical: false, level: "warning", source: "RFC 5280 4.2.1.13" },
  { oid: EXTENSION.tlsFeature, name: "tls_feature", critical: false, level: "warning", source: "RFC 7633 4.1" },
  { oid: EXTENSION.ocspNoCheck, name: "ocsp_nocheck", critical: false, level: "warning", source: "RFC 6960 4.2.2.2.1" },
];

const CRITICALITY_RULES: readonly Rule[] = CRITICALITY.map(({ oid, name, critical, level, source }) => ({
  name: `${name}_criticality`,
  source,
  level,
  check: ({ certificate }) => {
    const extension = certificate.extensions.find((candidate) => candidate.oid === oid);
    if (extension === undefined || extension.critical === critical) return null;
    return critical ? "must be critical" : "must not be critical";
  },
}));

function has(subject: Subject, usage: KeyUsage): boolean {
  return subject.certificate.keyUsage?.includes(usage) ?? false;
}

function keyUsageFitsKey({ certificate }: Subject): string | null {
  const { algorithm } = certificate.publicKey;
  const never: readonly KeyUsage[] =
    algorithm === "ECDSA"
      ? ["keyEncipherment", "dataEncipherment"]
      : algorithm === "Ed25519"
        ? ["keyEncipherment", "dataEncipherment", "keyAgreement", "encipherOnly", "decipherOnly"]
        : ["keyAgreement", "encipherOnly", "decipherOnly"];
  const wrong = (certificate.keyUsage ?? []).filter((usage) => never.includes(usage));
  return wrong.length === 0 ? null : `${wrong.join(", ")} with a key of type ${algorithm}`;
}

function ekuFitsKeyUsage(subject: Subject): string | null {
  const ekus = subject.certificate.extendedKeyUsage;
  if (ekus === null || subject.certificate.keyUsage === null) return null;
  const encrypts = has(subject, "keyEncipherment") || has(subject, "keyAgreement");
  const signs = has(subject, "digitalSignature");
  for (const eku of ekus) {
    const ok = eku === "serverAuth" || eku === "emailProtection" ? signs || encrypts : signs;
    if (!ok) return `${eku} without a key usage that allows it`;
  }
  return null;
}

function ekuForLeaf({ certificate }: Subject): string | null {
  const ekus = certificate.extendedKeyUsage ?? [];
  if (ekus.includes("anyExtendedKeyUsage")) return "anyExtendedKeyUsage in an end entity certificate";
  if (ekus.includes("OCSPSigning")) return "OCSPSigning in a certificate that is no responder of the CA";
  return new Set(ekus).size === ekus.length ? null : "a key purpose stands twice";
}

function pathLength({ certificate, chain }: Subject): string | null {
  const own = certificate.basicConstraints?.pathLen ?? null;
  for (const [below, authority] of chain.entries()) {
    const bound = authority.basicConstraints?.pathLen ?? null;
    if (bound === null) continue;
    // RFC 5280 6.1.4 (l), (m): `below` CAs are between the two, plus this one.
    if (below + 1 > bound) return `a CA above allows ${bound} CAs below it`;
    if (own !== null && own > bound - below - 1) return `pathLen ${own} reaches beyond the ${bound} of a CA above`;
  }
  return null;
}

function authorityKey({ certificate, issuer, selfSigned }: Subject): string | null {
  const aki = certificate.authorityKeyIdentifier;
  if (aki === null) return selfSigned ? null : "no authorityKeyIdentifier";
  if (aki.keyIdentifier === null) return "authorityKeyIdentifier without keyIdentifier";
  if (aki.namesIssuer) return "authorityKeyIdentifier with issuer and serial";
  const wanted = issuer.subjectKeyIdentifier;
  return wanted !== null && equal(aki.keyIdentifier, wanted) ? null : "authorityKeyIdentifier is not the issuer's SKI";
}

const urls = ({ certificate }: Subject): readonly string[] => [
  ...certificate.crlUrls,
  ...certificate.ocspUrls,
  ...certificate.caIssuersUrls,
];

function ocspResponder(subject: Subject): string | null {
  const { certificate } = subject;
  const ekus = certificate.extendedKeyUsage ?? [];
  if (ekus.length !== 1 || ekus[0] !== "OCSPSigning") return "must have the key purpose OCSPSigning alone";
  if (!certificate.ocspNoCheck) return "lacks id-pkix-ocsp-nocheck";
  return has(subject, "digitalSignature") ? null : "lacks digitalSignature";
}

export const EXTENSION_RULES: readonly Rule[] = [
  ...CRITICALITY_RULES,
  {
    name: "end_entity_is_no_ca",
    source: "RFC 5280 4.2.1.9",
    level: "error",
    kinds: ["leaf", "responder"],
    check: (subject) => {
      if (subject.certificate.basicConstraints?.ca === true) return "cA is TRUE";
      if (subject.certificate.nameConstraints !== null) return "nameConstraints in an end entity certificate";
      return has(subject, "keyCertSign") || has(subject, "cRLSign") ? "keyCertSign or cRLSign without cA" : null;
    },
  },
  {
    name: "ca_is_ca",
    source: "RFC 5280 4.2.1.3",
    level: "error",
    kinds: ["ca", "root"],
    check: (subject) => {
      if (subject.certificate.basicConstraints?.ca !== true) return "cA is not TRUE";
      return has(subject, "keyCertSign") && has(subject, "cRLSign") ? null : "lacks keyCertSign or cRLSign";
    },
  },
  { name: "path_length", source: "RFC 5280 6.1.4", level: "error", kinds: ["ca"], check: pathLength },
  {
    name: "key_usage_present",
    source: "RFC 5280 4.2.1.3",
    level: "error",
    check: ({ certificate }) => (certificate.keyUsage === null ? "no keyUsage" : null),
  },
  {
    name: "key_usage_fits_key",
    source: "RFC 8813 3, RFC 8410 5, RFC 4055 1.2",
    level: "error",
    check: keyUsageFitsKey,
  },
  {
    name: "eku_present",
    source: "CA/B BR 7.1.2.7.10",
    level: "warning",
    kinds: ["leaf"],
    check: ({ certificate }) => (certificate.extendedKeyUsage === null ? "no extendedKeyUsage" : null),
  },
  { name: "eku_for_leaf", source: "CA/B BR 7.1.2.7.10", level: "error", kinds: ["leaf"], check: ekuForLeaf },
  {
    name: "eku_fits_key_usage",
    source: "RFC 5280 4.2.1.12",
    level: "error",
    kinds: ["leaf", "responder"],
    check: ekuFitsKeyUsage,
  },
  {
    name: "eku_within_chain",
    source: "CA/B BR 7.1.2.10.6",
    level: "error",
    kinds: ["leaf"],
    check: ({ certificate, chain }) =>
      (certificate.extendedKeyUsage ?? []).map((eku) => excludedEku(chain, eku)).find((found) => found !== null) ??
      null,
  },
  {
    name: "time_stamping_alone",
    source: "RFC 3161 2.3",
    level: "error",
    kinds: ["leaf"],
    check: ({ certificate }) => {
      const ekus = certificate.extendedKeyUsage ?? [];
      if (!ekus.includes("timeStamping")) return null;
      const critical = certificate.extensions.find(({ oid }) => oid === EXTENSION.extendedKeyUsage)?.critical;
      return ekus.length === 1 && critical === true ? null : "timeStamping must be the only, critical key purpose";
    },
  },
  { name: "ocsp_responder", source: "RFC 6960 4.2.2.2", level: "error", kinds: ["responder"], check: ocspResponder },
  {
    name: "ski_present",
    source: "RFC 5280 4.2.1.2",
    level: "error",
    check: ({ certificate: { subjectKeyIdentifier } }) =>
      subjectKeyIdentifier?.length === 20 ? null : "no subjectKeyIdentifier of 160 bits",
  },
  { name: "aki_is_issuers_ski", source: "RFC 5280 4.2.1.1", level: "error", check: authorityKey },
  {
    name: "pointers_are_http",
    source: "CA/B BR 7.1.2.11.2",
    level: "error",
    check: (subject) => {
      const wrong = urls(subject).find((url) => !/^https?:\/\/[^/]/.test(url) || !URL.canParse(url));
      return wrong === undefined ? null : `${wrong} is not an HTTP URL`;
    },
  },
  {
    name: "pointers_are_plain_http",
    source: "RFC 5280 8",
    level: "warning",
    check: (subject) => {
      const wrong = urls(subject).find((url) => url.startsWith("https:"));
      return wrong === undefined ? null : `${wrong} needs TLS to check TLS`;
    },
  },
  {
    name: "must_staple_form",
    source: "RFC 7633 4",
    level: "error",
    check: ({ certificate: { tlsFeatures } }) =>
      tlsFeatures === null || (tlsFeatures.length === 1 && tlsFeatures[0] === 5)
        ? null
        : "TLS feature is not status_request (5) alone",
  },
  {
    name: "must_staple_needs_ocsp",
    source: "RFC 7633 4.2.2",
    level: "error",
    check: ({ certificate }) =>
      certificate.tlsFeatures !== null && certificate.ocspUrls.length === 0 ? "must-staple without an OCSP URL" : null,
  },
];
