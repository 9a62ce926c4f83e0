import { eq } from "drizzle-orm";
import { allowsKey, allowsName, findProfile, type Profile } from "../inventory/profiles.ts";
import { type Bytes, fromHex, sha256Hex, toHex } from "../pki/bytes.ts";
import { excludedEku, type Certificate as ParsedCertificate, parseCertificate } from "../pki/certificate.ts";
import { type Csr, parseCsr, verifyCsr } from "../pki/csr.ts";
import { PkiError } from "../pki/errors.ts";
import { type GeneralName, parseSan, sameName } from "../pki/general-names.ts";
import { assertStrongKey, type PublicKeyInfo } from "../pki/keys.ts";
import { violationOf } from "../pki/name-constraints.ts";
import { EMPTY_NAME, encodeName, formatName, MAX_COMMON_NAME, parseName, type SubjectName } from "../pki/names.ts";
import { certificatesFromPem, encodePem } from "../pki/pem.ts";
import type { Context } from "../platform/context.ts";
import { invalid, unavailable } from "../platform/errors.ts";
import { findCaOfLedger, findSigningCa, type SigningCa } from "./issuers/signing.ts";
import { type Issued, ledgerOf } from "./ledger.ts";
import { refusalError, translate, translated } from "./refusals.ts";
import { blockedKeys } from "./table.ts";

/**
 * The one gate of issuance: every path to a certificate comes through here (invariant 8). `approve` turns a certificate
 * record, its profile and a request for a key into the exact names, key and lifetime that may be signed, or says what is
 * wrong; `issueApproved` has exactly that signed, as often as it is asked for one certificate.
 */

/** What may be signed: plain JSON, so that a job can keep it and ask again for exactly this. */
export interface Approved {
  readonly issuer_id: string;
  readonly ca_id: string;
  readonly ledger_id: string;
  readonly subject: Readonly<Record<string, string>>;
  readonly sans: readonly GeneralName[];
  /** SubjectPublicKeyInfo, DER in lower-case hex. */
  readonly spki: string;
  /** RSA, ECDSA or Ed25519, and its bits. */
  readonly key_algorithm: string;
  readonly key_size: number;
  readonly ekus: readonly string[];
  readonly must_staple: boolean;
  readonly ttl_seconds: number;
}

/** Whose certificate it is to be. */
export interface IssueFor {
  /** Same id, key and names: the same certificate again. */
  readonly request_id: string;
  readonly certificate_id: string;
  /** Handed to the inventory as it is when this caller dies before it has written its rows. */
  readonly settle: Readonly<Record<string, unknown>>;
}

/** What the gate reads of a certificate record. */
export interface CertificateRecord {
  readonly id: string;
  readonly common_name: string;
  readonly sans: readonly string[];
  readonly issuer_id: string;
  readonly certificate_profile_id: string | null;
}

/** A certificate with what its version row needs. */
export interface Certified {
  readonly issued: Issued;
  readonly issuer_id: string;
  readonly ca_id: string;
  readonly ledger_id: string;
  /** The leaf first, then each issuer up to and including the root. */
  readonly pem_chain: string;
  readonly fingerprint_sha256: string;
}

/** What a certificate is for where no profile says so. */
const DEFAULT_EKUS: readonly string[] = ["serverAuth", "clientAuth"];
const DAY = 86_400;

/**
 * Checks a CSR (PKCS#10, PEM or DER) against record and profile: proof of possession, key, names, extensions. Signs nothing.
 * Throws AppError 400 that names what is wrong, 409 when the issuer cannot sign.
 */
export async function approve(
  ctx: Context,
  record: CertificateRecord,
  request: string | Bytes,
): Promise<{ readonly approved: Approved; readonly csr_pem: string }> {
  const ca = await findSigningCa(ctx, record.issuer_id);
  const profile = await profileOf(ctx, record);
  const csr = await provenCsr(request);
  const key = csr.publicKey;
  await checkKey(ctx, key, profile);
  const sans = recordNames(record, profile);
  checkRequestedNames(csr, sans, record);
  checkRequestedExtensions(csr, profile);
  const chain = certificatesFromPem(ca.cert_pem + ca.chain_pem).map(parseCertificate);
  const subject = subjectOf(record, profile, chain);
  checkConstraints(ca, chain, sans, subject);
  const ekus = profile?.allowed_ekus ?? DEFAULT_EKUS;
  checkEkus(chain, ekus, profile);
  const approved: Approved = {
    issuer_id: ca.issuer_id,
    ca_id: ca.ca_id,
    ledger_id: ca.ledger_id,
    subject,
    sans,
    spki: toHex(key.spki),
    key_algorithm: key.algorithm,
    key_size: key.size,
    ekus,
    must_staple: profile?.must_staple ?? false,
    ttl_seconds: lifetime(ca, profile),
  };
  return { approved, csr_pem: encodePem("CERTIFICATE REQUEST", csr.der) };
}

/**
 * Has an approved request signed, once: the same `request_id`, key and names give the same certificate. Throws AppError 409
 * for a request id that was used for another key or names and when the CA signs no more, 400 when the lint refuses it.
 */
export async function issueApproved(ctx: Context, approved: Approved, whose: IssueFor): Promise<Certified> {
  const [result] = await ledgerOf(ctx, approved.ledger_id).issue([
    {
      request_id: whose.request_id,
      certificate_id: whose.certificate_id,
      subject: approved.subject,
      sans: approved.sans,
      spki: fromHex(approved.spki),
      ekus: approved.ekus,
      must_staple: approved.must_staple,
      ttl_seconds: approved.ttl_seconds,
      settle: whose.settle,
    },
  ]);
  if (!result) throw unavailable("ledger_silent", "the CA did not answer");
  if (!result.ok) throw refusalError(result);
  return certify(ctx, result);
}

/** What belongs to a certificate that a ledger issued: also for what its outbox hands over. */
export async function certify(ctx: Context, issued: Issued): Promise<Certified> {
  const ca = await findCaOfLedger(ctx, issued.ledger_id);
  return {
    issued,
    issuer_id: ca.issuer_id,
    ca_id: ca.ca_id,
    ledger_id: ca.ledger_id,
    pem_chain: encodePem("CERTIFICATE", issued.der) + ca.cert_pem + ca.chain_pem,
    fingerprint_sha256: await sha256Hex(issued.der),
  };
}

async function profileOf(ctx: Context, record: CertificateRecord): Promise<Profile | null> {
  if (record.certificate_profile_id === null) return null;
  const profile = await findProfile(ctx, record.certificate_profile_id);
  if (!profile) throw invalid("certificate_profile_id", `profile ${record.certificate_profile_id} does not exist`);
  if (!profile.enabled) {
    throw invalid("certificate_profile_id", `profile ${profile.id} is disabled`, "profile_disabled");
  }
  return profile;
}

/** Parses the CSR and checks its proof of possession (RFC 2986 section 4.2). */
async function provenCsr(text: string | Bytes): Promise<Csr> {
  const csr = translate("csr_pem", "csr_invalid", () => parseCsr(text));
  let proven: boolean;
  try {
    proven = await verifyCsr(csr);
  } catch (error) {
    throw translated("csr_pem", "csr_invalid", error);
  }
  if (!proven)
    throw invalid(
      "csr_pem",
      "its signature is not by its own key: proof of possession failed",
      "csr_signature_invalid",
    );
  return csr;
}

async function checkKey(ctx: Context, key: PublicKeyInfo, profile: Profile | null): Promise<void> {
  translate("csr_pem", "weak_key", () => assertStrongKey(key));
  if (profile && !allowsKey(profile, key)) {
    const allowed = profile.allowed_key_algorithms.map((rule) => `${rule.algorithm} from ${rule.min_size} bits`);
    throw invalid(
      "csr_pem",
      `the key is ${key.algorithm} of ${key.size} bits; profile ${profile.id} allows ${allowed.join(", ")}`,
      "key_not_allowed",
    );
  }
  const [blocked] = await ctx.db
    .select({ reason: blockedKeys.reason })
    .from(blockedKeys)
    .where(eq(blockedKeys.spki_sha256, await sha256Hex(key.spki)));
  if (blocked) {
    throw invalid(
      "csr_pem",
      `this key was revoked for ${blocked.reason} and is refused for ever: make a new one`,
      "key_blocked",
    );
  }
}

/** The names of the record, the common name among them, each as the profile allows. */
function recordNames(record: CertificateRecord, profile: Profile | null): GeneralName[] {
  const names: GeneralName[] = [];
  for (const text of [record.common_name, ...record.sans]) {
    const name = translate("sans", "invalid_name", () => parseSan(text));
    if (!names.some((known) => sameName(known, name))) names.push(name);
  }
  const refused = profile ? names.find((name) => !allowsName(profile, name.value)) : undefined;
  if (refused) {
    throw invalid("sans", `${refused.value} matches no pattern of profile ${profile?.id}`, "name_not_allowed");
  }
  return names;
}

/** A CSR may name fewer names than the record, never others. */
function checkRequestedNames(csr: Csr, allowed: readonly GeneralName[], record: CertificateRecord): void {
  const beyond = csr.sans.find((name) => !allowed.some((known) => sameName(known, name)));
  const foreign = beyond ? `${beyond.type}:${beyond.value}` : csr.otherNames[0];
  if (foreign !== undefined) {
    throw invalid(
      "csr_pem",
      `the subject alternative name ${foreign} is not in the certificate record`,
      "name_not_in_record",
    );
  }
  const { commonName } = csr;
  if (commonName === null || commonName === "" || commonName === record.common_name) return;
  const name = nameOf(commonName);
  if (name === null || !allowed.some((known) => sameName(known, name))) {
    throw invalid(
      "csr_pem",
      `the common name ${JSON.stringify(commonName)} is not in the certificate record`,
      "name_not_in_record",
    );
  }
}

/** The name that a common name is, in canonical form; null where it is none. */
function nameOf(commonName: string): GeneralName | null {
  try {
    return parseSan(commonName);
  } catch (error) {
    if (error instanceof PkiError) return null;
    throw error;
  }
}

function checkRequestedExtensions(csr: Csr, profile: Profile | null): void {
  if (csr.isCa) throw invalid("csr_pem", "asks for CA:TRUE; only end entities are certified here", "ca_not_allowed");
  const allowed = profile?.allowed_ekus ?? DEFAULT_EKUS;
  const eku = csr.requestedEkus.find((asked) => !allowed.includes(asked));
  if (eku !== undefined) {
    throw invalid(
      "csr_pem",
      `asks for the extended key usage ${eku}; allowed are ${allowed.join(", ")}`,
      "eku_not_allowed",
    );
  }
  if (csr.mustStaple && !profile?.must_staple) {
    throw invalid("csr_pem", "asks for must-staple, which its profile does not give", "extension_not_allowed");
  }
}

/**
 * From record and profile, never from the CSR. A common name that is too long stays out (RFC 5280 appendix A.1), and so does an
 * IP address that a DNS constraint would exclude: relying parties take a common name for a DNS name where no SAN is one.
 */
function subjectOf(
  record: CertificateRecord,
  profile: Profile | null,
  chain: readonly ParsedCertificate[],
): Record<string, string> {
  const { common_name } = record;
  if (common_name.length > MAX_COMMON_NAME) return {};
  const fixed = Object.entries(profile?.subject ?? {}).filter((entry): entry is [string, string] => !!entry[1]);
  const asDns = { names: [{ type: "dns", value: common_name }], subject: parseName(EMPTY_NAME) } as const;
  const excluded =
    nameOf(common_name)?.type === "ip" &&
    chain.some(({ nameConstraints }) => violationOf(asDns, nameConstraints) !== null);
  return { ...Object.fromEntries(fixed), ...(excluded ? {} : { common_name }) };
}

/** The name constraints of the CA and of all above it (RFC 5280 section 6.1.3 b, c). */
function checkConstraints(
  ca: SigningCa,
  chain: readonly ParsedCertificate[],
  names: readonly GeneralName[],
  subject: SubjectName,
): void {
  const constrained = { names, subject: parseName(encodeName(subject)) };
  for (const authority of chain) {
    const violation = violationOf(constrained, authority.nameConstraints);
    if (violation === null) continue;
    const whose = formatName(authority.subject);
    throw invalid("sans", `${violation} (name constraints of ${whose}, for CA ${ca.ca_id})`, "name_not_allowed");
  }
}

/** The extended key usages of the CA and of all above it bound those of the leaf. */
function checkEkus(chain: readonly ParsedCertificate[], ekus: readonly string[], profile: Profile | null): void {
  const excluded = ekus.map((eku) => excludedEku(chain, eku)).find((found) => found !== null);
  if (!excluded) return;
  const remedy = profile ? "choose another" : "choose a";
  throw invalid("certificate_profile_id", `${excluded}; ${remedy} profile that allows no more`, "eku_not_allowed");
}

/** Profile and issuer each bound the lifetime; the ledger cuts it to the CA's own end. */
function lifetime(ca: SigningCa, profile: Profile | null): number {
  const own = ca.validity_days * DAY;
  return profile && profile.max_ttl_seconds > 0 ? Math.min(own, profile.max_ttl_seconds) : own;
}
