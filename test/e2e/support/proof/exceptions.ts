/** A finding that stays. */
export interface Exception {
  readonly checker: "zlint" | "go" | "pkilint";
  readonly code: string;
  /** What `artefact: message` of the finding says. */
  readonly where: RegExp;
  readonly reason: string;
}

/** All that is tolerated. Anything else that a checker finds is a failure, and so is an exception that nothing needs. */
export const EXCEPTIONS: readonly Exception[] = [
  {
    checker: "pkilint",
    code: "pkix.signature_verification_failed",
    where: /(leaf|responder) .*-pss/,
    reason:
      "pkilint 0.13 verifies each signature of an RSA key as PKCS#1 v1.5, RSASSA-PSS (RFC 4055) too; Go and openssl accept these.",
  },
  {
    checker: "pkilint",
    code: "pkix.invalid_uri_syntax",
    where: /subjectAltName.*"(urn|spiffe):/,
    reason:
      "pkilint wants a web address of each URI. RFC 5280 section 4.2.1.6 takes any scheme: URNs (RFC 8141) have no host, and SPIFFE IDs are a scheme of their own.",
  },
  {
    checker: "pkilint",
    code: "pkix.ldap_uri_not_validated",
    where: /subjectAltName.*ldap:/,
    reason: "Says that pkilint does not look into LDAP URIs, not that one is wrong.",
  },
  {
    checker: "pkilint",
    code: "pkix.invalid_domain_name_syntax",
    where: /subjectAltName.*"\*\.example\.com"/,
    reason:
      "RFC 5280 leaves wildcards open; RFC 6125 section 6.4.3 (now RFC 9525 section 6.3) has them as the whole leftmost label.",
  },
  {
    checker: "pkilint",
    code: "pkix.invalid_domain_name_syntax",
    where: /leaf mc-names-single: .*"intranet"/,
    reason:
      "pkilint wants a dot. A host name of one label is a name in the preferred syntax of RFC 1034 section 3.5; private PKIs have them.",
  },
  {
    checker: "go",
    code: "certificate",
    where: /-walled: x509: unhandled critical extension/,
    reason: "crypto/x509 knows no dirName constraints and must refuse a path below one; openssl and GnuTLS know them.",
  },
  {
    checker: "zlint",
    code: "n_san_iana_pub_suffix_empty",
    where: /leaf mc-names-single: .*intranet/,
    reason: "A note that a name of one label looks like a public suffix; a private PKI certifies such hosts.",
  },
];
