import type { Certificate } from "../parse-certificate.ts";

/** What is being linted: an end entity, a CA (root or subordinate), or a delegated OCSP responder. */
export type CertificateKind = "leaf" | "ca" | "ocsp";

export interface LintContext {
  readonly kind: CertificateKind;
  /** The certificates above it, its issuer first, up to the root; empty: it is self-signed. */
  readonly chain: readonly Certificate[];
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
