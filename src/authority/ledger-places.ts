/** Where things of a ledger lie: in R2, and under the public URL. */

/** Below it lie the lists of all ledgers in R2, those of each in a folder of its own. */
export const CRL_PREFIX = "crl/";

export function crlPrefix(ledgerId: string): string {
  return `${CRL_PREFIX}${ledgerId}/`;
}

/** Where a ledger keeps in R2 what was brought in after its creation: so it has that again after a restore. */
export function importPrefix(ledgerId: string): string {
  return `imports/${ledgerId}/`;
}

/** Where a list lies in R2. */
export function crlKey(ledgerId: string, shard: number): string {
  return `${crlPrefix(ledgerId)}${shard}.crl`;
}

/**
 * The Last-Modified of a stored list, Unix milliseconds: a whole second in which only this list was served. That is the first
 * full second after its publication, and later than the one of the list that it replaced (`replaces` in its metadata). May lie
 * ahead for a moment. The first list of all replaced none: the second of its publication.
 */
export function listModified(object: Pick<R2Object, "uploaded" | "customMetadata">): number {
  const uploaded = object.uploaded.getTime();
  const replaced = object.customMetadata?.replaces;
  if (replaced === undefined) return wholeSecond(uploaded);
  return Math.max(wholeSecond(uploaded + STORING_MS) + 1000, Date.parse(replaced) + 1000);
}

/** How long storage may take from the time that it notes as `uploaded` until it serves the object. */
const STORING_MS = 250;

/** Cut to seconds, as the dates of HTTP, CRLs and OCSP are. */
export function wholeSecond(ms: number): number {
  return Math.floor(ms / 1000) * 1000;
}

/** Where relying parties find what belongs to a CA (wire.md "Public PKI endpoints"). */
export function caUrls(publicUrl: string, caId: string) {
  const base = `${publicUrl}/.well-known/pki`;
  return {
    caIssuers: `${base}/ca/${caId}`,
    ocsp: `${base}/ocsp/${caId}`,
    /** Shard 0 is the complete list, the others are partitions of it. */
    crl: (shard: number) => (shard === 0 ? `${base}/crl/${caId}` : `${base}/crl/${caId}/${shard}`),
  };
}
