import type { Context } from "../../../platform/context.ts";

/** The part of a context that relying parties' requests need: nothing is authenticated or written. */
export type PublicContext = Pick<Context, "clock" | "db" | "bindings" | "settings" | "sealer" | "defer" | "log">;

/** A map that drops its oldest key beyond `limit`. */
export class BoundedMap<V> {
  private readonly map = new Map<string, V>();
  private readonly limit: number;

  constructor(limit: number) {
    this.limit = limit;
  }

  get(key: string): V | undefined {
    return this.map.get(key);
  }

  set(key: string, value: V): void {
    this.map.delete(key);
    this.map.set(key, value);
    if (this.map.size <= this.limit) return;
    const oldest = this.map.keys().next();
    if (!oldest.done) this.map.delete(oldest.value);
  }

  delete(key: string): void {
    this.map.delete(key);
  }

  clear(): void {
    this.map.clear();
  }
}
