/**
 * Places for a few requests at a time, in one isolate. A request whose client has gone may end without leaving, so a place is
 * lost when its holder has not entered again for `lostMs`. Holders look for themselves: no request awaits another's promise.
 */
export class Room {
  /** When each holder last entered, in Unix milliseconds, in the order in which they came. */
  readonly #holders = new Map<symbol, number>();
  readonly #places: number;
  readonly #lostMs: number;

  constructor(places: number, lostMs: number) {
    this.#places = places;
    this.#lostMs = lostMs;
  }

  /** Takes a place, or keeps it; false when all are taken. */
  enter(holder: symbol): boolean {
    this.#dropLost();
    if (!this.#holders.has(holder) && this.#holders.size >= this.#places) return false;
    this.#holders.set(holder, Date.now());
    return true;
  }

  leave(holder: symbol): void {
    this.#holders.delete(holder);
  }

  isEmpty(): boolean {
    this.#dropLost();
    return this.#holders.size === 0;
  }

  /** Whether nobody who is here came earlier. */
  isFirst(holder: symbol): boolean {
    this.#dropLost();
    return this.#holders.keys().next().value === holder;
  }

  #dropLost(): void {
    const now = Date.now();
    for (const [holder, entered] of this.#holders) if (now - entered > this.#lostMs) this.#holders.delete(holder);
  }
}
