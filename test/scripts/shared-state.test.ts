import path from "node:path";
import ts from "typescript";
import { describe, expect, it } from "vitest";
import { PROJECT } from "../../scripts/local/settings.ts";
import { findSharedPromises } from "../support/shared-state.ts";

const { config } = ts.readConfigFile(path.join(PROJECT, "tsconfig.json"), ts.sys.readFile);
const { options, fileNames } = ts.parseJsonConfigFileContent(config, ts.sys, PROJECT);

/** The single flights and waiting queues that must be found, each alone in its file. */
const PLANTED: Readonly<Record<string, string>> = {
  "a promise of a module": "export let loading: Promise<string> | null = null;",
  "promises in a map": "export const flights = new Map<string, Promise<string>>();",
  "a promise inside of what a map has":
    "interface Flight { readonly since: number; readonly work: PromiseLike<void> | null }\nexport const flights = new WeakMap<object, Flight>();",
  "a promise in an object of a module": "export const state = { flight: null as Promise<void> | null };",
  "a promise in a field":
    "export class Cache { private pending: Promise<string> | null = null; get() { return this.pending; } }",
  "a promise in a closure":
    "export function once(work: () => Promise<string>) { let first: Promise<string> | null = null; return () => (first ??= work()); }",
  "a map in a closure":
    "export function memo(work: (key: string) => Promise<string>) { const known = new Map<string, Promise<string>>(); return (key: string) => { const flight = known.get(key) ?? work(key); known.set(key, flight); return flight; }; }",
  "functions that settle": "export const waiting: (() => void)[] = [];",
  "functions that settle, by key":
    "export const waiting = new Map<string, { readonly go: Set<(value: string) => void> }>();",
};

/** What must not be taken for one. */
const ALLOWED: Readonly<Record<string, string>> = {
  values: "export const known = new Map<string, { readonly text: string; readonly until: number }>();",
  "functions that make promises": "export const steps: Record<string, () => Promise<void>> = {};",
  "objects with methods":
    "interface Signer { sign(data: string): Promise<string> }\nexport const signers = new Map<string, Signer>();",
  "promises of one call":
    "export async function all(work: () => Promise<string>) { const both = [work(), work()]; return Promise.all(both); }",
};

function foundIn(code: string): string[] {
  const file = path.join(PROJECT, "src/planted.ts");
  const host = ts.createCompilerHost(options);
  const { getSourceFile, fileExists } = host;
  host.getSourceFile = (name, ...rest) =>
    name === file ? ts.createSourceFile(name, code, ts.ScriptTarget.ESNext, true) : getSourceFile(name, ...rest);
  host.fileExists = (name) => name === file || fileExists(name);
  const program = ts.createProgram([file], { ...options, types: [] }, host);
  return findSharedPromises(program, PROJECT, ["src/"]).map(({ name }) => name);
}

describe("what requests share are values: none waits for another's promise", () => {
  for (const [what, code] of Object.entries(PLANTED))
    it(`finds ${what}`, () => {
      expect(foundIn(code)).toHaveLength(1);
    });
  for (const [what, code] of Object.entries(ALLOWED))
    it(`lets pass ${what}`, () => {
      expect(foundIn(code)).toEqual([]);
    });

  it("no file of the Worker keeps one where another request finds it", () => {
    const program = ts.createProgram(fileNames, options);
    expect(findSharedPromises(program, PROJECT, ["src/", "worker/", "durable-objects/"])).toEqual([]);
  });
});
