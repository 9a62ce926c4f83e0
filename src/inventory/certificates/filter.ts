import { and, eq, gt, lt, lte, type SQL, sql } from "drizzle-orm";
import { PkiError } from "../../pki/errors.ts";
import { parseSan } from "../../pki/general-names.ts";
import { normalSerial } from "../../pki/serials.ts";
import type { Context } from "../../platform/context.ts";
import { invalid } from "../../platform/errors.ts";
import {
  type CertificateStatus,
  certificateNames,
  certificates,
  certificateTargets,
  certificateVersions,
} from "./table.ts";

/** Filters of a list of certificates. Times are RFC 3339 UTC with milliseconds, as in rows. */
export interface CertificateFilter {
  readonly status?: CertificateStatus | undefined;
  readonly environment?: string | undefined;
  readonly owner_id?: string | undefined;
  readonly team_id?: string | undefined;
  readonly issuer_id?: string | undefined;
  readonly profile_id?: string | undefined;
  readonly agent_id?: string | undefined;
  readonly expires_before?: string | undefined;
  readonly expires_after?: string | undefined;
  readonly created_after?: string | undefined;
  readonly updated_after?: string | undefined;
  /** Seconds from now. */
  readonly expiring_within?: number | undefined;
  /** Hex in any case; colons and leading zeros are ignored. */
  readonly serial_number?: string | undefined;
  readonly fingerprint_sha256?: string | undefined;
  /** A complete name. */
  readonly san?: string | undefined;
  /** A substring of the record's name, its id or one of its certificate names. */
  readonly q?: string | undefined;
}

declare module "../../platform/context.ts" {
  interface Wiring {
    /** The ids of the agent's targets, as a subquery. */
    targetsOfAgent(agentId: string): SQL;
  }
}

export function conditions({ clock, wiring }: Context, filter: CertificateFilter): SQL | undefined {
  const now = clock.now();
  const when = <T>(value: T | undefined, condition: (value: T) => SQL | undefined) =>
    value === undefined ? undefined : condition(value);
  return and(
    when(filter.status, (value) => eq(certificates.status, value)),
    when(filter.environment, (value) => eq(certificates.environment, value)),
    when(filter.owner_id, (value) => eq(certificates.owner_id, value)),
    when(filter.team_id, (value) => eq(certificates.team_id, value)),
    when(filter.issuer_id, (value) => eq(certificates.issuer_id, value)),
    when(filter.profile_id, (value) => eq(certificates.certificate_profile_id, value)),
    when(filter.agent_id, (value) => ofTargets(wiring.targetsOfAgent(value))),
    when(filter.expires_before, (value) => lt(certificates.expires_at, value)),
    when(filter.expires_after, (value) => gt(certificates.expires_at, value)),
    when(filter.created_after, (value) => gt(certificates.created_at, value)),
    when(filter.updated_after, (value) => gt(certificates.updated_at, value)),
    when(filter.expiring_within, (seconds) =>
      and(
        gt(certificates.expires_at, now.toISOString()),
        lte(certificates.expires_at, new Date(now.getTime() + seconds * 1000).toISOString()),
      ),
    ),
    when(filter.serial_number, (value) =>
      ofVersion(eq(certificateVersions.serial_number, normalSerial(plainHex(value)) ?? "")),
    ),
    when(filter.fingerprint_sha256, (value) => ofVersion(eq(certificateVersions.fingerprint_sha256, plainHex(value)))),
    when(filter.san, (value) => ofNames(eq(certificateNames.name, canonical("san", value)))),
    when(filter.q, containing),
  );
}

function ofTargets(targets: SQL): SQL {
  return sql`${certificates.id} in (
    select ${certificateTargets.certificate_id} from ${certificateTargets} where ${certificateTargets.target_id} in ${targets})`;
}

function ofVersion(condition: SQL): SQL {
  return sql`${certificates.id} in (select ${certificateVersions.certificate_id} from ${certificateVersions} where ${condition})`;
}

function ofNames(condition: SQL): SQL {
  return sql`${certificates.id} in (select ${certificateNames.certificate_id} from ${certificateNames} where ${condition})`;
}

/** Ignores ASCII case; `%` and `_` match literally. */
function containing(text: string): SQL {
  const pattern = `%${text.trim().replaceAll(/[\\%_]/g, "\\$&")}%`;
  const like = (column: SQL) => sql`${column} like ${pattern} escape '\\'`;
  return sql`(${like(sql`${certificates.name}`)} or ${like(sql`${certificates.id}`)}
    or ${ofNames(like(sql`${certificateNames.name}`))})`;
}

function plainHex(text: string): string {
  return text.replaceAll(/[:\s]/g, "").toLowerCase();
}

/** The canonical form of a name; an invalid name is a 400 that names the field. */
export function canonical(field: string, text: string): string {
  try {
    return parseSan(text).value;
  } catch (error) {
    if (error instanceof PkiError) throw invalid(field, error.message, error.code);
    throw error;
  }
}
