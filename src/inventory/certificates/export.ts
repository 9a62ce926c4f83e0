import { certificatesFromPem, decodePem, encodePem } from "../../pki/pem.ts";
import { buildTrustStore } from "../../pki/pkcs12.ts";
import type { Context } from "../../platform/context.ts";
import { runBatch } from "../../platform/database.ts";
import { AppError } from "../../platform/errors.ts";
import { mustFindCertificate } from "./certificates.ts";
import { newestVersion, type Version } from "./versions.ts";

export interface PemExport {
  /** The leaf only. */
  readonly cert_pem: string;
  /** Each issuer up to and including the root. */
  readonly chain_pem: string;
  readonly full_pem: string;
}

/** The newest version as PEM; 404 if there is none. The export is an audit event. */
export async function exportPem(ctx: Context, id: string): Promise<PemExport> {
  const version = await versionToExport(ctx, id);
  const [leaf, ...chain] = decodePem(version.pem_chain).map(({ label, der }) => encodePem(label, der));
  await record(ctx, id, version, "pem");
  return { cert_pem: leaf ?? "", chain_pem: chain.join(""), full_pem: [leaf, ...chain].join("") };
}

/** The newest version with its chain as a PKCS#12 trust store without a key; 404 if there is none. */
export async function exportPkcs12(ctx: Context, id: string, password: string): Promise<Uint8Array<ArrayBuffer>> {
  const version = await versionToExport(ctx, id);
  const store = await buildTrustStore(certificatesFromPem(version.pem_chain), password, { friendlyNames: [id] });
  await record(ctx, id, version, "pkcs12");
  return store;
}

async function versionToExport(ctx: Context, id: string): Promise<Version> {
  await mustFindCertificate(ctx, id);
  const version = await newestVersion(ctx, id);
  if (!version) throw new AppError(404, "not_issued", `nothing was issued yet for certificate ${JSON.stringify(id)}`);
  return version;
}

async function record(ctx: Context, id: string, version: Version, format: "pem" | "pkcs12"): Promise<void> {
  await runBatch(ctx.db, [
    ctx.audit("certificate.export", id, { format, version_id: version.id, serial_number: version.serial_number }),
  ]);
}
