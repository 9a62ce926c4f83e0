import { importJWK, type JSONWebKeySet, type JWK } from "jose";
import { ALGORITHMS, type Inspected } from "./metadata.ts";

/** An identity provider's keys (RFC 7517); only public signature keys are kept. */

const MAX_KEYS = 100;
const MAX_KID = 255;
const MIN_RSA_BITS = 2048;
const SECRET_MEMBERS = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/** Key families, each with an algorithm for a trial import if the key names none. */
const FAMILIES: Readonly<Record<string, string>> = {
  RSA: "RS256",
  "EC P-256": "ES256",
  "EC P-384": "ES384",
  "EC P-521": "ES512",
  "OKP Ed25519": "EdDSA",
};

/** The keys usable for verifying tokens, reduced to public members, and the problems of the others. */
export async function inspectKeySet(document: Record<string, unknown>): Promise<Inspected<JSONWebKeySet>> {
  const { keys } = document;
  if (!Array.isArray(keys)) return { value: { keys: [] }, problems: ["jwks_uri: the document has no list of keys"] };
  const problems: string[] = [];
  const usable: JWK[] = [];
  if (keys.length > MAX_KEYS) problems.push(`jwks_uri: has ${keys.length} keys, the first ${MAX_KEYS} are read`);
  for (const [at, key] of keys.slice(0, MAX_KEYS).entries()) {
    const read = await readKey(key);
    if (typeof read !== "string") usable.push(read);
    else if (read !== "") problems.push(`jwks_uri: key ${at}${kidOf(key)} ${read}`);
  }
  if (usable.length === 0) problems.push("jwks_uri: has no usable signing key");
  return { value: { keys: usable }, problems };
}

/** The public key, or why it is dropped; an empty string for a key that is not meant for signatures. */
async function readKey(key: unknown): Promise<JWK | string> {
  if (typeof key !== "object" || key === null) return "is not an object";
  const { kty, crv, n, e, x, y, kid, alg, use, key_ops } = key as Readonly<Record<string, unknown>>;
  if (kty === "oct") return "is symmetric: whoever reads the document could sign with it";
  if (SECRET_MEMBERS.some((name) => name in key)) return "has private members: it is no secret any more";
  if (use !== undefined && use !== "sig") return "";
  if (Array.isArray(key_ops) && !key_ops.includes("verify")) return "";
  const family = FAMILIES[kty === "RSA" ? "RSA" : `${String(kty)} ${String(crv)}`];
  if (family === undefined) return `is of an unknown kind (kty ${shown(kty)}, crv ${shown(crv)})`;
  if (alg !== undefined && !(ALGORITHMS as readonly unknown[]).includes(alg))
    return `is for the algorithm ${shown(alg)}, which is not accepted`;
  if (kid !== undefined && (typeof kid !== "string" || kid.length > MAX_KID || !kid.isWellFormed()))
    return "has a kid that is not a text of at most 255 characters";
  const members = kty === "RSA" ? { n, e } : kty === "EC" ? { crv, x, y } : { crv, x };
  const jwk = {
    kty,
    ...members,
    ...(kid === undefined ? {} : { kid }),
    ...(alg === undefined ? {} : { alg }),
  } as unknown as JWK;
  try {
    const imported = await importJWK(jwk, jwk.alg ?? family);
    const bits = "algorithm" in imported && "modulusLength" in imported.algorithm && imported.algorithm.modulusLength;
    return typeof bits === "number" && bits < MIN_RSA_BITS ? `has ${bits} bits, RSA needs ${MIN_RSA_BITS}` : jwk;
  } catch {
    return "is not a valid public key";
  }
}

/** The key ids in document order. */
export function kidsOf(keys: JSONWebKeySet): string[] {
  return keys.keys.flatMap(({ kid }) => (kid === undefined ? [] : [kid]));
}

function kidOf(key: unknown): string {
  const kid = typeof key === "object" && key !== null && "kid" in key ? key.kid : undefined;
  return kid === undefined ? "" : ` (kid ${shown(kid)})`;
}

function shown(value: unknown): string {
  return value === undefined ? "none" : JSON.stringify(value).slice(0, 100);
}
