import { constantTimeEqual } from "../../platform/text.ts";
import { SignInFailure } from "./failure.ts";

/**
 * Checks and reads the claims of a verified ID token. Pure: the signature, `iss`, `aud` and `exp` have been checked
 * (id-token.ts).
 */
export type Claims = Readonly<Record<string, unknown>>;

/** Tolerated clock skew. */
export const SKEW_SECONDS = 60;

const MAX_SUBJECT = 255;
const MAX_EMAIL = 254;
const MAX_NAME = 200;
const MAX_SID = 255;

/** The person who signed in, as described by the provider. */
export interface Person {
  readonly subject: string;
  /** Empty if the provider sends none. */
  readonly email: string;
  readonly display_name: string;
}

/** The claim if it is a string of 1 to `max` characters that a database can store; otherwise null. */
function textClaim(claims: Claims, name: string, max: number): string | null {
  const value = claims[name];
  return typeof value === "string" && value !== "" && value.length <= max && value.isWellFormed() ? value : null;
}

/** OpenID Connect Core 1.0 section 2: at most 255 characters, case sensitive. */
export function subjectOf(claims: Claims): string {
  const subject = textClaim(claims, "sub", MAX_SUBJECT);
  if (subject === null) throw new SignInFailure("id_token_invalid", "sub: must be a text of 1 to 255 characters");
  return subject;
}

/** The provider's session id; empty if it sends none. */
export function sidOf(claims: Claims): string {
  return textClaim(claims, "sid", MAX_SID) ?? "";
}

export function personOf(claims: Claims): Person {
  const subject = subjectOf(claims);
  const told = textClaim(claims, "email", MAX_EMAIL) ?? "";
  const email = /[\s\p{Cc}\p{Cf}]/u.test(told) ? "" : told;
  const names = ["name", "preferred_username"].map((name) => shown(claims[name]));
  return { subject, email, display_name: names.find((name) => name !== "") ?? (email || subject) };
}

/** A name safe for display: bounded, without control or direction characters. */
function shown(value: unknown): string {
  if (typeof value !== "string") return "";
  return value
    .slice(0, MAX_NAME)
    .toWellFormed()
    .replace(/[\p{Cc}\p{Cf}]/gu, "")
    .trim();
}

/**
 * OpenID Connect Core 1.0 section 3.1.3.7, 4 and 5: `azp` is required with several audiences, and if present it must be
 * our client id.
 */
export function checkAuthorizedParty(claims: Claims, clientId: string): void {
  if (claims.azp === undefined && Array.isArray(claims.aud) && claims.aud.length > 1)
    throw new SignInFailure("azp_mismatch", "azp: is absent although aud names several");
  if (claims.azp !== undefined && claims.azp !== clientId)
    throw new SignInFailure("azp_mismatch", "azp: names another client");
}

/** Section 3.1.3.7, 10: issued within the window and not in the future. `now` is Unix milliseconds. */
export function checkIssuedAt(claims: Claims, now: number, windowSeconds: number): void {
  const { iat } = claims;
  if (typeof iat !== "number" || !Number.isFinite(iat)) throw new SignInFailure("iat_window", "iat: must be a number");
  const age = now / 1000 - iat;
  if (age < -SKEW_SECONDS || age > windowSeconds + SKEW_SECONDS)
    throw new SignInFailure("iat_window", `iat: was ${Math.round(age)} s ago, the window has ${windowSeconds} s`);
}

/** Section 3.1.3.7, 11: the nonce of this sign-in, compared in constant time. */
export async function checkNonce(claims: Claims, nonce: string): Promise<void> {
  if (typeof claims.nonce !== "string" || !constantTimeEqual(claims.nonce, nonce))
    throw new SignInFailure("nonce_mismatch", "nonce: is not that of this sign-in");
}

/**
 * Checks the email's domain against the provider's list; an empty list allows all. Throws if there is no email, its
 * domain is not listed, or it is not verified: `email_verified` must be true, "true" or absent.
 */
export function checkEmailDomain(claims: Claims, allowed: readonly string[]): void {
  if (allowed.length === 0) return;
  const email = textClaim(claims, "email", MAX_EMAIL);
  if (email === null) throw new SignInFailure("email_missing_but_required", "email: is required for this provider");
  const { email_verified } = claims;
  if (email_verified !== undefined && email_verified !== true && email_verified !== "true")
    throw new SignInFailure("email_not_verified", 'email_verified: is neither true nor "true"');
  const domain = /^[^@\s]+@([^@\s]+)$/.exec(email)?.[1]?.toLowerCase();
  if (domain === undefined || !allowed.some((one) => one.toLowerCase() === domain))
    throw new SignInFailure("email_domain_not_allowed", "email: its domain is not allowed");
}
