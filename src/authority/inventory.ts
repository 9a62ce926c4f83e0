import { and, asc, eq, inArray, sql } from "drizzle-orm";
import { alias } from "drizzle-orm/sqlite-core";
import { versionCertificates, versionsAfter } from "../inventory/certificates/versions.ts";
import { certificatesFromPem } from "../pki/pem.ts";
import { type Context, timestamp } from "../platform/context.ts";
import { runBatch } from "../platform/database.ts";
import { restoreCa } from "./issuers/restored.ts";
import type { Inventory, InventoryCertificate, InventoryFact, RevocationReason } from "./ledger.ts";
import { certificateAuthorities, ledgerMarks, ledgers } from "./table.ts";

/** What the inventory has heard of a ledger: what that needs when it was restored to an earlier state. */

const PAGE = 1_000;

export function inventoryOf(ctx: Context, ledgerId: string): Inventory {
  return {
    async heard() {
      const [row] = await ctx.db.select().from(ledgerMarks).where(eq(ledgerMarks.ledger_id, ledgerId));
      return row?.seq ?? 0;
    },

    async ca() {
      const [row] = await ctx.db
        .select()
        .from(certificateAuthorities)
        .where(eq(certificateAuthorities.ledger_id, ledgerId));
      return row ? { state: row.state, chain: certificatesFromPem(row.cert_pem + row.chain_pem) } : null;
    },

    /** The CAs below it come with the first page. */
    async facts(after) {
      const versions = await versionsAfter(ctx, ledgerId, after, PAGE);
      const last = versions.length === PAGE ? versions.at(-1) : undefined;
      const leaves = versions.map((row) => factOf(row.serial_number, row.revoked_at, row.revocation_reason));
      const below = after === "" ? await casBelow(ctx, ledgerId) : [];
      const cas = below.map((row) => factOf(row.serial_number ?? "", row.revoked_at, row.revocation_reason));
      return { facts: [...cas, ...leaves], next: last?.serial_number ?? null };
    },

    async certificates(serials) {
      const leaves = await versionCertificates(ctx, ledgerId, serials);
      const cas = (await casBelow(ctx, ledgerId)).filter((row) => serials.includes(row.serial_number ?? ""));
      return [
        ...leaves.map((row) => ({ ...certificate("leaf", row.serial_number, row.pem_chain), ...row })),
        ...cas.map((row) => ({
          ...certificate("ca", row.serial_number ?? "", row.cert_pem),
          certificate_id: row.id,
          settle: {},
          request_id: `ca|${row.ledger_id}`,
          issued_at: row.created_at,
        })),
      ];
    },

    restoreCa: (ca) => restoreCa(ctx, ca),

    async untagged() {
      await ctx.db
        .update(certificateAuthorities)
        .set({ serial_key: null })
        .where(eq(certificateAuthorities.ledger_id, ledgerId));
    },

    async restoring() {
      await ctx.db
        .update(ledgerMarks)
        .set({ restoring_since: sql`coalesce(${ledgerMarks.restoring_since}, ${timestamp(ctx)})` })
        .where(eq(ledgerMarks.ledger_id, ledgerId));
    },

    async report(problems) {
      const found = problems.length === 0 ? null : [...problems];
      await ctx.db
        .insert(ledgers)
        .values({ id: ledgerId, created_at: timestamp(ctx), problems: found })
        .onConflictDoUpdate({ target: ledgers.id, set: { problems: found } });
    },

    async restored(counts) {
      await runBatch(ctx.db, [
        ctx.db.update(ledgerMarks).set({ restoring_since: null }).where(eq(ledgerMarks.ledger_id, ledgerId)),
        ctx.audit("ledger.restored", ledgerId, { ...counts }),
      ]);
    },
  };
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
