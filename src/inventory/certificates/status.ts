import type { CertificateStatus } from "./table.ts";

/** What a certificate's status follows from. Times are RFC 3339 UTC with milliseconds. */
export interface StatusFacts {
  readonly status: CertificateStatus;
  readonly expires_at: string | null;
  readonly revoked_at: string | null;
  readonly revocation_noted_at: string | null;
  /** How many days before the end its renewal policy begins to renew. */
  readonly window_days: number;
  /** The notBefore of the version that ends at `expires_at`; null where none does. */
  readonly lives_from: string | null;
  /** The newest time at which an issuance or renewal that is still open was asked for. */
  readonly asked_at: string | null;
  /** Whether the newest issuance or renewal failed. */
  readonly last_failed: boolean;
}

/** Allowed transitions. Terminal states have none. A certificate that was issued is never Pending or Failed again. */
export const TRANSITIONS: Readonly<Record<CertificateStatus, readonly CertificateStatus[]>> = {
  Pending: ["RenewalInProgress", "Active", "Expiring", "Expired", "Failed", "Revoked", "Archived"],
  RenewalInProgress: ["Pending", "Active", "Expiring", "Expired", "Failed", "Revoked", "Archived"],
  Active: ["RenewalInProgress", "Expiring", "Expired", "Revoked", "Archived"],
  Expiring: ["RenewalInProgress", "Active", "Expired", "Revoked", "Archived"],
  Expired: ["RenewalInProgress", "Active", "Expiring", "Revoked", "Archived"],
  Failed: ["RenewalInProgress", "Active", "Expiring", "Expired", "Revoked", "Archived"],
  Revoked: ["RenewalInProgress", "Active", "Expiring", "Expired", "Archived"],
  Archived: [],
};

const DAY_MS = 86_400_000;
/** The life of a certificate whose version is not known. */
const USUAL_LIFE_MS = 365 * DAY_MS;

/** The status that the facts give at `now`. */
export function statusOf(facts: StatusFacts, now: string): CertificateStatus {
  const { status, expires_at, revoked_at, last_failed } = facts;
  if (status === "Archived") return "Archived";
  if (isRenewing(facts, now)) return "RenewalInProgress";
  if (revoked_at !== null) return "Revoked";
  if (expires_at === null) return last_failed ? "Failed" : "Pending";
  if (expires_at <= now) return "Expired";
  return isExpiring({ ...facts, expires_at }, now) ? "Expiring" : "Active";
}

/** As `statusOf`. Throws where the present status cannot become that. */
export function nextStatus(facts: StatusFacts, now: string): CertificateStatus {
  const next = statusOf(facts, now);
  if (next !== facts.status && !TRANSITIONS[facts.status].includes(next))
    throw new Error(`a certificate does not go from ${facts.status} to ${next}`);
  return next;
}

/**
 * A renewal that is under way counts when it was asked for after what it is to heal: a certificate that expires or is revoked
 * meanwhile shows that.
 */
function isRenewing({ asked_at, expires_at, revoked_at, revocation_noted_at }: StatusFacts, now: string): boolean {
  if (asked_at === null) return false;
  const heals = revoked_at === null || (revocation_noted_at !== null && asked_at > revocation_noted_at);
  return heals && (expires_at === null || expires_at > now || asked_at >= expires_at);
}

/** Expiring begins a renewal window before the end, or at the last third of a life that is shorter than that. */
function isExpiring(
  { expires_at, lives_from, window_days }: StatusFacts & { readonly expires_at: string },
  now: string,
): boolean {
  const end = Date.parse(expires_at);
  const life = lives_from === null ? USUAL_LIFE_MS : end - Date.parse(lives_from);
  return end - Date.parse(now) <= Math.min(window_days * DAY_MS, life / 3);
}
