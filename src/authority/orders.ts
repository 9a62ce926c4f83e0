import { equal, sha256Hex } from "../pki/bytes.ts";
import { type Certificate, parseCertificate, verifyIssued } from "../pki/certificate.ts";
import { certificatesFromPem, encodePem } from "../pki/pem.ts";
import { type Context, timestamp } from "../platform/context.ts";
import { runBatch } from "../platform/database.ts";
import { type AppError, conflict } from "../platform/errors.ts";
import { type Ca, type CaCertificate, NOTHING_TO_RECORD, type Order, type Recording } from "./ca.ts";
import { differenceFrom } from "./difference.ts";
import type { RevocationReason } from "./ledger.ts";

/** Has a CA sign what the gate approved, and refuses any certificate that differs from it. */

/** A certificate with what its version row needs. */
export interface Certified {
  readonly issuer_id: string;
  readonly ca_id: string;
  /** Permanent key, unique across all CAs. */
  readonly key: string;
  readonly certificate_id: string;
  readonly certificate: Certificate;
  /** The leaf first, then each issuer up to and including the root. */
  readonly pem_chain: string;
  readonly fingerprint_sha256: string;
  /** Time of signing. */
  readonly issued_at: string;
  readonly revoked_at: string | null;
  readonly revocation_reason: RevocationReason | null;
  /** Copied from the order. */
  readonly settle: Readonly<Record<string, unknown>>;
  readonly recording: Recording;
}

/** `reference`: the CA's name for an order that it answers later. */
export type OrderOutcome =
  | { readonly certified: Certified }
  | { readonly reference: string; readonly retry_seconds?: number };

/**
 * Orders a certificate: the same `request_id` is the same order. Throws AppError below 500 if the CA refuses, 409 for a
 * certificate that differs from what was approved.
 */
export async function place(ctx: Context, ca: Ca, order: Order): Promise<OrderOutcome> {
  const answer = await ca.order(order);
  if (!("certificate" in answer)) return answer;
  return { certified: await checked(ctx, ca, order, answer.certificate) };
}

/** Collects the certificate of an order by its reference. Throws as `place` does. */
export async function collect(ctx: Context, ca: Ca, order: Order, reference: string): Promise<OrderOutcome> {
  if ((await ca.poll(reference)) === "pending") return { reference };
  return { certified: await checked(ctx, ca, order, await ca.certificate(reference)) };
}

async function checked(ctx: Context, ca: Ca, order: Order, given: CaCertificate): Promise<Certified> {
  let certified: Certified;
  try {
    certified = await certify(ctx, ca, order, given);
  } catch (error) {
    throw await refuse(ctx, ca, order, given, error instanceof Error ? error.message : "it cannot be read");
  }
  const difference = differenceFrom(order.approved, certified.certificate) ?? (await strangerTo(ca, certified));
  if (difference !== null) throw await refuse(ctx, ca, order, given, difference);
  return certified;
}

/** A certificate from outside must chain to the CA it was ordered from. Our own ledger signs with its own key. */
async function strangerTo(ca: Ca, { certificate, pem_chain }: Certified): Promise<string | null> {
  if (ca.keepsOrders) return null;
  const anchors = certificatesFromPem(await ca.chain());
  let below = certificate;
  for (const der of certificatesFromPem(pem_chain).slice(1)) {
    const above = parseCertificate(der);
    if (!(await verifyIssued(below, above))) break;
    if (anchors.some((anchor) => equal(anchor, der))) return null;
    below = above;
  }
  return "its chain does not lead to the CA that it was ordered from";
}

/** Builds the version's data from a CA's certificate, unchecked. */
export async function certify(
  ctx: Context,
  ca: Ca,
  of: Pick<Order, "certificate_id" | "settle">,
  given: CaCertificate,
): Promise<Certified> {
  const certificate = parseCertificate(given.der);
  return {
    issuer_id: ca.issuer_id,
    ca_id: ca.ca_id,
    key: given.key ?? `${ca.issuer_id}/${certificate.serial}`,
    certificate_id: of.certificate_id,
    certificate,
    pem_chain: encodePem("CERTIFICATE", given.der) + (given.chain_pem ?? (await ca.chain())),
    fingerprint_sha256: await sha256Hex(given.der),
    issued_at: given.issued_at ?? timestamp(ctx),
    revoked_at: given.revoked_at ?? null,
    revocation_reason: given.revocation_reason ?? null,
    settle: of.settle,
    recording: given.recording ?? NOTHING_TO_RECORD,
  };
}

/** Audits a certificate that differs from what was approved, and hands it to nobody: the CA needs attention. */
async function refuse(ctx: Context, ca: Ca, order: Order, given: CaCertificate, difference: string): Promise<AppError> {
  const fingerprint_sha256 = await sha256Hex(given.der);
  const { issuer_id, ca_id } = ca;
  ctx.log.error("issuance.certificate_refused", { issuer_id, request_id: order.request_id, difference });
  const details = { issuer_id, ca_id, job_id: order.request_id, fingerprint_sha256, difference };
  const id = `audit-refused-${fingerprint_sha256.slice(0, 32)}`;
  await runBatch(ctx.db, [ctx.audit("certificate.refuse", order.certificate_id, details, { id })]);
  return conflict("certificate_differs", `the CA issued another certificate than was approved: ${difference}`);
}
