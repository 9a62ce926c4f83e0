import { eq, or } from "drizzle-orm";
import { digest, toHex } from "../../pki/bytes.ts";
import { type Certificate, parseCertificate } from "../../pki/certificate.ts";
import { formatNameConstraints } from "../../pki/name-constraints.ts";
import type { SubjectName } from "../../pki/names.ts";
import { subjectOf } from "../../pki/names.ts";
import { certificatesFromPem, encodePem } from "../../pki/pem.ts";
import { type Context, timestamp } from "../../platform/context.ts";
import { randomId } from "../../platform/ids.ts";
import { freeId } from "../../platform/rows.ts";
import type { CaDescription } from "../ledger.ts";
import { issuers } from "../table.ts";
import { type CaAuthorityRow, certificateAuthorities } from "./table.ts";

/** The columns of a CA's row that follow from its ledger. */
type FromLedger = Pick<
  CaAuthorityRow,
  | "state"
  | "cert_pem"
  | "chain_pem"
  | "csr_pem"
  | "subject"
  | "serial_number"
  | "not_before"
  | "not_after"
  | "path_len_constraint"
  | "name_constraints"
  | "algorithm"
  | "name_hash_sha1"
  | "key_hash_sha1"
  | "name_hash_sha256"
  | "key_hash_sha256"
  | "serial_key"
>;

/** The columns that a ledger decides. `asked`: the subject to use until there is a certificate. */
export async function fromLedger(ca: CaDescription, asked: SubjectName): Promise<FromLedger> {
  const [der, ...above] = ca.chain;
  const serial_key = ca.serial_key && toHex(ca.serial_key);
  if (!der) {
    return {
      state: ca.state,
      cert_pem: "",
      chain_pem: "",
      csr_pem: ca.csr ? encodePem("CERTIFICATE REQUEST", ca.csr) : null,
      subject: asked,
      serial_number: null,
      not_before: null,
      not_after: null,
      path_len_constraint: null,
      name_constraints: [],
      algorithm: ca.algorithm,
      name_hash_sha1: "",
      key_hash_sha1: "",
      name_hash_sha256: "",
      key_hash_sha256: "",
      serial_key,
    };
  }
  const certificate = parseCertificate(der);
  const hash = async (algorithm: "SHA-1" | "SHA-256", data: Uint8Array<ArrayBuffer>) =>
    toHex(await digest(algorithm, data));
  const { subject, publicKey } = certificate;
  return {
    state: ca.state,
    cert_pem: encodePem("CERTIFICATE", der),
    chain_pem: above.map((one) => encodePem("CERTIFICATE", one)).join(""),
    csr_pem: null,
    subject: subjectOf(subject),
    serial_number: certificate.serial,
    not_before: certificate.notBefore.toISOString(),
    not_after: certificate.notAfter.toISOString(),
    path_len_constraint: certificate.basicConstraints?.pathLen ?? null,
    name_constraints: formatNameConstraints(certificate.nameConstraints),
    algorithm: ca.algorithm,
    name_hash_sha1: await hash("SHA-1", subject.der),
    key_hash_sha1: await hash("SHA-1", publicKey.keyBits),
    name_hash_sha256: await hash("SHA-256", subject.der),
    key_hash_sha256: await hash("SHA-256", publicKey.keyBits),
    serial_key,
  };
}

/** The CA's certificate and those above it; empty while it waits for its own. */
export function chainOfRow(row: Pick<CaAuthorityRow, "cert_pem" | "chain_pem">): Certificate[] {
  return row.cert_pem === "" ? [] : certificatesFromPem(row.cert_pem + row.chain_pem).map(parseCertificate);
}

/** Whether a CA has this id or this name in public URLs. */
export async function isCaId(ctx: Context, id: string): Promise<boolean> {
  const own = or(eq(certificateAuthorities.id, id), eq(certificateAuthorities.ca_id, id));
  const [row] = await ctx.db.select({ id: certificateAuthorities.id }).from(certificateAuthorities).where(own);
  return row !== undefined;
}

/** An id that no CA or issuer has: both share the same URLs. */
export async function freeCaId(ctx: Context, name: string): Promise<string> {
  const id = await freeId(ctx, certificateAuthorities, "ica-", name);
  const [taken] = await ctx.db.select({ id: issuers.id }).from(issuers).where(eq(issuers.id, id));
  return taken ? `${id.slice(0, 52)}-${randomId(ctx.random, "").slice(0, 10)}` : id;
}

/** A complete new row. */
export async function newCaRow(
  ctx: Context,
  ca: CaDescription,
  own: Pick<CaAuthorityRow, "id" | "issuer_id" | "parent_ca_id" | "name" | "metadata"> & {
    readonly subject: SubjectName;
  },
): Promise<CaAuthorityRow> {
  const now = timestamp(ctx);
  return {
    id: own.id,
    issuer_id: own.issuer_id,
    parent_ca_id: own.parent_ca_id,
    ledger_id: ca.ledger_id,
    ca_id: ca.ca_id,
    name: own.name,
    metadata: own.metadata,
    ...(await fromLedger(ca, own.subject)),
    note: null,
    created_at: now,
    updated_at: now,
    retired_at: null,
    revoked_at: null,
    revocation_reason: null,
  };
}
