import { eq, sql } from "drizzle-orm";
import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTHeaderParameters } from "jose";
import type { Context } from "../../platform/context.ts";
import { oidcProviderState, oidcProviders } from "../table.ts";
import { type Provider, providerDocuments, refetchKeys } from "./discovery.ts";
import { SignInFailure } from "./failure.ts";
import { ALGORITHMS } from "./metadata.ts";

export { ALGORITHMS } from "./metadata.ts";

/** What chooses a key: the header of a JWS. */
export type KeyHeader = Pick<JWTHeaderParameters, "alg" | "kid">;

/**
 * For jose's `jwtVerify`: the provider's key for a header, fetched again (under the brake) when the header names one that is
 * not kept. Throws SignInFailure, and counts the token as rejected: `alg_rejected`, or `signature_invalid` when no single key
 * fits; ProviderError (502) when the keys cannot be had.
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

/** Counts a token of this provider that was refused for its signature or algorithm. */
export async function recordRejected(
  ctx: Context,
  { id, issuer_url }: Pick<Provider, "id" | "issuer_url">,
): Promise<void> {
  // From a select: a provider that was just deleted is none to count for, and no error.
  await ctx.db.run(sql`insert into ${oidcProviderState} (provider_id, issuer_url, refresh_count, rejected_jws_count)
    select id, ${issuer_url}, 0, 1 from ${oidcProviders} where ${eq(oidcProviders.id, id)}
    on conflict (provider_id) do update set rejected_jws_count = rejected_jws_count + 1`);
}

/** The one key that fits; null for none, and for several: then the header had to name one (OpenID Connect Core 1.0 section 10.1). */
async function keyIn(keys: JSONWebKeySet, { alg, kid }: KeyHeader): Promise<CryptoKey | null> {
  try {
    return await createLocalJWKSet(keys)({ alg, ...(kid === undefined ? {} : { kid }) });
  } catch (error) {
    if (error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWKSMultipleMatchingKeys) return null;
    throw error;
  }
}
