import { createRequire } from "node:module";
import path from "node:path";

/** Wrangler's command line, to be run by Node. */
export function wranglerScript(): string {
  const manifest = createRequire(import.meta.url).resolve("wrangler/package.json");
  return path.join(path.dirname(manifest), "bin/wrangler.js");
}
