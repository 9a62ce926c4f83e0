/** A finding that stays. */
export interface Exception {
  readonly checker: "zlint" | "go" | "pkilint";
  readonly code: string;
  /** Names of the artefacts that it concerns. */
  readonly artefacts: RegExp;
  readonly reason: string;
}

/** All that is tolerated. Anything else that a checker finds is a failure, and so is an exception that nothing needs. */
export const EXCEPTIONS: readonly Exception[] = [
  {
    checker: "pkilint",
    code: "pkix.signature_verification_failed",
    artefacts: /(leaf|responder) .*-pss/,
    reason:
      "pkilint 0.13 verifies every signature of an RSA key with PKCS#1 v1.5 padding, RSASSA-PSS ones (RFC 4055) too; Go and openssl verify these.",
  },
];
