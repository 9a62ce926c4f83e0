import { eq, sql } from "drizzle-orm";
import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTHeaderParameters } from "jose";
import type { Context } from "../../platform/context.ts";
import { oidcProviderState, oidcProviders } from "../table.ts";
import { type Provider, providerDocuments, refetchKeys } from "./discovery.ts";
import { SignInFailure } from "./failure.ts";
import { ALGORITHMS } from "./metadata.ts";

export { ALGORITHMS } from "./metadata.ts";

/** The JWS header parameters that select a key. */
export type KeyHeader = Pick<JWTHeaderParameters, "alg" | "kid">;

/**
 * Key resolver for jose's `jwtVerify`: the provider's key for a header. Unknown key ids trigger a rate-limited refetch.
 * Throws SignInFailure and counts the token as rejected: `alg_rejected`, or `signature_invalid` if not exactly one key
 * matches. Throws ProviderError (502) if the keys are unavailable.
 */
export function verificationKey(ctx: Context, provider: Provider): (header: KeyHeader) => Promise<CryptoKey> {
  return async (header) => {
    if (!(ALGORITHMS as readonly string[]).includes(header.alg)) {
      await recordRejected(ctx, provider);
      throw new SignInFailure("alg_rejected", "alg: is not on the list");
    }
    const { keys } = await providerDocuments(ctx, provider);
    const kept = await keyIn(keys, header);
    if (kept) return kept;
    const refetched = await refetchKeys(ctx, provider);
    const found = refetched && (await keyIn(refetched.keys, header));
    if (found) return found;
    await recordRejected(ctx, provider);
    throw new SignInFailure("signature_invalid", "kid and alg: fit none, or several, of the provider's keys");
  };
}

/** Counts a token of this provider rejected for its signature or algorithm. */
export async function recordRejected(
  ctx: Context,
  { id, issuer_url }: Pick<Provider, "id" | "issuer_url">,
): Promise<void> {
  // Inserts from a select, so that a provider deleted meanwhile is skipped without an error.
  await ctx.db.run(sql`insert into ${oidcProviderState} (provider_id, issuer_url, refresh_count, rejected_jws_count)
    select id, ${issuer_url}, 0, 1 from ${oidcProviders} where ${eq(oidcProviders.id, id)}
    on conflict (provider_id) do update set rejected_jws_count = rejected_jws_count + 1`);
}

/**
 * The only key that matches; null for none or several, since the header must then have named one (OpenID Connect Core
 * 1.0 section 10.1).
 */
async function keyIn(keys: JSONWebKeySet, { alg, kid }: KeyHeader): Promise<CryptoKey | null> {
  try {
    return await createLocalJWKSet(keys)({ alg, ...(kid === undefined ? {} : { kid }) });
  } catch (error) {
    if (error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWKSMultipleMatchingKeys) return null;
    throw error;
  }
}
