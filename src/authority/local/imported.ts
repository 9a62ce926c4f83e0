import type { z } from "@hono/zod-openapi";
import { fromBase64 } from "../../pki/bytes.ts";
import { decodePem } from "../../pki/pem.ts";
import { normalSerial } from "../../pki/serials.ts";
import { invalid } from "../../platform/errors.ts";
import type { ImportedEntry } from "../ledger.ts";
import { translate } from "../refusals.ts";
import { type GenericCaConfig, issuedBefore, revokedBefore } from "./config.ts";

/** Converts what a CA issued and revoked before its import from the wire's form to the ledger's. */

export type PastKind = "issued" | "revocations";

type Issued = z.output<typeof issuedBefore>;
type Revoked = z.output<typeof revokedBefore>;

/** The reason an entry is invalid. */
export class EntryError extends Error {
  readonly code = "entry_invalid";
  readonly field: string;

  constructor(field: string, message: string) {
    super(`${field}: ${message}`);
    this.field = field;
  }
}

/** Checks one entry of either kind against its schema. Throws EntryError. */
export function readEntry(kind: PastKind, value: unknown, now: string): ImportedEntry {
  const schema: z.ZodType<Issued | Revoked> = kind === "issued" ? issuedBefore : revokedBefore;
  const result = schema.safeParse(value);
  if (!result.success) {
    const [issue] = result.error.issues;
    const field = issue?.code === "unrecognized_keys" ? issue.keys[0] : issue?.path.join(".");
    const message = issue?.code === "unrecognized_keys" ? "is not a field of an entry" : issue?.message;
    throw new EntryError(field || "entry", (message ?? "is not valid").replace(/^Invalid input: /, ""));
  }
  return entryOf(result.data, now);
}

function entryOf(line: Issued | Revoked, now: string): ImportedEntry {
  const [not_before, not_after] = [timeOf(line.not_before), timeOf(line.not_after)];
  if (not_before !== null && not_after !== null && not_after < not_before)
    throw new EntryError("not_after", "lies before not_before");
  const revoked = "revoked_at" in line ? { at: new Date(line.revoked_at).toISOString(), reason: line.reason } : null;
  if (revoked && revoked.at > now) throw new EntryError("revoked_at", "lies in the future");
  const { names = null, subject = null } = "revoked_at" in line ? {} : line;
  return { serial: serialOf(line), not_before, not_after, names: names ?? [], subject, revoked };
}

function timeOf(text: string | null | undefined): string | null {
  return text ? new Date(text).toISOString() : null;
}

function serialOf(line: Issued | Revoked): string {
  if (line.serial !== undefined && line.serial_number !== undefined)
    throw new EntryError("serial", "stands beside serial_number: one of them is enough");
  const field = line.serial === undefined ? "serial_number" : "serial";
  const text = line.serial ?? line.serial_number;
  if (text === undefined) throw new EntryError("serial_number", "is missing");
  const serial = normalSerial(text);
  if (serial === null) throw new EntryError(field, "has more than 20 octets");
  return serial;
}

/** The lists in a new issuer's configuration. Throws a 400 that names the entry. */
export function entriesOfConfig(config: GenericCaConfig, now: string): ImportedEntry[] {
  return (["issued", "revocations"] as const).flatMap((kind) => {
    const seen = new Set<string>();
    return (config[kind] ?? []).map((line, i) => {
      try {
        const entry = entryOf(line, now);
        if (seen.size === seen.add(entry.serial).size)
          throw new EntryError("serial_number", "stands in the list twice");
        return entry;
      } catch (error) {
        if (error instanceof EntryError) throw invalid(`config.${kind}.${i}`, error.message);
        throw error;
      }
    });
  });
}

/** The CRL of the configuration: PEM, or DER in base64. */
export function crlOfConfig({ crl }: GenericCaConfig) {
  if (crl === undefined) return null;
  return translate("config.crl", "ca_invalid", () => {
    if (!crl.includes("-----BEGIN")) return fromBase64(crl.replace(/\s+/g, ""));
    const [block, ...more] = decodePem(crl, crl.length);
    if (block?.label !== "X509 CRL" || more.length > 0)
      throw invalid("config.crl", "must be one X509 CRL in PEM, or its DER in base64", "ca_invalid");
    return block.der;
  });
}
