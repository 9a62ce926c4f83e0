import { eq } from "drizzle-orm";
import { parseCertificate } from "../../pki/certificate.ts";
import { subjectOf } from "../../pki/names.ts";
import { encodePem } from "../../pki/pem.ts";
import { type Context, timestamp } from "../../platform/context.ts";
import { runBatch } from "../../platform/database.ts";
import { type CaDescription, ledgerOf } from "../ledger.ts";
import { type IssuerRow, issuers } from "../table.ts";
import { DEFAULT_VALIDITY_DAYS } from "./ca.ts";
import { keepLedger } from "./ledgers.ts";
import { forgetAuthority } from "./public/directory.ts";
import { freeCaId, newCaRow } from "./rows.ts";
import { type CaAuthorityRow, certificateAuthorities } from "./table.ts";

/**
 * Restores a CA's rows from its ledger after the database was restored to an earlier state: certificate, chain, key
 * algorithm and lists. Its name becomes that of its subject; notes, metadata and later settings are lost.
 */
export async function restoreCa(ctx: Context, ca: CaDescription): Promise<void> {
  const [der, above] = ca.chain;
  if (!der) return;
  const { subject } = parseCertificate(der);
  const name = (subject.commonName ?? ca.ca_id).slice(0, 100);
  // An intermediate gets a new id; an issuer's own CA has the issuer's.
  const parent =
    ca.ca_id.startsWith("ica-") && above ? await caOfCertificate(ctx, encodePem("CERTIFICATE", above)) : null;
  if (ca.ca_id.startsWith("ica-") && !parent) throw new Error(`the CA above ${ca.ca_id} is not there yet`);
  const issuer_id = parent?.issuer_id ?? ca.ca_id;
  const row = await newCaRow(ctx, ca, {
    id: parent ? ca.ca_id : await freeCaId(ctx, name),
    issuer_id,
    parent_ca_id: parent?.id ?? null,
    name: await freeName(ctx, issuer_id, name, ca.ca_id),
    metadata: { restored: true },
    subject: subjectOf(subject),
  });
  if (parent) Object.assign(row, await revocationOf(ctx, parent, row));
  await runBatch(ctx.db, [
    ...(parent
      ? []
      : [
          ctx.db
            .insert(issuers)
            .values(await issuerRow(ctx, ca, name))
            .onConflictDoNothing(),
        ]),
    keepLedger(ctx, ca.ledger_id),
    ctx.db.insert(certificateAuthorities).values(row).onConflictDoNothing({ target: certificateAuthorities.ledger_id }),
    ctx.audit(parent ? "intermediate_ca.restore" : "issuer.restore", ca.ca_id, { ledger_id: ca.ledger_id }),
  ]);
  forgetAuthority(issuer_id);
}

async function caOfCertificate(ctx: Context, pem: string): Promise<CaAuthorityRow | null> {
  const [row] = await ctx.db.select().from(certificateAuthorities).where(eq(certificateAuthorities.cert_pem, pem));
  return row ?? null;
}

async function freeName(ctx: Context, issuerId: string, name: string, id: string): Promise<string> {
  const rows = await ctx.db
    .select({ name: certificateAuthorities.name })
    .from(certificateAuthorities)
    .where(eq(certificateAuthorities.issuer_id, issuerId));
  return rows.some((row) => row.name === name) ? id : name;
}

async function issuerRow(ctx: Context, ca: CaDescription, name: string): Promise<IssuerRow> {
  const now = timestamp(ctx);
  const [taken] = await ctx.db.select({ id: issuers.id }).from(issuers).where(eq(issuers.name, name));
  return {
    id: ca.ca_id,
    name: taken ? ca.ca_id : name,
    type: "GenericCA",
    config: { key_algorithm: ca.algorithm, crl_shards: ca.crl_shards, validity_days: DEFAULT_VALIDITY_DAYS },
    sealed_config: null,
    enabled: true,
    last_tested_at: null,
    test_status: "untested",
    created_at: now,
    updated_at: now,
  };
}

async function revocationOf(ctx: Context, parent: CaAuthorityRow, { serial_number }: CaAuthorityRow) {
  const status = await ledgerOf(ctx, parent.ledger_id).status(serial_number ?? "");
  if (typeof status === "string") return {};
  if ("ok" in status) throw new Error(`the CA ${parent.id} does not say yet whether ${serial_number} is revoked`);
  return { revoked_at: status.revoked_at, revocation_reason: status.reason };
}
