import type { CertificateStatus } from "./table.ts";

/** The facts behind a certificate's status. Times are RFC 3339 UTC with milliseconds. */
export interface StatusFacts {
  readonly status: CertificateStatus;
  readonly expires_at: string | null;
  readonly revoked_at: string | null;
  readonly revocation_noted_at: string | null;
  /** Days before expiry at which the renewal policy starts renewing. */
  readonly window_days: number;
  /** notBefore of the version that ends at `expires_at`; null if there is none. */
  readonly lives_from: string | null;
  /** Request time of the newest open issuance or renewal. */
  readonly asked_at: string | null;
  /** Whether the newest issuance or renewal failed. */
  readonly last_failed: boolean;
}

/** Allowed transitions. Terminal states have none. An issued certificate never returns to Pending or Failed. */
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
/** Assumed lifetime if the version is unknown. */
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

/** Like `statusOf`, but throws if the present status cannot change to the result. */
export function nextStatus(facts: StatusFacts, now: string): CertificateStatus {
  const next = statusOf(facts, now);
  if (next !== facts.status && !TRANSITIONS[facts.status].includes(next))
    throw new Error(`a certificate does not go from ${facts.status} to ${next}`);
  return next;
}

/**
 * An open renewal counts only if requested after the problem it fixes: a certificate that expires or is revoked
 * meanwhile shows that.
 */
function isRenewing({ asked_at, expires_at, revoked_at, revocation_noted_at }: StatusFacts, now: string): boolean {
  if (asked_at === null) return false;
  const heals = revoked_at === null || (revocation_noted_at !== null && asked_at > revocation_noted_at);
  return heals && (expires_at === null || expires_at > now || asked_at >= expires_at);
}

/** Expiring starts one renewal window before the end, or in the last third of a lifetime shorter than the window. */
function isExpiring(
  { expires_at, lives_from, window_days }: StatusFacts & { readonly expires_at: string },
  now: string,
): boolean {
  const end = Date.parse(expires_at);
  const life = lives_from === null ? USUAL_LIFE_MS : end - Date.parse(lives_from);
  return end - Date.parse(now) <= Math.min(window_days * DAY_MS, life / 3);
}
