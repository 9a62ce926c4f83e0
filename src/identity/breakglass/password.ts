import { scrypt, timingSafeEqual } from "node:crypto";
import type { Random } from "../../platform/context.ts";
import { invalid, unavailable } from "../../platform/errors.ts";
import { Room } from "../../platform/room.ts";
import { base64url, fromBase64url, utf8 } from "../../platform/text.ts";

/**
 * Password hashing with scrypt (RFC 7914), stored as `$scrypt$ln=15,r=8,p=1$<salt>$<hash>` with base64url. Hashes with
 * other parameters still verify; `isOutdated` tells whether to rehash.
 */

/** 32 MiB and about 0.1 s per hash: an isolate of 128 MiB can afford two at a time. */
const COST = { ln: 15, r: 8, p: 1 };
/** Memory limit for stored hashes, so that a corrupt row cannot exhaust the isolate. */
const MAX_BYTES = 32 * 1024 * 1024;
const SALT_BYTES = 16;
const HASH_BYTES = 32;
const MIN_PASSWORD_BYTES = 12;
const MAX_PASSWORD_BYTES = 256;

/** Concurrent hashes of 32 MiB each, enforced by `withSlot`. */
const SLOTS = 2;
/** Requests that may wait for a slot; further ones get 503. */
const WAITERS = 8;
/** A slot is freed after this long: a request whose client has gone may never release it. */
const TURN_MS = 30_000;
/** Waiting requests poll this often, and lose their place when they have not polled for `LOST_MS`. */
const LOOK_MS = 20;
const LOST_MS = 5_000;

const hashing = new Room(SLOTS, TURN_MS);
const waiting = new Room(WAITERS, LOST_MS);

/** A hash no password is known for. Verified when there is no stored hash, so that both cases take equally long. */
const NOBODYS = `$scrypt$ln=${COST.ln},r=${COST.r},p=${COST.p}$${"A".repeat(22)}$${"A".repeat(43)}`;

/** Runs hashing work in a slot, waiting for one if necessary. Throws 503 if too many requests are waiting. */
export async function withSlot<T>(work: () => Promise<T>): Promise<T> {
  const me = Symbol();
  await turn(me);
  try {
    return await work();
  } finally {
    hashing.leave(me);
  }
}

async function turn(me: symbol): Promise<void> {
  if (waiting.isEmpty() && hashing.enter(me)) return;
  if (!waiting.enter(me)) throw unavailable("busy", "other passwords are being checked: repeat in a moment", 1);
  try {
    do {
      await scheduler.wait(LOOK_MS);
      waiting.enter(me);
    } while (!waiting.isFirst(me) || !hashing.enter(me));
  } finally {
    waiting.leave(me);
  }
}

/**
 * Normalises to Unicode NFC, so that the same password typed on another keyboard matches. Throws 400 unless it has 12
 * to 256 bytes of UTF-8.
 */
export function checkPassword(password: string): string {
  const text = password.normalize("NFC");
  const { length } = utf8(text);
  if (length < MIN_PASSWORD_BYTES || length > MAX_PASSWORD_BYTES)
    throw invalid("password", `must have ${MIN_PASSWORD_BYTES} to ${MAX_PASSWORD_BYTES} bytes in UTF-8`);
  return text;
}

/** Hashes a password for storage. Call inside `withSlot`. */
export async function hashPassword(random: Random, password: string): Promise<string> {
  const salt = random.bytes(SALT_BYTES);
  const hash = await derive(password, salt, COST);
  return `$scrypt$ln=${COST.ln},r=${COST.r},p=${COST.p}$${base64url(salt)}$${base64url(hash)}`;
}

/** Whether the password matches the stored hash; false after the same work if there is none. Call inside `withSlot`. */
export async function verifyPassword(stored: string | null, password: string): Promise<boolean> {
  const { cost, salt, hash } = parse(stored ?? NOBODYS);
  const derived = await derive(password.normalize("NFC"), salt, cost);
  return timingSafeEqual(derived, hash) && stored !== null;
}

/** Whether a stored hash uses other parameters than new ones. */
export function isOutdated(stored: string): boolean {
  const { ln, r, p } = parse(stored).cost;
  return ln !== COST.ln || r !== COST.r || p !== COST.p;
}

type Cost = typeof COST;

function parse(stored: string): { cost: Cost; salt: Uint8Array; hash: Uint8Array } {
  const match = /^\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9_-]+)\$([A-Za-z0-9_-]{43})$/.exec(stored);
  const [, ln, r, p, salt, hash] = match ?? [];
  if (salt === undefined || hash === undefined) throw new Error("a stored password hash is damaged");
  const cost = { ln: Number(ln), r: Number(r), p: Number(p) };
  if (128 * 2 ** cost.ln * cost.r > MAX_BYTES) throw new Error("a stored password hash asks for too much memory");
  return { cost, salt: fromBase64url(salt), hash: fromBase64url(hash) };
}

function derive(password: string, salt: Uint8Array, { ln, r, p }: Cost): Promise<Uint8Array> {
  // scrypt needs 128 N r bytes plus a little; twice that is enough.
  const options = { N: 2 ** ln, r, p, maxmem: 2 * MAX_BYTES };
  return new Promise((resolve, reject) => {
    scrypt(utf8(password), salt, HASH_BYTES, options, (error, hash) => (error ? reject(error) : resolve(hash)));
  });
}
