import type { Bytes } from "../bytes.ts";
import { PkiError } from "../errors.ts";
import { assembleCertificate } from "../issue.ts";
import { type Certificate, parseCertificate } from "../parse-certificate.ts";
import { BASIC_RULES } from "./basic.ts";
import { EXTENSION_RULES } from "./extensions.ts";
import { NAME_RULES } from "./names.ts";
import type { Finding, LintContext, Rule } from "./rule.ts";

export type { CertificateKind, Finding, LintContext } from "./rule.ts";

/** Every rule, for documentation and tests. */
export const RULES: readonly Rule[] = [...BASIC_RULES, ...NAME_RULES, ...EXTENSION_RULES];

const WELL_FORMED = { rule: "well_formed", source: "RFC 5280 4.1", level: "error" } as const;

/**
 * Looks for what must not be in a certificate: RFC 5280, and the CA/B Baseline Requirements 7.1 where they apply to a private
 * CA. Octets that are no certificate are one finding, `well_formed`. What has a finding of level `error` must not be signed.
 * The signature is not looked at: what is linted is a copy that is signed by nobody.
 */
export function lintCertificate(der: Bytes, context: LintContext): Finding[] {
  let certificate: Certificate;
  try {
    certificate = parseCertificate(der);
  } catch (error) {
    if (error instanceof PkiError) return [{ ...WELL_FORMED, message: error.message }];
    throw error;
  }
  const { kind, chain } = context;
  const subject = { certificate, kind, chain, issuer: chain[0] ?? certificate, selfSigned: chain.length === 0 };
  const findings: Finding[] = [];
  for (const { name, source, level, kinds, check } of RULES) {
    if (kinds !== undefined && !kinds.includes(kind)) continue;
    const message = check(subject);
    if (message !== null) findings.push({ rule: name, source, level, message });
  }
  return findings;
}

/** Placeholder in the place of a signature: no key made it, so nobody can rely on the copy that carries it. */
const THROW_AWAY_SIGNATURE: Bytes = new Uint8Array(64);

/** Lints a TBSCertificate that is about to be signed, in a copy whose signature is thrown away. */
export function lintTbsCertificate(tbs: Bytes, algorithmIdentifier: Bytes, context: LintContext): Finding[] {
  return lintCertificate(assembleCertificate(tbs, algorithmIdentifier, THROW_AWAY_SIGNATURE), context);
}

/** The findings that forbid signing. */
export function lintErrors(findings: readonly Finding[]): Finding[] {
  return findings.filter(({ level }) => level === "error");
}
