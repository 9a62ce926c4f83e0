import { eq, type SQL } from "drizzle-orm";
import type { BatchItem } from "drizzle-orm/batch";
import { allowsKey, allowsName, type Profile, profileQuery } from "../inventory/profiles.ts";
import { type Bytes, sha256Hex, toHex } from "../pki/bytes.ts";
import { excludedEku, type Certificate as ParsedCertificate, parseCertificate } from "../pki/certificate.ts";
import { type Csr, parseCsr, verifyCsr } from "../pki/csr.ts";
import { PkiError } from "../pki/errors.ts";
import { type GeneralName, parseSan, sameName } from "../pki/general-names.ts";
import { assertStrongKey, type PublicKeyInfo } from "../pki/keys.ts";
import { violationOf } from "../pki/name-constraints.ts";
import { EMPTY_NAME, encodeName, formatName, MAX_COMMON_NAME, parseName, type SubjectName } from "../pki/names.ts";
import { certificatesFromPem, encodePem } from "../pki/pem.ts";
import { mustHold } from "../platform/access.ts";
import type { Actor, Context } from "../platform/context.ts";
import { invalid } from "../platform/errors.ts";
import { readTogether } from "../platform/writer.ts";
import { type Approved, type Ca, signingCa, signingQueries } from "./ca.ts";
import { translate, translated } from "./refusals.ts";
import { blockedKeys } from "./table.ts";

/**
 * The one gate of issuance: every path to a certificate goes through it (invariant 8). `approve` turns a request into
 * the exact names, key and lifetime that may be signed, or says what is wrong; `orders.ts` has exactly that signed.
 */

/** A request to issue, from any protocol. */
export interface RequestToIssue {
  /** The actor that asks. */
  readonly actor: Actor;
  readonly holder: Holder;
  readonly issuer_id: string;
  readonly profile_id: string | null;
  readonly names: RequestedNames;
  /** PKCS#10, PEM or DER. */
  readonly csr: string | Bytes;
}

/** The holder of the private key. `upload`: the actor that sent the request. */
export type Holder = { readonly type: "agent" | "device"; readonly id: string } | { readonly type: "upload" };

/** The names that the certificate may carry, and their source. */
export interface RequestedNames {
  readonly source: NameSource;
  readonly common_name: string | null;
  readonly sans: readonly string[];
}

/**
 * `record`: a certificate record. `challenge`: the holder proved control of them. `client_certificate`: they are in the
 * holder's present certificate. `order`: they were ordered and authorized beforehand.
 */
export type NameSource = "record" | "challenge" | "client_certificate" | "order";

/** For the error: where the name is missing, and the error code. */
const SOURCES: Readonly<Record<NameSource, { readonly what: string; readonly code: string }>> = {
  record: { what: "the certificate record", code: "name_not_in_record" },
  challenge: { what: "what the challenge proved", code: "name_not_proven" },
  client_certificate: { what: "the client's certificate", code: "name_not_in_certificate" },
  order: { what: "the order", code: "name_not_in_order" },
};

/** Extended key usages without a profile. */
const DEFAULT_EKUS: readonly string[] = ["serverAuth", "clientAuth"];

/**
 * Checks actor, proof of possession, key, names and extensions of a request. Signs nothing. Returns what may be signed
 * and the CA that will sign it. Throws AppError 400 that names the fault, 403 for an actor without permission, 409 when
 * the CA cannot sign. `known`: the result of `gateQueries`, if the caller already has it.
 */
export async function approve(
  ctx: Context,
  request: RequestToIssue,
  known?: readonly unknown[],
): Promise<{ readonly approved: Approved; readonly csr_pem: string; readonly ca: Ca }> {
  mustMayAsk(request);
  const { names } = request;
  const [profiles, blocked, ...signing] = (known ?? (await readFacts(ctx, request))) as GateFacts;
  const ca = await signingCa(ctx, request.issuer_id, signing);
  const profile = usableProfile(request.profile_id, profiles[0]);
  const csr = await provenCsr(request.csr);
  const key = csr.publicKey;
  checkKey(key, profile, blocked[0]);
  const sans = allowedNames(names, profile);
  checkRequestedNames(csr, sans, names);
  checkRequestedExtensions(csr, profile);
  const chain = certificatesFromPem(await ca.chain()).map(parseCertificate);
  const subject = subjectOf(names.common_name, profile, chain);
  checkConstraints(ca, chain, sans, subject);
  const ekus = profile?.allowed_ekus ?? DEFAULT_EKUS;
  checkEkus(chain, ekus, profile);
  const approved: Approved = {
    issuer_id: ca.issuer_id,
    ca_id: ca.ca_id,
    ca_key: ca.ca_key,
    subject,
    sans,
    spki: toHex(key.spki),
    key_algorithm: key.algorithm,
    key_size: key.size,
    ekus,
    must_staple: profile?.must_staple ?? false,
    ttl_seconds: lifetime(ca, profile),
  };
  return { approved, csr_pem: encodePem("CERTIFICATE REQUEST", csr.der), ca };
}

/**
 * The holder may ask for the names of its record; any other actor that brings a key needs cert.issue on the record.
 * Names from other sources carry their own proof. Throws 403.
 */
export function mustMayAsk(request: Omit<RequestToIssue, "csr">): void {
  const { actor, holder, names, issuer_id, profile_id } = request;
  if (names.source !== "record") return;
  if (holder.type === "agent" && actor.type === "Agent" && actor.id === holder.id) return;
  mustHold(actor, "cert.issue", { issuer_id, profile_id });
}

type GateFacts = readonly [Profile[], { reason: string }[], ...unknown[]];

/** The reads that `approve` needs, for the caller's batch. Issuer and profile may be SQL expressions for their ids. */
export function gateQueries(
  ctx: Context,
  of: { readonly issuer_id: string | SQL; readonly profile_id: string | SQL | null; readonly spki_sha256: string },
): BatchItem<"sqlite">[] {
  const blocked = ctx.db
    .select({ reason: blockedKeys.reason })
    .from(blockedKeys)
    .where(eq(blockedKeys.spki_sha256, of.spki_sha256));
  return [profileQuery(ctx, of.profile_id), blocked, ...signingQueries(ctx, of.issuer_id)];
}

async function readFacts(ctx: Context, request: RequestToIssue): Promise<readonly unknown[]> {
  const { issuer_id, profile_id } = request;
  return readTogether(ctx, ...gateQueries(ctx, { issuer_id, profile_id, spki_sha256: await keyHash(request.csr) }));
}

/** Empty for an unreadable CSR: `approve` refuses it later, after the checks that depend on the reads. */
async function keyHash(request: string | Bytes): Promise<string> {
  try {
    return await sha256Hex(parseCsr(request).publicKey.spki);
  } catch (error) {
    if (error instanceof PkiError) return "";
    throw error;
  }
}

function usableProfile(id: string | null, profile: Profile | undefined): Profile | null {
  if (id === null) return null;
  if (!profile) throw invalid("certificate_profile_id", `profile ${id} does not exist`);
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

function checkKey(key: PublicKeyInfo, profile: Profile | null, blocked: { reason: string } | undefined): void {
  translate("csr_pem", "weak_key", () => assertStrongKey(key));
  if (profile && !allowsKey(profile, key)) {
    const allowed = profile.allowed_key_algorithms.map((rule) => `${rule.algorithm} from ${rule.min_size} bits`);
    throw invalid(
      "csr_pem",
      `the key is ${key.algorithm} of ${key.size} bits; profile ${profile.id} allows ${allowed.join(", ")}`,
      "key_not_allowed",
    );
  }
  if (blocked) {
    throw invalid(
      "csr_pem",
      `this key was revoked for ${blocked.reason} and is refused for ever: make a new one`,
      "key_blocked",
    );
  }
}

/** The requested names, including the common name, each checked against the profile. */
function allowedNames({ common_name, sans }: RequestedNames, profile: Profile | null): GeneralName[] {
  const names: GeneralName[] = [];
  for (const text of common_name === null ? sans : [common_name, ...sans]) {
    const name = translate("sans", "invalid_name", () => parseSan(text));
    if (!names.some((known) => sameName(known, name))) names.push(name);
  }
  const refused = profile ? names.find((name) => !allowsName(profile, name.value)) : undefined;
  if (refused) {
    throw invalid("sans", `${refused.value} matches no pattern of profile ${profile?.id}`, "name_not_allowed");
  }
  return names;
}

/** A CSR may omit names of the request's source but may not add any. */
function checkRequestedNames(csr: Csr, allowed: readonly GeneralName[], names: RequestedNames): void {
  const { what, code } = SOURCES[names.source];
  const beyond = csr.sans.find((name) => !allowed.some((known) => sameName(known, name)));
  const foreign = beyond ? `${beyond.type}:${beyond.value}` : csr.otherNames[0];
  if (foreign !== undefined) {
    throw invalid("csr_pem", `the subject alternative name ${foreign} is not in ${what}`, code);
  }
  const { commonName } = csr;
  if (commonName === null || commonName === "" || commonName === names.common_name) return;
  const name = nameOf(commonName);
  if (name === null || !allowed.some((known) => sameName(known, name))) {
    throw invalid("csr_pem", `the common name ${JSON.stringify(commonName)} is not in ${what}`, code);
  }
}

/** The common name as a GeneralName in canonical form; null if it is not a name. */
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
 * Built from the request's names and the profile, never from the CSR. Omits a common name that is too long (RFC 5280
 * appendix A.1), and an IP address that a DNS constraint would exclude: relying parties treat the common name as a DNS
 * name when no SAN is one.
 */
function subjectOf(
  common_name: string | null,
  profile: Profile | null,
  chain: readonly ParsedCertificate[],
): Record<string, string> {
  if (common_name !== null && common_name.length > MAX_COMMON_NAME) return {};
  const fixed = Object.entries(profile?.subject ?? {}).filter((entry): entry is [string, string] => !!entry[1]);
  if (common_name === null) return Object.fromEntries(fixed);
  const asDns = { names: [{ type: "dns", value: common_name }], subject: parseName(EMPTY_NAME) } as const;
  const excluded =
    nameOf(common_name)?.type === "ip" &&
    chain.some(({ nameConstraints }) => violationOf(asDns, nameConstraints) !== null);
  return { ...Object.fromEntries(fixed), ...(excluded ? {} : { common_name }) };
}

/** Name constraints of the CA and of every CA above it (RFC 5280 section 6.1.3 b, c). */
function checkConstraints(
  ca: Ca,
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

/** The extended key usages of the CA and of every CA above it bound those of the leaf. */
function checkEkus(chain: readonly ParsedCertificate[], ekus: readonly string[], profile: Profile | null): void {
  const excluded = ekus.map((eku) => excludedEku(chain, eku)).find((found) => found !== null);
  if (!excluded) return;
  const remedy = profile ? "choose another" : "choose a";
  throw invalid("certificate_profile_id", `${excluded}; ${remedy} profile that allows no more`, "eku_not_allowed");
}

/** Profile and CA each bound the lifetime; the certificate never outlives its CA. */
function lifetime(ca: Ca, profile: Profile | null): number {
  const own = ca.ttl_seconds;
  return profile && profile.max_ttl_seconds > 0 ? Math.min(own, profile.max_ttl_seconds) : own;
}
