import { checkPrimeSync, generatePrimeSync } from "node:crypto";
import { describe, expect, it } from "vitest";
import { type Bytes, fromHex } from "../../src/pki/bytes.ts";
import { bitString, integer, NULL, oid, sequence } from "../../src/pki/der.ts";
import { assertStrongKey, KEY_ALGORITHMS, type PublicKeyInfo, parseSpki, WeakKeyError } from "../../src/pki/keys.ts";
import { keyPair } from "./support.ts";

const octets = (n: bigint): Bytes =>
  fromHex(n.toString(16).padStart(n.toString(16).length + (n.toString(16).length % 2), "0"));

function rsa(n: bigint, e = 65_537n): PublicKeyInfo {
  const key = sequence(integer(octets(n)), integer(octets(e)));
  return parseSpki(sequence(sequence(oid("1.2.840.113549.1.1.1"), NULL), bitString(key)));
}

function prime(bits: number): bigint {
  return generatePrimeSync(bits, { bigint: true });
}

function nextPrime(after: bigint): bigint {
  for (let n = after + 2n; ; n += 2n) if (checkPrimeSync(n)) return n;
}

function refused(info: PublicKeyInfo, message: string): void {
  expect(() => assertStrongKey(info)).toThrow(WeakKeyError);
  expect(() => assertStrongKey(info)).toThrow(message);
}

describe("keys that must not be certified", () => {
  it.each(KEY_ALGORITHMS)("a fresh %s key is accepted", async (algorithm) => {
    const { publicKey } = await keyPair(algorithm);
    expect(() => assertStrongKey(publicKey)).not.toThrow();
  });

  it("RSA of a wrong size", () => {
    refused(rsa(prime(512) * prime(512)), "at least 2048");
    refused(rsa(prime(1024) * prime(1016)), "at least 2048");
    refused(rsa(2n ** 16_383n + 1n), "at most 8192");
    refused(rsa(prime(1024) * prime(1028)), "multiple of 8");
  });

  it("RSA with a bad exponent", () => {
    const n = prime(1024) * prime(1024);
    refused(rsa(n, 3n), "too small");
    refused(rsa(n, 1n), "too small");
    refused(rsa(n, 65_538n), "even");
    refused(rsa(n, 2n ** 33n + 1n), "too large");
    refused(rsa(n, 2n ** 2000n + 1n), "too large");
  });

  it("RSA with an even modulus or a small factor", () => {
    const n = prime(1024) * prime(1024);
    refused(rsa(n - 1n), "even");
    for (const [factor, bits] of [
      [3n, 2046],
      [9973n, 2035],
    ] as const) {
      let rest = prime(bits);
      while ((rest * factor).toString(2).length !== 2048) rest = prime(bits);
      refused(rsa(rest * factor), `factor ${factor}`);
    }
  });

  it("RSA with close primes, near and at the edge of the search, and a square", () => {
    const p = prime(1024);
    refused(rsa(p * nextPrime(p)), "close primes");
    refused(rsa(p * p), "close primes");
    refused(rsa(p * nextPrime(p + 2n ** 514n)), "close primes");
    expect(() => assertStrongKey(rsa(p * nextPrime(p - 2n ** 1000n)))).not.toThrow();
  });

  it("RSA with the ROCA fingerprint", () => {
    const primes = [11n, 13n, 17n, 19n, 37n, 53n, 61n, 71n, 73n, 79n, 97n, 103n, 107n, 109n, 127n, 151n, 157n];
    const modulus = primes.reduce((product, p) => product * p, 2n);
    let power = 1n;
    for (let i = 0; i < 1234; i++) power = (power * 65_537n) % modulus;
    let n = (2n ** 2047n / modulus + 1n) * modulus + power;
    const smooth = (candidate: bigint): boolean => {
      for (let d = 3n; d < 10_000n; d += 2n) if (candidate % d === 0n) return true;
      return false;
    };
    while (smooth(n)) n += modulus;
    refused(rsa(n), "ROCA");
  });

  it.each(["ECDSA-P256", "ECDSA-P384", "ECDSA-P521"] as const)(
    "%s with a point that is not on the curve",
    async (algorithm) => {
      const { publicKey, spki } = await keyPair(algorithm);
      const moved = spki.slice();
      moved[moved.length - 1] = (moved.at(-1) ?? 0) ^ 1;
      refused(parseSpki(moved), "not a point on its curve");
      const huge = spki.slice();
      huge.fill(0xff, -(publicKey.keyBits.length - 1));
      refused(parseSpki(huge), "not a point on its curve");
    },
  );

  it.each([
    ["0100000000000000000000000000000000000000000000000000000000000000", "small order"],
    ["0000000000000000000000000000000000000000000000000000000000000000", "small order"],
    ["0000000000000000000000000000000000000000000000000000000000000080", "small order"],
    ["ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", "small order"],
    ["26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", "small order"],
    ["c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", "small order"],
    ["26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85", "small order"],
    ["eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", "not a canonical point"],
    ["0200000000000000000000000000000000000000000000000000000000000000", "not a point on its curve"],
  ])("Ed25519 %s: %s", (point, message) => {
    refused(parseSpki(sequence(sequence(oid("1.3.101.112")), bitString(fromHex(point)))), message);
  });
});
