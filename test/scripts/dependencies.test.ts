import { readFileSync } from "node:fs";
import { isBuiltin } from "node:module";
import path from "node:path";
import { expect, test } from "vitest";
import { PROJECT } from "../../scripts/local/settings.ts";

/** What `npm start`, `npm run dev` and `npm run deploy` begin with, and the Worker that they bundle. */
const ENTRIES = ["scripts/run.mjs", "scripts/start.ts", "scripts/dev.ts", "scripts/deploy.ts", "worker/index.ts"];

/** An import, a re-export, `import(…)`, `require(…)` or `require.resolve(…)`; a type-only import leaves nothing at run time. */
const SPECIFIERS =
  /^(?:import|export)(?! type\b)[^"';]*?\sfrom\s+"([^"]+)"|^import\s+"([^"]+)"|\b(?:import|require|resolve)\("([^"]+)"\)/gm;

/** Packages that the files reachable from the entries load, each with the first file that does. */
function packagesLoaded(entries: readonly string[]): Map<string, string> {
  const packages = new Map<string, string>();
  const seen = new Set<string>();
  const visit = (file: string) => {
    if (seen.has(file)) return;
    seen.add(file);
    for (const match of readFileSync(path.join(PROJECT, file), "utf8").matchAll(SPECIFIERS)) {
      const specifier = match[1] ?? match[2] ?? match[3] ?? "";
      if (specifier.startsWith(".")) visit(path.join(path.dirname(file), specifier));
      else if (!isBuiltin(specifier) && !specifier.startsWith("cloudflare:")) {
        const name = specifier
          .split("/")
          .slice(0, specifier.startsWith("@") ? 2 : 1)
          .join("/");
        if (!packages.has(name)) packages.set(name, file);
      }
    }
  };
  for (const entry of entries) visit(entry);
  return packages;
}

test("`npm ci --omit=dev` is enough: what runs, and what it bundles, loads no development dependency", () => {
  const { dependencies } = JSON.parse(readFileSync(path.join(PROJECT, "package.json"), "utf8"));
  const loaded = packagesLoaded(ENTRIES);
  for (const expected of ["miniflare", "wrangler", "croner", "swagger-ui-dist", "hono", "zod"])
    expect([...loaded.keys()]).toContain(expected);
  expect([...loaded].filter(([name]) => !(name in dependencies))).toEqual([]);
  // `npm run` finds the Node.js that the scripts run on there.
  expect(dependencies).toHaveProperty("node");
});
