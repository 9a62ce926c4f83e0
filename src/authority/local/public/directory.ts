import { createHash } from "node:crypto";
import { eq, or } from "drizzle-orm";
import { type Bytes, fromHex } from "../../../pki/bytes.ts";
import { parseCertificate } from "../../../pki/certificate.ts";
import type { CertId, CertIdHash } from "../../../pki/ocsp.ts";
import { decodePem } from "../../../pki/pem.ts";
import { type CaAuthorityRow, certificateAuthorities } from "../table.ts";
import { BoundedMap, type PublicContext } from "./context.ts";
import { serialKeyOf } from "./serials.ts";

/** A CA for relying parties' requests. */
export interface PublicCa {
  readonly ca_id: string;
  readonly ledger_id: string;
  /** Key of the tag that tells the CA's serials from made-up ones; null: `mayHaveIssued` asks the ledger. */
  readonly serialKey: Bytes | null;
  /** DER. */
  readonly certificate: Bytes;
  readonly hashes: (hash: CertIdHash) => IssuerHashes;
}

/** The CertID fields of the CA: hashes of its name and of its key. */
interface IssuerHashes {
  readonly name: Bytes;
  readonly key: Bytes;
}

/** The CAs behind one `{ca_id}` of a public URL. */
export interface PublicAuthority {
  /** The CA with that name. */
  readonly own: PublicCa;
  /** That CA and, under an issuer's id, every intermediate of the issuer. */
  readonly all: readonly PublicCa[];
}

const KNOWN_MS = 30_000;
/** How often an isolate checks for new CAs. */
const NAMES_MS = 2_000;
/** Minimum time between reloads for an unknown issuer hash, which may belong to an intermediate not loaded yet. */
const RELOAD_AFTER_MS = 1_000;

/** How long a CA without a certificate is not looked up again. */
const ABSENT_MS = 2_000;

/** This isolate's view; bounded, and discarded after the times above. Null: a CA that waits for its certificate. */
const known = new BoundedMap<{ authority: PublicAuthority | null; until: number; reloadAt: number }>(512);
/** Every existing `{ca_id}`, so that a flood of made-up ones never reaches the database; null: not read yet. */
let names: { readonly all: ReadonlySet<string>; refreshAt: number } | null = null;
/** Incremented with each change in this isolate: names that were read before a change are not stored. */
let changes = 0;

/** The CAs behind a `{ca_id}`, or null if it has none with a certificate. */
export async function findAuthority(ctx: PublicContext, caId: string): Promise<PublicAuthority | null> {
  const now = ctx.clock.now().getTime();
  const before = known.get(caId);
  if (before && before.until > now) return before.authority;
  return (await isNamed(ctx, caId, now)) ? load(ctx, caId, now) : null;
}

async function load(ctx: PublicContext, caId: string, now: number): Promise<PublicAuthority | null> {
  const authority = await loadAuthority(ctx, caId);
  known.set(caId, { authority, until: now + (authority ? KNOWN_MS : ABSENT_MS), reloadAt: now + RELOAD_AFTER_MS });
  return authority;
}

/**
 * Whether a CA may have that name. One request at a time re-reads the names, with its own I/O; the others use the
 * present ones.
 */
async function isNamed(ctx: PublicContext, caId: string, now: number): Promise<boolean> {
  if (names?.all.has(caId)) return true;
  if (names && names.refreshAt > now && names.refreshAt <= now + NAMES_MS) return false;
  if (names) names.refreshAt = now + NAMES_MS;
  const { id, ca_id } = certificateAuthorities;
  const since = changes;
  const rows = await ctx.db.select({ id, ca_id }).from(certificateAuthorities);
  const all = new Set(rows.flatMap((row) => [row.id, row.ca_id]));
  if (since === changes) names = { all, refreshAt: now + NAMES_MS };
  return all.has(caId);
}

/** The CA that a CertID names (both hashes compared), or null. */
export async function findByCertId(ctx: PublicContext, authority: PublicAuthority, caId: string, id: CertId) {
  const match = matching(authority, id);
  if (match) return match;
  const fresh = await reloaded(ctx, authority, caId);
  return fresh && matching(fresh, id);
}

/** Re-reads the database; null if `authority` was read just before, or another request is about to read it. */
export async function reloaded(
  ctx: PublicContext,
  authority: PublicAuthority,
  caId: string,
): Promise<PublicAuthority | null> {
  const entry = known.get(caId);
  // Another request may have re-read it meanwhile.
  if (entry?.authority && entry.authority !== authority) return entry.authority;
  const now = ctx.clock.now().getTime();
  if (entry && entry.reloadAt > now && entry.reloadAt <= now + RELOAD_AFTER_MS) return null;
  if (entry) entry.reloadAt = now + RELOAD_AFTER_MS;
  return load(ctx, caId, now);
}

/** Call after a change in this isolate: the next request re-reads the CA. */
export function forgetAuthority(caId: string): void {
  known.delete(caId);
  names = null;
  changes++;
}

/** The loaded CA that a CertID names, or null. */
export function matching(authority: PublicAuthority, id: CertId): PublicCa | null {
  for (const ca of authority.all) {
    const hashes = ca.hashes(id.hash);
    if (sameOctets(hashes.key, id.issuerKeyHash) && sameOctets(hashes.name, id.issuerNameHash)) return ca;
  }
  return null;
}

function sameOctets(a: Bytes, b: Bytes): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

async function loadAuthority(ctx: PublicContext, caId: string): Promise<PublicAuthority | null> {
  const rows = await ctx.db
    .select()
    .from(certificateAuthorities)
    .where(
      or(
        eq(certificateAuthorities.issuer_id, caId),
        eq(certificateAuthorities.ca_id, caId),
        eq(certificateAuthorities.id, caId),
      ),
    );
  const issuer = rows.some((row) => row.ca_id === caId && row.parent_ca_id === null);
  const own = rows.find((row) => row.ca_id === caId) ?? rows.find((row) => row.id === caId);
  if (!own || own.cert_pem === "") return null;
  const cas = (issuer ? rows : [own]).filter((row) => row.cert_pem !== "").map(publicCa);
  const ownCa = cas.find((ca) => ca.ledger_id === own.ledger_id);
  return ownCa ? { own: ownCa, all: cas } : null;
}

function publicCa(row: CaAuthorityRow): PublicCa {
  const certificate = decodePem(row.cert_pem)[0]?.der;
  if (!certificate) throw new Error(`the certificate of ${row.id} is not PEM`);
  return {
    ca_id: row.ca_id,
    ledger_id: row.ledger_id,
    serialKey: serialKeyOf(row),
    certificate,
    hashes: hashesOf(row, certificate),
  };
}

/** The row has the usual hashes; others are computed when a request uses them. */
function hashesOf(row: CaAuthorityRow, certificate: Bytes): PublicCa["hashes"] {
  const made = new Map<CertIdHash, IssuerHashes>([
    ["sha1", { name: fromHex(row.name_hash_sha1), key: fromHex(row.key_hash_sha1) }],
    ["sha256", { name: fromHex(row.name_hash_sha256), key: fromHex(row.key_hash_sha256) }],
  ]);
  return (hash) => {
    const before = made.get(hash);
    if (before) return before;
    const { subject, publicKey } = parseCertificate(certificate);
    const [name, key] = [subject.der, publicKey.keyBits].map((octets) => createHash(hash).update(octets).digest());
    const hashes = { name: Uint8Array.from(name ?? []), key: Uint8Array.from(key ?? []) };
    made.set(hash, hashes);
    return hashes;
  };
}
