/**
 * Limits how many requests hold a place at the same time in one isolate. A request whose client has gone may never
 * leave, so a place expires when its holder has not entered again for `lostMs`. Holders poll: no request awaits
 * another's promise.
 */
export class Room {
  /** Last entry of each holder in Unix milliseconds, in order of arrival. */
  readonly #holders = new Map<symbol, number>();
  readonly #places: number;
  readonly #lostMs: number;

  constructor(places: number, lostMs: number) {
    this.#places = places;
    this.#lostMs = lostMs;
  }

  /** Takes or renews a place; false if all are taken. */
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

  /** Whether this holder arrived before all the others. */
  isFirst(holder: symbol): boolean {
    this.#dropLost();
    return this.#holders.keys().next().value === holder;
  }

  #dropLost(): void {
    const now = Date.now();
    for (const [holder, entered] of this.#holders) if (now - entered > this.#lostMs) this.#holders.delete(holder);
  }
}
