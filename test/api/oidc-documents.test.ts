import { exportJWK, generateKeyPair, jwtVerify } from "jose";
import { beforeAll, describe, expect, it } from "vitest";
import {
  discover,
  type Provider,
  ProviderError,
  providerDocuments,
  stateOf,
} from "../../src/identity/oidc/discovery.ts";
import { ALGORITHMS, recordRejected, verificationKey } from "../../src/identity/oidc/jwks.ts";
import { oidcProviders } from "../../src/identity/table.ts";
import type { Context } from "../../src/platform/context.ts";
import { contextAhead } from "../support/context.ts";
import { testIdp } from "../support/idp-client.ts";
import { providerRow } from "../support/provider-row.ts";

const METADATA = "/.well-known/openid-configuration";

/** A row of the table, as the API would make it. */
async function providerOf(issuer_url: string, more: Partial<Provider> = {}): Promise<Provider> {
  const ctx = contextAhead();
  const id = `op-${crypto.randomUUID()}`;
  const now = ctx.clock.now().toISOString();
  const row: Provider = providerRow(id, now, {
    issuer_url,
    redirect_uri: "https://pki.test/auth/oidc/callback",
    ...more,
  });
  await ctx.db.insert(oidcProviders).values(row);
  return row;
}

const verify = (ctx: Context, provider: Provider, token: string) =>
  jwtVerify(token, verificationKey(ctx, provider), { algorithms: [...ALGORITHMS] });

describe("what is kept of a provider", () => {
  it("is fetched once for everybody, and again when its time is over", async () => {
    const idp = testIdp();
    const provider = await providerOf(idp.issuer, { jwks_cache_ttl_seconds: 60 });
    for (const seconds of [0, 30, 59])
      expect((await discover(contextAhead(seconds), provider)).issuer).toBe(idp.issuer);
    expect([await idp.asked(METADATA), await idp.asked("/jwks")]).toEqual([1, 1]);
    await discover(contextAhead(61), provider);
    expect([await idp.asked(METADATA), await idp.asked("/jwks")]).toEqual([2, 2]);
    expect(await stateOf(contextAhead(), provider)).toMatchObject({ refresh_count: 2, last_error: null });
  });

  it("is fetched on demand, and when the issuer is another one now", async () => {
    const [idp, other] = [testIdp(), testIdp()];
    const provider = await providerOf(idp.issuer);
    const ctx = contextAhead();
    await providerDocuments(ctx, provider);
    await providerDocuments(ctx, provider, { refresh: true });
    expect(await idp.asked("/jwks")).toBe(2);
    const moved = { ...provider, issuer_url: other.issuer };
    expect(await stateOf(ctx, moved)).toMatchObject({ discovery: null, keys: null, fetched_at: null });
    expect((await discover(ctx, moved)).token_endpoint).toBe(`${other.issuer}/token`);
    expect(await stateOf(ctx, moved)).toMatchObject({ issuer_url: other.issuer, refresh_count: 3 });
  });

  it("survives a refresh that fails, until its time is over; a failure is not repeated within five seconds", async () => {
    const idp = testIdp();
    const provider = await providerOf(idp.issuer);
    await discover(contextAhead(), provider);
    await idp.script({ misbehave: { jwks: "error" } });
    const failing = providerDocuments(contextAhead(), provider, { refresh: true });
    await expect(failing).rejects.toMatchObject({ status: 502, reason: "jwks_unreachable" });
    expect((await discover(contextAhead(1), provider)).issuer).toBe(idp.issuer);
    expect(await stateOf(contextAhead(), provider)).toMatchObject({
      refresh_count: 1,
      last_error: expect.stringContaining("500"),
    });
    await expect(discover(contextAhead(3601), provider)).rejects.toThrow("500");
    const before = await idp.asked("/jwks");
    await expect(discover(contextAhead(3602), provider)).rejects.toThrow("500");
    expect(await idp.asked("/jwks")).toBe(before);
    await idp.script({ misbehave: {} });
    expect((await discover(contextAhead(3607), provider)).issuer).toBe(idp.issuer);
  });
});

describe("the key of a token", () => {
  it("is found by its kid; a rotated one is fetched at once, and an unknown one asks at most once in half a minute", async () => {
    const idp = testIdp();
    const provider = await providerOf(idp.issuer);
    const ctx = contextAhead();
    await verify(ctx, provider, await idp.sign({ claims: { sub: "a" } }));
    await idp.rotate();
    await verify(ctx, provider, await idp.sign({ claims: { sub: "a" } }));
    expect(await idp.asked("/jwks")).toBe(2);

    // Many people come at the moment of a rotation: one fetch serves them all.
    await idp.rotate();
    const everybody = Array.from({ length: 8 }, () => idp.sign({ claims: { sub: "a" } }));
    const ahead = contextAhead(31);
    await Promise.all(everybody.map(async (token) => verify(ahead, provider, await token)));
    expect(await idp.asked("/jwks")).toBe(3);

    const unknown = await idp.sign({ claims: { sub: "a" }, header: { kid: "nobody's" } });
    const attempt = async (context: Context) => {
      await expect(verify(context, provider, unknown)).rejects.toMatchObject({ reason: "signature_invalid" });
    };
    await Promise.all(Array.from({ length: 8 }, () => attempt(ahead)));
    expect(await idp.asked("/jwks")).toBe(3);
    await Promise.all(Array.from({ length: 8 }, () => attempt(contextAhead(62))));
    expect(await idp.asked("/jwks")).toBe(4);
    expect(await stateOf(ctx, provider)).toMatchObject({ refresh_count: 4, rejected_jws_count: 16 });
  });

  it("is none for an algorithm that is not on the list, and none when it is somebody else's", async () => {
    const idp = testIdp();
    const provider = await providerOf(idp.issuer);
    const ctx = contextAhead();
    for (const alg of ["none", "HS256", "RS1", "ES256K", ""]) {
      await expect(verificationKey(ctx, provider)({ alg })).rejects.toMatchObject({ reason: "alg_rejected" });
    }
    const forged = await idp.sign({ claims: { sub: "a" }, by: "a stranger" });
    await expect(verify(ctx, provider, forged)).rejects.toMatchObject({
      code: "ERR_JWS_SIGNATURE_VERIFICATION_FAILED",
    });
    await recordRejected(ctx, provider);
    await recordRejected(ctx, { ...provider, id: "op-deleted-meanwhile" });
    expect((await stateOf(ctx, provider))?.rejected_jws_count).toBe(6);
  });

  it("needs a name where several fit", async () => {
    const idp = testIdp();
    const { publicKey } = await generateKeyPair("ES256", { extractable: true });
    await idp.script({ more_keys: [{ ...(await exportJWK(publicKey)), kid: "second", alg: "ES256" }] });
    const provider = await providerOf(idp.issuer);
    await expect(verificationKey(contextAhead(), provider)({ alg: "ES256" })).rejects.toMatchObject({
      reason: "signature_invalid",
    });
    expect(await verificationKey(contextAhead(), provider)({ alg: "ES256", kid: "second" })).toBeDefined();
  });
});

describe("keys that are not usable are dropped", () => {
  const pairs: Record<string, JsonWebKey> = {};
  beforeAll(async () => {
    for (const alg of ["RS256", "PS512", "ES384", "ES512", "EdDSA"]) {
      const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
      pairs[alg] = { ...(await exportJWK(publicKey)), kid: alg } as JsonWebKey;
      pairs[`${alg} private`] = { ...(await exportJWK(privateKey)), kid: `${alg} private` } as JsonWebKey;
    }
  });

  it("private, symmetric, short, broken and foreign ones; the rest stays, without members that nobody needs", async () => {
    const idp = testIdp();
    const [own] = await idp.script({
      more_keys: [
        ...["RS256", "PS512", "ES384", "ES512", "EdDSA"].map((alg) => ({ ...pairs[alg], x5c: ["x"], note: "y" })),
        { ...pairs["RS256 private"] },
        { ...pairs["EdDSA private"] },
        { kty: "oct", k: "c2VjcmV0", kid: "symmetric", alg: "HS256" },
        { ...pairs.ES384, kid: "for encryption", use: "enc" },
        { ...pairs.ES384, kid: "off the curve", x: "AAAA" },
        { ...pairs.RS256, kid: "short", n: "AQAB" },
        { ...pairs.RS256, kid: "HS256", alg: "HS256" },
        { kty: "EC", crv: "secp256k1", x: "AA", y: "AA", kid: "another curve" },
        { kty: "OKP", crv: "X25519", x: "AA", kid: "agreement" },
      ],
    });
    const { keys } = await providerDocuments(contextAhead(), await providerOf(idp.issuer));
    expect(keys.keys.map(({ kid }) => kid)).toEqual([own, "RS256", "PS512", "ES384", "ES512", "EdDSA"]);
    // Member names only: what is random may spell anything.
    const members = new Set(keys.keys.flatMap((key) => Object.keys(key)));
    expect([...members].filter((name) => ["d", "k", "note", "oth", "p", "x5c", "x5t"].includes(name))).toEqual([]);
  });
});

describe("a provider that misbehaves is a 502 that says how", () => {
  it.each([
    ["answers 500", { misbehave: { discovery: "error" } }, "answered 500"],
    ["answers 100 MB", { misbehave: { discovery: "huge" } }, "more than 262144 bytes"],
    ["answers 100 MB of keys", { misbehave: { jwks: "huge" } }, "more than 262144 bytes"],
    ["answers broken JSON", { misbehave: { discovery: "broken-json" } }, "not JSON"],
    ["answers a list", { misbehave: { jwks: "not-an-object" } }, "not an object"],
    ["redirects", { misbehave: { discovery: "redirect" } }, "redirect, which is not followed"],
    ["is of another issuer", { discovery: { issuer: "https://other.test" } }, "issuer: the document is of"],
    ["has no jwks_uri", { discovery: { jwks_uri: null } }, "jwks_uri: is absent"],
    ["has a jwks_uri that is none", { discovery: { jwks_uri: ["x"] } }, "jwks_uri: must be a URL"],
    ["has an endpoint without TLS", { discovery: { token_endpoint: "http://idp.test/t" } }, "token_endpoint: "],
    ["has a metadata address", { discovery: { jwks_uri: "https://169.254.169.254/keys" } }, "reserved address"],
    ["has a loopback userinfo", { discovery: { userinfo_endpoint: "https://localhost/u" } }, "userinfo_endpoint: "],
    ["signs with secrets only", { discovery: { id_token_signing_alg_values_supported: ["HS256"] } }, "has none of"],
  ] as const)("%s", async (_name, script, message) => {
    const idp = testIdp();
    await idp.script(script);
    const provider = await providerOf(idp.issuer);
    const asked = providerDocuments(contextAhead(), provider);
    const error = await asked.catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ProviderError);
    expect(error).toMatchObject({ status: 502, message: expect.stringContaining(message) });
    expect((await stateOf(contextAhead(), provider))?.last_error).toContain(message);
  });

  it.each([
    ["hang", "idp.test did not answer"],
    ["drip", "idp.test broke off its answer"],
  ] as const)("never ends: %s", async (misbehaviour, message) => {
    const idp = testIdp();
    await idp.script({ misbehave: { jwks: misbehaviour } });
    await expect(providerDocuments(contextAhead(), await providerOf(idp.issuer))).rejects.toMatchObject({
      reason: "jwks_unreachable",
      message: expect.stringContaining(message),
    });
  });
});
