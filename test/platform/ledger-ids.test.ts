import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";

/** A ledger's id is the business of our own CAs alone: whoever else wants a CA names it by issuer and id (authority/ca.ts). */

const ROOT = path.resolve(import.meta.dirname, "../..");
/** The adapter, the ledger's interfaces, and the entrypoint by which ledgers reach the inventory. */
const OF_LEDGERS = /^(src\/authority\/(local\/|ledger)|durable-objects\/issuer|worker\/inventory\.ts)/;

function filesBelow(directory: string): string[] {
  return readdirSync(path.join(ROOT, directory), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
    .map((entry) => path.relative(ROOT, path.join(entry.parentPath, entry.name)));
}

test("no file outside the adapter of our own CAs names the id of a ledger", () => {
  const files = ["src", "worker", "durable-objects"].flatMap(filesBelow);
  const naming = files.filter((file) => /ledger_?id/i.test(readFileSync(path.join(ROOT, file), "utf8")));
  expect(naming.length).toBeGreaterThan(10);
  expect(naming.filter((file) => !OF_LEDGERS.test(file))).toEqual([]);
});
