/** Stable reasons for a failed sign-in, used by the login page and the audit log. */
export const REASONS = [
  "access_denied",
  "alg_rejected",
  "at_hash_mismatch",
  "audience_mismatch",
  "azp_mismatch",
  "email_domain_not_allowed",
  "email_missing_but_required",
  "email_not_verified",
  "groups_invalid",
  "groups_missing",
  "groups_overage",
  "iat_window",
  "id_token_invalid",
  "id_token_iss_mismatch",
  "iss_param_mismatch",
  "iss_param_missing",
  "jwks_unreachable",
  "nonce_mismatch",
  "pre_login_consume_failed",
  "provider_disabled",
  "provider_error",
  "provider_unreachable",
  "signature_invalid",
  "state_mismatch",
  "token_exchange_failed",
  "token_expired",
  "unmapped_groups",
  "user_deactivated",
  "userinfo_failed",
] as const;

export type Reason = (typeof REASONS)[number];

/** A sign-in that failed for a known reason. The message is logged and never contains a token. */
export class SignInFailure extends Error {
  readonly code = "oidc_failed";
  readonly reason: Reason;

  constructor(reason: Reason, message: string, cause?: unknown) {
    super(message, { cause });
    this.name = "SignInFailure";
    this.reason = reason;
  }
}
