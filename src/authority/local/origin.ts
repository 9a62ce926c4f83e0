import { and, eq } from "drizzle-orm";
import { type Bytes, sha256Hex } from "../../pki/bytes.ts";
import { parseCertificate } from "../../pki/certificate.ts";
import { HIGHEST_CRL_FLOOR } from "../../pki/crl.ts";
import { isKeyPair } from "../../pki/keys.ts";
import { certificatesFromPem, privateKeyFromPem } from "../../pki/pem.ts";
import { type Context, timestamp } from "../../platform/context.ts";
import { conflict, invalid } from "../../platform/errors.ts";
import type { CaDescription, Ledger, Refusal } from "../ledger.ts";
import { translate } from "../refusals.ts";
import type { GenericCaConfig } from "./config.ts";
import { crlOfConfig, entriesOfConfig } from "./imported.ts";
import { type CaAuthorityRow, certificateAuthorities } from "./table.ts";

/** How an issuer's own CA is created: made here, imported, or a subordinate that waits for its certificate. */

interface CaOrigin {
  readonly name: string;
  readonly config: GenericCaConfig;
}

const DAY = 86_400;
const DEFAULT_CA_DAYS = 3_650;

/** History of an imported CA. The ledger takes it; the stored configuration does not keep it. */
export const PAST_FIELDS = ["issued", "revocations", "crl"] as const;

/** Two ledgers with the same name and key would each publish a list without the other's revocations. */
export function sameCa(ca: Pick<CaAuthorityRow, "name_hash_sha256" | "key_hash_sha256">) {
  return and(
    eq(certificateAuthorities.name_hash_sha256, ca.name_hash_sha256),
    eq(certificateAuthorities.key_hash_sha256, ca.key_hash_sha256),
  );
}

/** 409 if an issuer already has this CA. The ledger reports faults of the certificate or key. */
async function refuseSecondHome(ctx: Context, der: Bytes, pkcs8: Bytes): Promise<void> {
  const { subject, publicKey } = translate("config.ca_cert_pem", "ca_invalid", () => parseCertificate(der));
  const [name_hash_sha256, key_hash_sha256] = await Promise.all([sha256Hex(subject.der), sha256Hex(publicKey.keyBits)]);
  const [known] = await ctx.db
    .select({ issuer_id: certificateAuthorities.issuer_id })
    .from(certificateAuthorities)
    .where(sameCa({ name_hash_sha256, key_hash_sha256 }));
  if (known && (await isKeyPair(publicKey, pkcs8).catch(() => false)))
    throw conflict("ca_exists", `config.ca_cert_pem: issuer ${known.issuer_id} has this CA already`);
}

/** Has the ledger create the CA, import it, or create a subordinate that waits for its certificate, as configured. */
export async function makeCa(
  ctx: Context,
  ledger: Ledger,
  place: { ledger_id: string; ca_id: string },
  issuer: CaOrigin,
): Promise<CaDescription | Refusal> {
  const { config } = issuer;
  const common = {
    ...place,
    crl_shards: config.crl_shards ?? 1,
    pss: config.rsa_pss ?? false,
    crl_number_floor: floorOf(config.crl_number_floor ?? 0).toString(),
  };
  if (config.ca_cert_pem !== undefined || config.ca_key_pem !== undefined) {
    const { chain, pkcs8 } = readMaterial(config);
    const entries = entriesOfConfig(config, timestamp(ctx));
    const crl = crlOfConfig(config);
    if (chain[0]) await refuseSecondHome(ctx, chain[0], pkcs8);
    return ledger.importCa({ ...common, chain, pkcs8, entries, crl });
  }
  const before = PAST_FIELDS.find((field) => config[field]?.length);
  if (before) throw invalid(`config.${before}`, "only a CA that is brought in has a past");
  const made = {
    ...common,
    subject: subjectOf(issuer),
    algorithm: config.key_algorithm ?? "ECDSA-P256",
    path_len: config.path_len_constraint ?? null,
  };
  if (common.pss && !made.algorithm.startsWith("RSA"))
    throw invalid("config.rsa_pss", "only RSA keys sign with RSASSA-PSS");
  if (config.subordinate) return ledger.createSubordinate(made);
  return ledger.createRoot({ ...made, ttl_seconds: (config.ca_validity_days ?? DEFAULT_CA_DAYS) * DAY });
}

/** At least the number sent: one that a double cannot hold exactly is rounded up. */
function floorOf(value: number | string): bigint {
  const rounding = typeof value === "number" && !Number.isSafeInteger(value) ? BigInt(value) >> 52n : 0n;
  const floor = BigInt(value) + rounding;
  if (floor <= HIGHEST_CRL_FLOOR) return floor;
  throw invalid("config.crl_number_floor", "leaves no room for further CRL numbers, which have 20 octets at most");
}

/** An imported CA defines its own settings: contradicting fields are refused. */
function readMaterial(config: GenericCaConfig) {
  const made = [
    "ca_common_name",
    "organization",
    "organizational_unit",
    "country",
    "key_algorithm",
    "ca_validity_days",
    "path_len_constraint",
  ] as const;
  const extra = made.find((field) => config[field] !== undefined && config[field] !== null);
  if (extra) throw invalid(`config.${extra}`, "a CA that is brought in has its own; leave it out");
  if (config.subordinate) throw invalid("config.subordinate", "a subordinate's certificate comes in later, by PUT");
  const { ca_cert_pem, ca_key_pem } = config;
  if (ca_cert_pem === undefined)
    throw invalid("config.ca_cert_pem", "ca_key_pem needs the certificate chain beside it");
  if (ca_key_pem === undefined)
    throw invalid("config.ca_key_pem", "ca_cert_pem needs the private key (PKCS#8) beside it");
  return {
    chain: translate("config.ca_cert_pem", "ca_invalid", () => certificatesFromPem(ca_cert_pem)),
    pkcs8: translate("config.ca_key_pem", "ca_invalid", () => privateKeyFromPem(ca_key_pem)),
  };
}

/** The subject of a CA made here. */
export function subjectOf(issuer: CaOrigin) {
  const { ca_common_name, organization, organizational_unit, country } = issuer.config;
  return { common_name: ca_common_name ?? issuer.name.slice(0, 64).trim(), organization, organizational_unit, country };
}
