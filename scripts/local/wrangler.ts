import { createRequire } from "node:module";
import path from "node:path";

/** Path of wrangler's command line, to run with Node. */
export function wranglerScript(): string {
  const manifest = createRequire(import.meta.url).resolve("wrangler/package.json");
  return path.join(path.dirname(manifest), "bin/wrangler.js");
}
