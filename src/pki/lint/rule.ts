import type { Certificate } from "../parse-certificate.ts";

/** What is being linted: an end entity, a subordinate CA, a self-signed CA, or a delegated OCSP responder. */
export type CertificateKind = "leaf" | "ca" | "root" | "responder";

export interface LintContext {
  readonly kind: CertificateKind;
  /** Null: it is self-signed. */
  readonly issuer: Certificate | null;
  /** The CAs above the issuer, where they are known: their path lengths and name constraints hold too. */
  readonly ancestors?: readonly Certificate[];
}

export interface Finding {
  /** Stable name of the rule. */
  readonly rule: string;
  /** Where the rule comes from, as `RFC 5280 4.1.2.2`. */
  readonly source: string;
  /** An error must not be signed. */
  readonly level: "error" | "warning";
  readonly message: string;
}

/** The certificate under the lint with what the rules ask for again and again. */
export interface Subject {
  readonly certificate: Certificate;
  readonly kind: CertificateKind;
  /** The issuer's certificate; the certificate itself when it is self-signed. */
  readonly issuer: Certificate;
  readonly selfSigned: boolean;
  /** All CAs above it, its issuer first; empty when it is self-signed. */
  readonly chain: readonly Certificate[];
}

export interface Rule {
  readonly name: string;
  readonly source: string;
  readonly level: "error" | "warning";
  /** Kinds that it applies to; absent: all. */
  readonly kinds?: readonly CertificateKind[];
  /** What is wrong, or null. */
  readonly check: (subject: Subject) => string | null;
}
