import { errors, type JWTVerifyGetKey, type JWTVerifyResult, jwtVerify } from "jose";
import type { Context } from "../../platform/context.ts";
import { base64url, constantTimeEqual, utf8 } from "../../platform/text.ts";
import { type Claims, checkAuthorizedParty, checkIssuedAt, checkNonce, SKEW_SECONDS } from "./claims.ts";
import { type Provider, ProviderError, refetchKeys } from "./discovery.ts";
import { SignInFailure } from "./failure.ts";
import { recordRejected, verificationKey } from "./jwks.ts";

/** The expected values of an ID token. */
export interface Expected {
  readonly issuer: string;
  readonly clientId: string;
  /** Allowed signature algorithms; the token's header only selects one of them. */
  readonly algorithms: readonly string[];
  readonly nonce: string;
  readonly iatWindowSeconds: number;
  /** The access token issued with it; null if there was none. */
  readonly accessToken: string | null;
  readonly now: Date;
}

/**
 * Verifies an ID token (OpenID Connect Core 1.0 sections 3.1.3.6 and 3.1.3.7) and returns its claims. `key` is called
 * only after the algorithm was found to be allowed. Throws SignInFailure saying what is wrong; errors of `key` pass
 * through.
 */
export async function verifyIdToken(token: string, key: JWTVerifyGetKey, expected: Expected): Promise<Claims> {
  const { payload, protectedHeader } = await verified(token, key, expected);
  const claims: Claims = payload;
  checkAuthorizedParty(claims, expected.clientId);
  checkIssuedAt(claims, expected.now.getTime(), expected.iatWindowSeconds);
  await checkNonce(claims, expected.nonce);
  await checkAccessTokenHash(claims, protectedHeader.alg, expected.accessToken);
  return claims;
}

async function verified(token: string, key: JWTVerifyGetKey, expected: Expected): Promise<JWTVerifyResult> {
  try {
    return await jwtVerify(token, key, {
      algorithms: [...expected.algorithms],
      issuer: expected.issuer,
      audience: expected.clientId,
      clockTolerance: SKEW_SECONDS,
      currentDate: expected.now,
      requiredClaims: ["iss", "sub", "aud", "exp", "iat"],
    });
  } catch (error) {
    throw translated(error);
  }
}

const CLAIM_REASONS = {
  iss: "id_token_iss_mismatch",
  aud: "audience_mismatch",
  exp: "token_expired",
  iat: "iat_window",
} as const;

/**
 * Runs a jose verification with the provider's keys. If the signature is invalid, the provider may have replaced the
 * key under that id, so the keys are fetched once more, rate limited. A final signature or algorithm failure is counted
 * in the provider's JWKS status.
 */
export async function verifiedByKeysOf<T>(
  ctx: Context,
  provider: Provider,
  verify: (key: JWTVerifyGetKey) => Promise<T>,
): Promise<T> {
  const key = verificationKey(ctx, provider);
  try {
    return await verify(key).catch(async (error: unknown) => {
      if (!(isForged(error) && (await haveNewKeys(ctx, provider)))) throw error;
      return verify(key);
    });
  } catch (thrown) {
    const error = translated(thrown);
    // Only jose's own errors: the key look-up has already counted its refusals.
    const isVerdict = error instanceof SignInFailure && error.cause instanceof errors.JOSEError;
    if (isVerdict && (error.reason === "signature_invalid" || error.reason === "alg_rejected"))
      await recordRejected(ctx, provider);
    throw error;
  }
}

function isForged(error: unknown): boolean {
  const verdict = error instanceof SignInFailure ? error.cause : error;
  return verdict instanceof errors.JWSSignatureVerificationFailed;
}

async function haveNewKeys(ctx: Context, provider: Provider): Promise<boolean> {
  try {
    return (await refetchKeys(ctx, provider)) !== null;
  } catch (error) {
    // The signature is invalid regardless of the provider's state.
    if (error instanceof ProviderError) return false;
    throw error;
  }
}

/** Translates jose's errors into sign-in failures; returns other errors unchanged. */
function translated(error: unknown): unknown {
  if (error instanceof errors.JWTExpired) return new SignInFailure("token_expired", "exp: is over", error);
  if (error instanceof errors.JWTClaimValidationFailed) {
    const reason = CLAIM_REASONS[error.claim as keyof typeof CLAIM_REASONS] ?? "id_token_invalid";
    return new SignInFailure(reason, error.message, error);
  }
  if (error instanceof errors.JOSEAlgNotAllowed)
    return new SignInFailure("alg_rejected", "alg: is not on the list", error);
  if (error instanceof errors.JWSSignatureVerificationFailed)
    return new SignInFailure("signature_invalid", "the signature does not hold", error);
  if (error instanceof errors.JOSEError) return new SignInFailure("id_token_invalid", error.message, error);
  return error;
}

/**
 * Section 3.1.3.6: in the code flow `at_hash` is optional (the access token came over TLS from the token endpoint). If
 * present, it must be the left half of the access token's hash.
 */
async function checkAccessTokenHash(claims: Claims, alg: string, accessToken: string | null): Promise<void> {
  if (claims.at_hash === undefined) return;
  if (accessToken === null || typeof claims.at_hash !== "string") throw atHashMismatch();
  const digest = new Uint8Array(await crypto.subtle.digest(hashOf(alg), utf8(accessToken)));
  const half = base64url(digest.slice(0, digest.length / 2));
  if (!constantTimeEqual(half, claims.at_hash)) throw atHashMismatch();
}

function atHashMismatch(): SignInFailure {
  return new SignInFailure("at_hash_mismatch", "at_hash: is not that of the access token");
}

/** The hash of a signature algorithm: the digits of RS256, PS384 or ES512; SHA-512 for EdDSA with Ed25519. */
function hashOf(alg: string): string {
  const bits = /(256|384|512)$/.exec(alg)?.[1] ?? "512";
  return `SHA-${bits}`;
}
