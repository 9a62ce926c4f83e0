import type { Bytes } from "../bytes.ts";
import { decode, Reader, TAG } from "../der.ts";
import { PkiError } from "../errors.ts";
import { assembleCertificate } from "../issue.ts";
import { type Certificate, parseCertificate } from "../parse-certificate.ts";
import { BASIC_RULES } from "./basic.ts";
import { EXTENSION_RULES } from "./extensions.ts";
import { NAME_RULES } from "./names.ts";
import type { Finding, LintContext, Rule, Subject } from "./rule.ts";

export type { CertificateKind, Finding, LintContext } from "./rule.ts";

/** Every rule, for documentation and tests. */
export const RULES: readonly Rule[] = [...BASIC_RULES, ...NAME_RULES, ...EXTENSION_RULES];

const WELL_FORMED = { rule: "well_formed", source: "RFC 5280 4.1", level: "error" } as const;

/**
 * Checks a certificate against RFC 5280 and those CA/B Baseline Requirements of section 7.1 that apply to a private CA.
 * Octets that are not a certificate are one finding, `well_formed`. A certificate with a finding of level `error` must
 * not be signed. The signature is ignored: the linted copy has a throw-away one.
 */
export function lintCertificate(der: Bytes, context: LintContext): Finding[] {
  let certificate: Certificate;
  try {
    certificate = parseCertificate(der);
  } catch (error) {
    if (error instanceof PkiError) return [{ ...WELL_FORMED, message: error.message }];
    throw error;
  }
  const { kind, issuer, ancestors = [] } = context;
  const subject: Subject = {
    certificate,
    kind,
    issuer: issuer ?? certificate,
    selfSigned: issuer === null,
    chain: issuer === null ? [] : [issuer, ...ancestors],
  };
  const findings: Finding[] = [];
  for (const { name, source, level, kinds, check } of RULES) {
    if (kinds !== undefined && !kinds.includes(kind)) continue;
    const message = check(subject);
    if (message !== null) findings.push({ rule: name, source, level, message });
  }
  return findings;
}

/**
 * Lints a TBSCertificate before it is signed, as a copy with a throw-away signature by an untrusted key. The outer
 * AlgorithmIdentifier equals the inner one.
 */
export function lintTbsCertificate(tbs: Bytes, throwAwaySignature: Bytes, context: LintContext): Finding[] {
  let algorithmIdentifier: Bytes;
  try {
    const fields = new Reader(decode(tbs));
    fields.optional(0xa0);
    fields.next(TAG.INTEGER);
    algorithmIdentifier = fields.next(TAG.SEQUENCE).bytes;
  } catch (error) {
    if (error instanceof PkiError) return [{ ...WELL_FORMED, message: error.message }];
    throw error;
  }
  return lintCertificate(assembleCertificate(tbs, algorithmIdentifier, throwAwaySignature), context);
}

/** The findings that forbid signing. */
export function lintErrors(findings: readonly Finding[]): Finding[] {
  return findings.filter(({ level }) => level === "error");
}
