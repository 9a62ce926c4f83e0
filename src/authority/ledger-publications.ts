/** Incremented when a ledger in this isolate publishes or deletes a list; caches of lists compare it. */
let publications = 0;

export function publicationsHere(): number {
  return publications;
}

/** Call after a list was stored or deleted: this isolate then serves no list that it read before. */
export function listsChanged(): void {
  publications++;
}
