import { readFileSync } from "node:fs";
import path from "node:path";
import { build } from "esbuild";
import { expect, it } from "vitest";

const PROJECT = path.resolve(import.meta.dirname, "../..");
const CLASS = "durable-objects/issuer.ts";
/** What may stand behind the class: itself, pure code, the platform's ground, and the words of the ledger. */
const ALLOWED = [
  /^durable-objects\/issuer(\/|\.ts$)/,
  /^src\/(pki|platform)\//,
  /^src\/authority\/ledger[a-z-]*\.ts$/,
  /^node_modules\//,
];

/** The modules of which anything is in a bundle that exports only what the entry does. */
async function modulesBehind(contents: string): Promise<string[]> {
  const { metafile } = await build({
    stdin: { contents, resolveDir: PROJECT, loader: "ts" },
    absWorkingDir: PROJECT,
    bundle: true,
    write: false,
    metafile: true,
    format: "esm",
    platform: "neutral",
    mainFields: ["module", "main"],
    external: ["cloudflare:*", "node:*"],
    logLevel: "silent",
  });
  return Object.values(metafile.outputs).flatMap(({ inputs }) =>
    Object.entries(inputs).flatMap(([file, { bytesInOutput }]) => (bytesInOutput > 0 ? [file] : [])),
  );
}

const strange = (modules: readonly string[]) =>
  modules.filter((file) => file !== "<stdin>" && !ALLOWED.some((pattern) => pattern.test(file)));

it("the class that signs holds no code of the inventory, of identity or of a route", async () => {
  // It is deployed as it stands: the worker puts nothing on top of it.
  expect(readFileSync(path.join(PROJECT, "worker/index.ts"), "utf8")).toContain(
    `export { Issuer } from "../${CLASS}";`,
  );
  const modules = await modulesBehind(`export { Issuer } from "./${CLASS}";`);
  expect(modules).toContain(CLASS);
  expect(strange(modules)).toEqual([]);
  expect(modules.filter((file) => /node_modules\/(hono|@hono|zod)\//.test(file))).toEqual([]);
});

it("would be seen to hold what it must not", async () => {
  const planted = await modulesBehind(
    `export { Issuer } from "./${CLASS}"; export { factsAfter } from "./src/authority/local/inventory.ts";`,
  );
  expect(strange(planted)).toContain("src/authority/local/inventory.ts");
});
