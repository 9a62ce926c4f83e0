/** Rises with each list that a ledger publishes or takes away in this isolate; who keeps lists in memory asks. */
let publications = 0;

export function publicationsHere(): number {
  return publications;
}

/** To be called when a list was stored or deleted: in this isolate no list is repeated that was read before. */
export function listsChanged(): void {
  publications++;
}
