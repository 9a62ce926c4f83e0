import type { Certificate } from "../parse-certificate.ts";

/** The kind of certificate: an end entity, a subordinate CA, a self-signed CA, or a delegated OCSP responder. */
export type CertificateKind = "leaf" | "ca" | "root" | "responder";

export interface LintContext {
  readonly kind: CertificateKind;
  /** Null: it is self-signed. */
  readonly issuer: Certificate | null;
  /** The known CAs above the issuer: their path lengths and name constraints apply too. */
  readonly ancestors?: readonly Certificate[];
}

export interface Finding {
  /** Stable name of the rule. */
  readonly rule: string;
  /** The rule's origin, such as `RFC 5280 4.1.2.2`. */
  readonly source: string;
  /** A certificate with an error must not be signed. */
  readonly level: "error" | "warning";
  readonly message: string;
}

/** The certificate being linted, with values that many rules need. */
export interface Subject {
  readonly certificate: Certificate;
  readonly kind: CertificateKind;
  /** The issuer's certificate; for a self-signed certificate, the certificate itself. */
  readonly issuer: Certificate;
  readonly selfSigned: boolean;
  /** All CAs above it, its issuer first; empty if it is self-signed. */
  readonly chain: readonly Certificate[];
}

export interface Rule {
  readonly name: string;
  readonly source: string;
  readonly level: "error" | "warning";
  /** Kinds that the rule applies to; absent: all. */
  readonly kinds?: readonly CertificateKind[];
  /** The fault, or null. */
  readonly check: (subject: Subject) => string | null;
}
