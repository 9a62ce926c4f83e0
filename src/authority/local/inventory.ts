import { and, asc, eq, inArray, sql } from "drizzle-orm";
import { alias } from "drizzle-orm/sqlite-core";
import { versionCertificates, versionsAfter } from "../../inventory/certificates/versions.ts";
import { certificatesFromPem } from "../../pki/pem.ts";
import { type AuditDetails, type Context, timestamp } from "../../platform/context.ts";
import { runBatch } from "../../platform/database.ts";
import type { RevocationReason } from "../ledger.ts";
import type { InventoryCertificate, InventoryFact, LedgerProblem } from "../ledger-inventory.ts";
import { certificateAuthorities, ledgerMarks, ledgers } from "./table.ts";

/** Implements the calls from ledgers to the inventory (ledger-inventory.ts). */

const PAGE = 1_000;

export async function heard(ctx: Context, ledgerId: string): Promise<number> {
  const [row] = await ctx.db.select().from(ledgerMarks).where(eq(ledgerMarks.ledger_id, ledgerId));
  return row?.seq ?? 0;
}

async function rowOfLedger(ctx: Context, ledgerId: string) {
  const [row] = await ctx.db
    .select()
    .from(certificateAuthorities)
    .where(eq(certificateAuthorities.ledger_id, ledgerId));
  return row ?? null;
}

export async function caOfLedger(ctx: Context, ledgerId: string) {
  const row = await rowOfLedger(ctx, ledgerId);
  return row ? { state: row.state, chain: certificatesFromPem(row.cert_pem + row.chain_pem) } : null;
}

/** The first page also has the CAs below. */
export async function factsAfter(ctx: Context, ledgerId: string, after: string) {
  const ca = await rowOfLedger(ctx, ledgerId);
  const versions = ca ? await versionsAfter(ctx, ca, after, PAGE) : [];
  const last = versions.length === PAGE ? versions.at(-1) : undefined;
  const leaves = versions.map((row) => factOf(row.serial_number, row.revoked_at, row.revocation_reason));
  const below = after === "" ? await casBelow(ctx, ledgerId) : [];
  const cas = below.map((row) => factOf(row.serial_number ?? "", row.revoked_at, row.revocation_reason));
  return { facts: [...cas, ...leaves], next: last?.serial_number ?? null };
}

export async function certificatesOf(
  ctx: Context,
  ledgerId: string,
  serials: readonly string[],
): Promise<InventoryCertificate[]> {
  const ca = await rowOfLedger(ctx, ledgerId);
  const leaves = ca ? await versionCertificates(ctx, ca, serials) : [];
  const cas = (await casBelow(ctx, ledgerId)).filter((row) => serials.includes(row.serial_number ?? ""));
  return [
    ...leaves.map(({ serial_number, pem_chain, ...row }) => ({
      ...certificate("leaf", serial_number, pem_chain),
      ...row,
    })),
    ...cas.map((row) => ({
      ...certificate("ca", row.serial_number ?? "", row.cert_pem),
      certificate_id: row.id,
      settle: {},
      request_id: `ca|${row.ledger_id}`,
      issued_at: row.created_at,
    })),
  ];
}

export async function noteUntagged(ctx: Context, ledgerId: string): Promise<void> {
  await ctx.db
    .update(certificateAuthorities)
    .set({ serial_key: null })
    .where(eq(certificateAuthorities.ledger_id, ledgerId));
}

export async function noteRestoring(ctx: Context, ledgerId: string): Promise<void> {
  await ctx.db
    .update(ledgerMarks)
    .set({ restoring_since: sql`coalesce(${ledgerMarks.restoring_since}, ${timestamp(ctx)})` })
    .where(eq(ledgerMarks.ledger_id, ledgerId));
}

export async function noteRestored(ctx: Context, ledgerId: string, counts: AuditDetails): Promise<void> {
  await runBatch(ctx.db, [
    ctx.db.update(ledgerMarks).set({ restoring_since: null }).where(eq(ledgerMarks.ledger_id, ledgerId)),
    ctx.audit("ledger.restored", ledgerId, { ...counts }),
  ]);
}

export async function noteProblems(ctx: Context, ledgerId: string, found: readonly LedgerProblem[]): Promise<void> {
  const problems = found.length === 0 ? null : [...found];
  await ctx.db
    .insert(ledgers)
    .values({ id: ledgerId, created_at: timestamp(ctx), problems })
    .onConflictDoUpdate({ target: ledgers.id, set: { problems } });
}

function factOf(serial: string, revoked_at: string | null, reason: string | null): InventoryFact {
  return { serial, revoked_at, reason: reason as RevocationReason | null };
}

function certificate(
  kind: "leaf" | "ca",
  serial: string,
  pem: string,
): Pick<InventoryCertificate, "kind" | "serial" | "der"> {
  const [der] = certificatesFromPem(pem);
  if (!der) throw new Error(`the certificate ${serial} is not PEM`);
  return { kind, serial, der };
}

const parent = alias(certificateAuthorities, "parent");

/** The CAs that this ledger's CA certified. */
function casBelow(ctx: Context, ledgerId: string) {
  const { parent_ca_id, serial_number } = certificateAuthorities;
  return ctx.db
    .select()
    .from(certificateAuthorities)
    .where(
      and(
        sql`${serial_number} is not null`,
        inArray(parent_ca_id, ctx.db.select({ id: parent.id }).from(parent).where(eq(parent.ledger_id, ledgerId))),
      ),
    )
    .orderBy(asc(certificateAuthorities.id));
}
