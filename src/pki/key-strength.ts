import type { Bytes } from "./bytes.ts";
import { toHex } from "./bytes.ts";
import { WeakKeyError } from "./errors.ts";
import { type PublicKeyInfo, parseRsaPublicKey } from "./spki.ts";

/**
 * Rounds of Fermat's factorisation: finds primes that differ by less than about 100 times the fourth root of the
 * modulus (BR 6.1.1.3).
 */
const FERMAT_ROUNDS = 100;
const SMALL_PRIME_BOUND = 10_000;

function toBigInt(bytes: Uint8Array): bigint {
  return bytes.length === 0 ? 0n : BigInt(`0x${toHex(bytes)}`);
}

/**
 * Refuses a public key that must not be certified (CA/B BR 6.1.1.3, 6.1.5, 6.1.6). RSA: 2048 to 8192 bits, a multiple
 * of 8; exponent odd, from 65,537, below 2^33; modulus without a factor below 10,000, without the ROCA fingerprint
 * (CVE-2017-15361), primes not close (Fermat). ECDSA: the point is on its curve. Ed25519: a canonical point on the
 * curve, not of small order. Throws WeakKeyError; takes at most a few milliseconds for any key.
 */
export function assertStrongKey(info: PublicKeyInfo): void {
  if (info.algorithm === "RSA") assertStrongRsa(info);
  else if (info.algorithm === "ECDSA") assertOnCurve(info);
  else assertGoodEdwardsPoint(info.keyBits);
}

function assertStrongRsa(info: PublicKeyInfo): void {
  if (info.size < 2048) throw new WeakKeyError(`RSA key of ${info.size} bits: at least 2048 are needed`);
  if (info.size > 8192) throw new WeakKeyError(`RSA key of ${info.size} bits: at most 8192 are accepted`);
  if (info.size % 8 !== 0) throw new WeakKeyError(`RSA key of ${info.size} bits: the size must be a multiple of 8`);
  const { modulus, exponent } = parseRsaPublicKey(info.keyBits);
  const e = exponent.length > 8 ? 0n : toBigInt(exponent);
  if (exponent.length > 8 || e >= 1n << 33n) throw new WeakKeyError("RSA public exponent is too large: use 65537");
  if (e % 2n === 0n) throw new WeakKeyError("RSA public exponent is even");
  if (e < 65_537n) throw new WeakKeyError(`RSA public exponent ${e} is too small: use 65537`);
  const n = toBigInt(modulus);
  if (n % 2n === 0n) throw new WeakKeyError("RSA modulus is even");
  const factor = smallFactor(n);
  if (factor !== null) throw new WeakKeyError(`RSA modulus has the small factor ${factor}`);
  if (hasRocaFingerprint(n)) throw new WeakKeyError("RSA modulus has the ROCA fingerprint (CVE-2017-15361)");
  if (hasClosePrimes(n)) throw new WeakKeyError("RSA modulus is the product of two close primes");
}

/** Odd primes below the bound, multiplied into machine words: one BigInt division tests three or more of them. */
const PRIME_BATCHES: readonly { product: bigint; primes: readonly number[] }[] = (() => {
  const composite = new Uint8Array(SMALL_PRIME_BOUND);
  const batches: { product: bigint; primes: number[] }[] = [];
  let product = 1;
  let primes: number[] = [];
  for (let p = 3; p < SMALL_PRIME_BOUND; p += 2) {
    if (composite[p] === 1) continue;
    for (let multiple = p * p; multiple < SMALL_PRIME_BOUND; multiple += 2 * p) composite[multiple] = 1;
    if (product * p > Number.MAX_SAFE_INTEGER) {
      batches.push({ product: BigInt(product), primes });
      product = 1;
      primes = [];
    }
    product *= p;
    primes.push(p);
  }
  batches.push({ product: BigInt(product), primes });
  return batches;
})();

function smallFactor(n: bigint): number | null {
  for (const { product, primes } of PRIME_BATCHES) {
    const rest = Number(n % product);
    for (const p of primes) if (rest % p === 0) return p;
  }
  return null;
}

/** For each prime of the ROCA test, the residues that are powers of 65537 (Nemec et al., CCS 2017). */
const ROCA_RESIDUES: readonly { prime: number; powers: ReadonlySet<number> }[] = [
  11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157,
].map((prime) => {
  const powers = new Set<number>();
  for (let value = 1; !powers.has(value); value = (value * 65_537) % prime) powers.add(value);
  return { prime, powers };
});

function hasRocaFingerprint(n: bigint): boolean {
  return ROCA_RESIDUES.every(({ prime, powers }) => powers.has(Number(n % BigInt(prime))));
}

/** The largest integer whose square is at most n (Newton, from above). */
function squareRoot(n: bigint): bigint {
  let x = 1n << BigInt((n.toString(16).length * 4 + 2) >> 1);
  for (;;) {
    const y = (x + n / x) >> 1n;
    if (y >= x) return x;
    x = y;
  }
}

/** Quadratic residues modulo 3,465: one small division rules out most non-squares. */
const SQUARES_3465: Uint8Array = (() => {
  const table = new Uint8Array(3465);
  for (let i = 0; i < 3465; i++) table[(i * i) % 3465] = 1;
  return table;
})();
const SQUARES_256: Uint8Array = (() => {
  const table = new Uint8Array(256);
  for (let i = 0; i < 256; i++) table[(i * i) & 255] = 1;
  return table;
})();

function isSquare(n: bigint): boolean {
  if (n === 0n) return true;
  if (SQUARES_256[Number(n & 255n)] !== 1 || SQUARES_3465[Number(n % 3465n)] !== 1) return false;
  const root = squareRoot(n);
  return root * root === n;
}

function hasClosePrimes(n: bigint): boolean {
  let a = squareRoot(n);
  if (a * a < n) a += 1n;
  let rest = a * a - n;
  for (let round = 0; round < FERMAT_ROUNDS; round++) {
    if (isSquare(rest)) return true;
    rest += 2n * a + 1n;
    a += 1n;
  }
  return false;
}

/** Field prime and b of the curves of FIPS 186-4 D.1.2; on all three a is -3 and the cofactor 1. */
const CURVE_CONSTANTS: Readonly<Record<number, { p: bigint; b: bigint }>> = {
  256: {
    p: 2n ** 256n - 2n ** 224n + 2n ** 192n + 2n ** 96n - 1n,
    b: 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604bn,
  },
  384: {
    p: 2n ** 384n - 2n ** 128n - 2n ** 96n + 2n ** 32n - 1n,
    b: 0xb3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aefn,
  },
  521: {
    p: 2n ** 521n - 1n,
    b: 0x51953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef109e156193951ec7e937b1652c0bd3bb1bf073573df883d2c34f1ef451fd46b503f00n,
  },
};

function assertOnCurve(info: PublicKeyInfo): void {
  const curve = CURVE_CONSTANTS[info.size];
  if (curve === undefined) throw new WeakKeyError("EC key on an unknown curve");
  const width = (info.keyBits.length - 1) / 2;
  const x = toBigInt(info.keyBits.subarray(1, 1 + width));
  const y = toBigInt(info.keyBits.subarray(1 + width));
  const { p, b } = curve;
  if (x >= p || y >= p || (y * y - (x * x * x - 3n * x + b)) % p !== 0n) {
    throw new WeakKeyError("EC public key is not a point on its curve");
  }
}

const ED_P = 2n ** 255n - 19n;

function power(base: bigint, exponent: bigint, modulus: bigint): bigint {
  let result = 1n;
  let square = base % modulus;
  for (let rest = exponent; rest > 0n; rest >>= 1n) {
    if ((rest & 1n) === 1n) result = (result * square) % modulus;
    square = (square * square) % modulus;
  }
  return result;
}

const ED_D = ((ED_P - 121_665n) * power(121_666n, ED_P - 2n, ED_P)) % ED_P;

/** The y coordinates of the eight points of small order (RFC 7748 section 7 requires the same check for X25519). */
const ED_SMALL_ORDER_Y: readonly bigint[] = (() => {
  const order8 = 0x7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7n;
  return [0n, 1n, ED_P - 1n, order8, ED_P - order8];
})();

/** RFC 8032 section 5.1.3: y is below the field prime and x recoverable; also not of small order. */
function assertGoodEdwardsPoint(keyBits: Bytes): void {
  const encoded = toBigInt(keyBits.slice().reverse());
  const y = encoded & (2n ** 255n - 1n);
  if (y >= ED_P) throw new WeakKeyError("Ed25519 public key is not a canonical point");
  if (ED_SMALL_ORDER_Y.includes(y)) throw new WeakKeyError("Ed25519 public key is a point of small order");
  // x^2 = (y^2 - 1) / (d y^2 + 1) has a root exactly if their product has one: no inversion is needed.
  const ySquared = (y * y) % ED_P;
  const product = ((ySquared + ED_P - 1n) * (ED_D * ySquared + 1n)) % ED_P;
  if (power(product, (ED_P - 1n) / 2n, ED_P) !== 1n) {
    throw new WeakKeyError("Ed25519 public key is not a point on its curve");
  }
}
