/** Where a ledger's objects are: keys in R2, and public URLs. */

/** R2 prefix of all CRLs, with one folder per ledger. */
export const CRL_PREFIX = "crl/";

export function crlPrefix(ledgerId: string): string {
  return `${CRL_PREFIX}${ledgerId}/`;
}

/** R2 prefix of the entries imported after the ledger's creation; a restored ledger reads them back. */
export function importPrefix(ledgerId: string): string {
  return `imports/${ledgerId}/`;
}

/** The R2 key of a CRL. */
export function crlKey(ledgerId: string, shard: number): string {
  return `${crlPrefix(ledgerId)}${shard}.crl`;
}

/**
 * The Last-Modified of a stored list, in Unix milliseconds: a whole second in which only this list was served. That is
 * the first full second after its publication and later than that of the list it replaced (`replaces` in its metadata).
 * It may be briefly in the future. The very first list, which replaced none, has the second of its publication.
 */
export function listModified(object: Pick<R2Object, "uploaded" | "customMetadata">): number {
  const uploaded = object.uploaded.getTime();
  const replaced = object.customMetadata?.replaces;
  if (replaced === undefined) return wholeSecond(uploaded);
  return Math.max(wholeSecond(uploaded + STORING_MS) + 1000, Date.parse(replaced) + 1000);
}

/** The longest time between an object's `uploaded` and R2 serving it. */
const STORING_MS = 250;

/** Rounds down to seconds, the precision of dates in HTTP, CRLs and OCSP. */
export function wholeSecond(ms: number): number {
  return Math.floor(ms / 1000) * 1000;
}

/** A CA's public URLs (wire.md "Public PKI endpoints"). */
export function caUrls(publicUrl: string, caId: string) {
  const base = `${publicUrl}/.well-known/pki`;
  return {
    caIssuers: `${base}/ca/${caId}`,
    ocsp: `${base}/ocsp/${caId}`,
    /** Shard 0 is the complete list, the others are partitions of it. */
    crl: (shard: number) => (shard === 0 ? `${base}/crl/${caId}` : `${base}/crl/${caId}/${shard}`),
  };
}
