import { base64url as b64, exportSPKI, generateKeyPair, type JWTPayload, SignJWT } from "jose";
import { beforeAll, describe, expect, it } from "vitest";
import {
  type Claims,
  checkAuthorizedParty,
  checkEmailDomain,
  checkIssuedAt,
  personOf,
  sidOf,
  subjectOf,
} from "../../src/identity/oidc/claims.ts";
import { SignInFailure } from "../../src/identity/oidc/failure.ts";
import { groupsAt } from "../../src/identity/oidc/groups.ts";
import { type Expected, verifyIdToken } from "../../src/identity/oidc/id-token.ts";
import { localPath } from "../../src/identity/oidc/pending.ts";

/** The reason of the failure, or "fine". */
async function outcome(work: () => unknown): Promise<string> {
  try {
    await work();
    return "fine";
  } catch (error) {
    if (error instanceof SignInFailure) return error.reason;
    throw error;
  }
}

const NOW = new Date("2026-11-24T12:00:00Z");
const now = NOW.getTime() / 1000;
const ISSUER = "https://idp.example.com";
const ACCESS_TOKEN = "an-access-token";

describe("an ID token", () => {
  let rsa: CryptoKeyPair;
  let other: CryptoKeyPair;
  const good = {
    iss: ISSUER,
    sub: "u1",
    aud: "certctl",
    exp: now + 300,
    iat: now - 5,
    nonce: "the-nonce",
  };
  const expected: Expected = {
    issuer: ISSUER,
    clientId: "certctl",
    algorithms: ["RS256", "ES256", "ES512", "PS384", "EdDSA"],
    nonce: "the-nonce",
    iatWindowSeconds: 300,
    accessToken: ACCESS_TOKEN,
    now: NOW,
  };
  const sign = (claims: object, alg = "RS256", key: CryptoKey | Uint8Array = rsa.privateKey) =>
    new SignJWT(claims as JWTPayload).setProtectedHeader({ alg }).sign(key);
  const verdict = async (token: Promise<string> | string, over: Partial<Expected> = {}) => {
    const text = await token;
    return outcome(() => verifyIdToken(text, async () => rsa.publicKey, { ...expected, ...over }));
  };

  beforeAll(async () => {
    rsa = await generateKeyPair("RS256");
    other = await generateKeyPair("RS256");
  });

  it("that is right is accepted, also with one's own azp among several audiences", async () => {
    expect(await verdict(sign(good))).toBe("fine");
    expect(await verdict(sign({ ...good, aud: ["x", "certctl"], azp: "certctl" }))).toBe("fine");
  });

  it.each<[string, object, string]>([
    ["another issuer", { iss: `${ISSUER}/` }, "id_token_iss_mismatch"],
    ["another audience", { aud: "someone-else" }, "audience_mismatch"],
    ["no audience", { aud: undefined }, "audience_mismatch"],
    ["several audiences without azp", { aud: ["certctl", "x"] }, "azp_mismatch"],
    ["another authorized party", { azp: "x" }, "azp_mismatch"],
    ["an authorized party that is no text", { azp: null }, "azp_mismatch"],
    ["an expiry beyond the skew", { exp: now - 60 }, "token_expired"],
    ["no expiry", { exp: undefined }, "token_expired"],
    ["an issue date too long ago", { iat: now - 361 }, "iat_window"],
    ["an issue date in the future", { iat: now + 61 }, "iat_window"],
    ["no issue date", { iat: undefined }, "iat_window"],
    ["another nonce", { nonce: "of another sign-in" }, "nonce_mismatch"],
    ["no nonce", { nonce: undefined }, "nonce_mismatch"],
    ["another access token's hash", { at_hash: "AAAAAAAAAAAAAAAAAAAAAA" }, "at_hash_mismatch"],
    ["a start in the future", { nbf: now + 120 }, "id_token_invalid"],
  ])("with %s is refused", async (_what, change, reason) => {
    expect(await verdict(sign({ ...good, ...change }))).toBe(reason);
  });

  it("is good for sixty seconds longer than it says: clocks differ", async () => {
    expect(await verdict(sign({ ...good, exp: now - 59 }))).toBe("fine");
    expect(await verdict(sign({ ...good, iat: now + 59 }))).toBe("fine");
    expect(await verdict(sign({ ...good, iat: now - 359 }))).toBe("fine");
  });

  it("algorithm confusion: HS256 keyed with the public key, none, and what is not on the list", async () => {
    const publicPem = new TextEncoder().encode(await exportSPKI(rsa.publicKey));
    expect(await verdict(sign(good, "HS256", publicPem))).toBe("alg_rejected");
    const none = [{ alg: "none" }, good].map((part) => b64.encode(JSON.stringify(part))).join(".");
    expect(await verdict(`${none}.`)).toBe("alg_rejected");
    expect(await verdict(sign(good), { algorithms: ["ES256"] })).toBe("alg_rejected");
    expect(await verdict(sign(good, "RS256", other.privateKey))).toBe("signature_invalid");
    const [header, , signature] = (await sign(good)).split(".");
    const forged = b64.encode(JSON.stringify({ ...good, sub: "admin" }));
    expect(await verdict(`${header}.${forged}.${signature}`)).toBe("signature_invalid");
    expect(await verdict("not a token")).toBe("id_token_invalid");
  });

  it.each([
    ["RS256", "SHA-256"],
    ["PS384", "SHA-384"],
    ["ES512", "SHA-512"],
    ["EdDSA", "SHA-512"],
  ])("at_hash under %s is the left half of %s", async (alg, hash) => {
    const pair = await generateKeyPair(alg);
    const digest = new Uint8Array(await crypto.subtle.digest(hash, new TextEncoder().encode(ACCESS_TOKEN)));
    const at_hash = b64.encode(digest.slice(0, digest.length / 2));
    const token = await sign({ ...good, at_hash }, alg, pair.privateKey);
    const verify = (accessToken: string | null) =>
      outcome(() => verifyIdToken(token, async () => pair.publicKey, { ...expected, accessToken }));
    expect(await verify(ACCESS_TOKEN)).toBe("fine");
    expect(await verify("another token")).toBe("at_hash_mismatch");
    expect(await verify(null)).toBe("at_hash_mismatch");
  });
});

describe("claims", () => {
  it("azp and iat stand for themselves", async () => {
    expect(await outcome(() => checkAuthorizedParty({ aud: ["certctl"] }, "certctl"))).toBe("fine");
    expect(await outcome(() => checkIssuedAt({ iat: Number.NaN }, NOW.getTime(), 300))).toBe("iat_window");
    expect(await outcome(() => checkIssuedAt({ iat: String(now) }, NOW.getTime(), 300))).toBe("iat_window");
  });

  const texts = (claims: Claims, groups_claim_path: string) =>
    groupsAt(claims, { groups_claim_path, groups_claim_format: "string-array" });
  const byJsonPath = (claims: Claims, groups_claim_path: string) =>
    groupsAt(claims, { groups_claim_path, groups_claim_format: "json-path" });

  it("groups: by dots through objects, or one claim of exactly that name; a list or a single text", async () => {
    const claims: Claims = {
      groups: ["a", "b", "a", ""],
      one: "admins",
      realm_access: { roles: ["ops"] },
      "https://example.com/groups": ["url"],
      "urn:example:v1.2:roles": ["urn"],
      nothing: null,
    };
    for (const read of [texts, byJsonPath]) {
      expect(read(claims, "groups")).toEqual(["a", "b"]);
      expect(read(claims, "one")).toEqual(["admins"]);
      expect(read(claims, "realm_access.roles")).toEqual(["ops"]);
      expect(read(claims, "https://example.com/groups")).toEqual(["url"]);
      expect(read(claims, "urn:example:v1.2:roles")).toEqual(["urn"]);
      for (const path of ["nothing", "absent", "groups.0", "realm_access.absent", "constructor.name", "__proto__"])
        expect(read(claims, path), path).toEqual([]);
    }
  });

  it("groups: other types and too many are refused; a name that no mapping can have is left out", async () => {
    for (const groups of [[1], 7, true, [["a"]], Array(2001).fill("x")])
      for (const read of [texts, byJsonPath])
        expect(await outcome(() => read({ groups }, "groups"))).toBe("groups_invalid");
    expect(() => texts({ groups: { a: 1 } }, "groups")).toThrow("json-path reads the names in it");
    expect(texts({ groups: ["x".repeat(513), "\ud800", "ok"] }, "groups")).toEqual(["ok"]);
  });

  it("groups by JSONPath: names with dots, colons and slashes, indexes, wildcards", () => {
    const claims: Claims = {
      realm_access: { roles: ["ops"] },
      resource_access: { "app.example.com": { roles: ["web"] }, other: { roles: ["more", "ops"] } },
      "https://example.com/groups": ["url"],
      'it\'s "quoted"': "quoted",
      groups: [{ name: "a" }, { name: "b" }, {}],
    };
    for (const [path, groups] of [
      ["$.realm_access.roles", ["ops"]],
      ["$['realm_access']['roles']", ["ops"]],
      ['$["realm_access"].roles[0]', ["ops"]],
      ["$.realm_access.roles[1]", []],
      ["$.resource_access['app.example.com'].roles", ["web"]],
      ["$.resource_access.*.roles", ["web", "more", "ops"]],
      ["$['https://example.com/groups']", ["url"]],
      ["$.https://example", []],
      ["$['it\\'s \"quoted\"']", ["quoted"]],
      ['$["it\'s \\"quoted\\""]', ["quoted"]],
      ["$.groups[*].name", ["a", "b"]],
      ["$.groups[ 1 ].name", ["b"]],
      ["$.groups.name", []],
      ["$.absent", []],
      ["$['__proto__']", []],
    ] as const)
      expect(byJsonPath(claims, path), path).toEqual(groups);
  });

  it("groups by JSONPath: the names in an object of roles, as Zitadel sends them; not those that are off", () => {
    const name = "urn:zitadel:iam:org:project:roles";
    const roles = { admin: { "2931": "example.com" }, "pki.ops": {}, on: true, off: false, none: null };
    const claims = { [name]: roles, nested: { roles } };
    for (const path of [name, `$['${name}']`, `$.${name}`, "nested.roles", "$.nested.roles"])
      expect(byJsonPath(claims, path), path).toEqual(["admin", "pki.ops", "on"]);
  });

  it("groups that the provider leaves out are not none", () => {
    const elsewhere = { _claim_names: { groups: "src1" }, _claim_sources: { src1: { endpoint: "https://x.test" } } };
    for (const claims of [elsewhere, { hasgroups: true }, { hasgroups: "true" }])
      for (const path of ["groups", "$.groups", "$['groups']"]) expect(byJsonPath(claims, path)).toBeNull();
    expect(texts(elsewhere, "groups")).toBeNull();
    expect(texts({ ...elsewhere, groups: ["a"] }, "groups")).toEqual(["a"]);
    expect(texts(elsewhere, "roles")).toEqual([]);
    expect(texts({ hasgroups: false }, "groups")).toEqual([]);
    expect(texts({ _claim_names: "groups" }, "groups")).toEqual([]);
  });

  it("email domains: exact, in any case, verified where the provider says so", async () => {
    const allowed = ["Example.com"];
    const verdict = (claims: Claims, list = allowed) => outcome(() => checkEmailDomain(claims, list));
    expect(await verdict({}, [])).toBe("fine");
    expect(await verdict({ email: "a@EXAMPLE.com" })).toBe("fine");
    expect(await verdict({ email: "a@example.com", email_verified: true })).toBe("fine");
    expect(await verdict({ email: "a@example.com", email_verified: "true" })).toBe("fine");
    for (const email_verified of [false, "false", "False", "True", "no", "", 0, 1, null, {}, []])
      expect(await verdict({ email: "a@example.com", email_verified })).toBe("email_not_verified");
    expect(await verdict({})).toBe("email_missing_but_required");
    for (const email of ["a@sub.example.com", "a@example.com.evil.org", "a@evil.org@example.com", "a@evil.org", "a"])
      expect(await verdict({ email }), email).toBe("email_domain_not_allowed");
  });

  it("a person: bounded, shown without control and direction characters", async () => {
    expect(personOf({ sub: "s", name: "\u202eA\u0000da ", email: "a@b.c" })).toEqual({
      subject: "s",
      email: "a@b.c",
      display_name: "Ada",
    });
    expect(personOf({ sub: "s", preferred_username: "ada" }).display_name).toBe("ada");
    expect(personOf({ sub: "s", name: 7, email: "a@b.c" }).display_name).toBe("a@b.c");
    expect(personOf({ sub: "s", email: "a@b.c\u202e" }).email).toBe("");
    expect(personOf({ sub: "s" })).toEqual({ subject: "s", email: "", display_name: "s" });
    expect(personOf({ sub: "s", name: "x".repeat(500), email: "e".repeat(300) })).toMatchObject({
      email: "",
      display_name: "x".repeat(200),
    });
    for (const sub of [undefined, "", 7, "x".repeat(256)])
      expect(await outcome(() => subjectOf({ sub }))).toBe("id_token_invalid");
    expect([sidOf({ sid: "x" }), sidOf({}), sidOf({ sid: 5 })]).toEqual(["x", "", ""]);
  });
});

describe("return_to", () => {
  it("takes paths of this server", () => {
    for (const path of ["/", "/docs/", "/certificates?x=1#top", "/a//b", "/%2f%2fevil.com"])
      expect(localPath(path)).toBe(path);
  });

  it.each([
    "",
    "docs",
    "//evil.com",
    "///evil.com",
    "/\\evil.com",
    "\\\\evil.com",
    "/\t/evil.com",
    "/\n/evil.com",
    "https://evil.com",
    "https:evil.com",
    "javascript:alert(1)",
    "/.//evil.com",
    "/x/..//evil.com",
    "/ü",
    " /",
    `/${"x".repeat(2000)}`,
  ])("open redirect: %j is refused", (path) => {
    expect(() => localPath(path)).toThrow("must be a path of this server");
  });
});
