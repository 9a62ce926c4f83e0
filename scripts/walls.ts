/**
 * `npm run walls`: checks the walls of docs/architecture.md, after testing the check itself. First every rule must
 * report a planted violation and pass a clean tree. Then the project is checked, and every TypeScript file on disk must
 * be among the modules that were read.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { cruise, type ICruiseOptions, type ICruiseResult } from "dependency-cruiser";
import { CLEAN, PLANTS, PRODUCT, ROOTS, RULES } from "./walls-rules.ts";
import { TABLE_RULES, tableViolations, type Violation } from "./walls-tables.ts";

const PROJECT = resolve(import.meta.dirname, "..");
/** With fewer modules than this, the reader has missed part of the project. */
const FEWEST_MODULES = 150;
const FEWEST_TABLES = 30;

interface Reading {
  readonly modules: readonly string[];
  readonly imports: number;
  readonly tables: number;
  readonly violations: readonly Violation[];
}

/** Reads every TypeScript module below `base`, type-only imports included, and applies the rules. */
async function read(base: string): Promise<Reading> {
  const roots = ROOTS.filter((root) => filesBelow(join(base, root)).length > 0);
  const options: ICruiseOptions = {
    baseDir: base,
    validate: true,
    ruleSet: { forbidden: RULES },
    tsPreCompilationDeps: true,
    combinedDependencies: false,
    doNotFollow: { path: "node_modules" },
    exclude: { path: "^\\.build/" },
    outputType: "json",
  };
  // Needed to resolve `hono/cookie`, which is declared in the package's `exports`.
  const { output } = await cruise([...roots], options, {
    exportsFields: ["exports"],
    conditionNames: ["import", "types"],
  });
  const result = JSON.parse(String(output)) as ICruiseResult;
  const ours = result.modules.filter((module) => ROOTS.some((root) => module.source.startsWith(`${root}/`)));
  const modules = ours.map((module) => module.source);
  const product = modules.filter((name) => new RegExp(PRODUCT).test(name));
  const { tables, violations } = tableViolations(
    Object.fromEntries(product.map((name) => [name, readFileSync(join(base, name), "utf8")])),
  );
  return {
    modules,
    imports: ours.reduce((sum, module) => sum + module.dependencies.length, 0),
    tables,
    violations: [
      ...result.summary.violations.map(({ rule, from, to }) => ({ rule: rule.name, from, to })),
      ...violations,
    ],
  };
}

/** The TypeScript sources below a folder, without declaration files; empty if the folder does not exist. */
function filesBelow(folder: string): string[] {
  try {
    return readdirSync(folder, { recursive: true, encoding: "utf8" })
      .map((name) => join(folder, name))
      .filter((name) => name.endsWith(".ts") && !name.endsWith(".d.ts") && !name.includes("node_modules"));
  } catch {
    return [];
  }
}

/** Writes `files` into a temporary tree, with this project's packages beside them, and reads it. */
async function readPlanted(files: Readonly<Record<string, string>>): Promise<Reading> {
  mkdirSync(join(PROJECT, ".build"), { recursive: true });
  const base = mkdtempSync(join(PROJECT, ".build/walls-"));
  try {
    const manifest = {
      type: "module",
      dependencies: { "drizzle-orm": "*", hono: "*" },
      devDependencies: { croner: "*", vitest: "*" },
    };
    writeFileSync(join(base, "package.json"), JSON.stringify(manifest));
    symlinkSync(join(PROJECT, "node_modules"), join(base, "node_modules"));
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(join(base, name)), { recursive: true });
      writeFileSync(join(base, name), text);
    }
    return await read(base);
  } finally {
    rmSync(base, { recursive: true, force: true });
  }
}

const describe = ({ rule, from, to }: Violation): string => `${rule}: ${from} -> ${to}`;

/** Every plant must be caught by its rule, every rule must have a plant, and the clean tree must pass. */
async function proveRules(): Promise<string[]> {
  const failures: string[] = [];
  for (const rule of [...RULES.map(({ name }) => name), ...TABLE_RULES]) {
    if (!PLANTS.some((plant) => plant.rule === rule)) failures.push(`rule ${rule} has no planted violation`);
  }
  for (const plant of PLANTS) {
    const { violations } = await readPlanted(plant.files);
    if (!violations.some((violation) => violation.rule === plant.rule)) {
      const seen = violations.map(describe).join("; ") || "nothing";
      failures.push(`planted violation of ${plant.rule} was not caught (${Object.keys(plant.files)}): ${seen}`);
    }
  }
  const clean = await readPlanted(CLEAN);
  for (const violation of clean.violations) failures.push(`the clean tree does not pass: ${describe(violation)}`);
  if (clean.modules.length !== Object.keys(CLEAN).length) {
    failures.push(`of ${Object.keys(CLEAN).length} modules of the clean tree ${clean.modules.length} were seen`);
  }
  return failures;
}

/** Checks the project itself: every file read, no rule broken. */
async function holdProject(): Promise<{ failures: string[]; reading: Reading }> {
  const reading = await read(PROJECT);
  const failures = reading.violations.map(describe);
  const seen = new Set(reading.modules);
  const onDisk = ROOTS.flatMap((root) => filesBelow(join(PROJECT, root))).map((name) => name.slice(PROJECT.length + 1));
  for (const name of onDisk) if (!seen.has(name)) failures.push(`not seen: ${name}`);
  if (reading.modules.length < FEWEST_MODULES) {
    failures.push(`${reading.modules.length} modules seen, at least ${FEWEST_MODULES} expected`);
  }
  if (reading.imports < reading.modules.length) failures.push(`only ${reading.imports} imports seen`);
  if (reading.tables < FEWEST_TABLES)
    failures.push(`${reading.tables} tables seen, at least ${FEWEST_TABLES} expected`);
  return { failures, reading };
}

const unproven = await proveRules();
for (const failure of unproven) console.error(`walls: ${failure}`);
const { failures, reading } = await holdProject();
for (const failure of failures) console.error(`walls: ${failure}`);
console.log(
  `walls: ${PLANTS.length} planted violations, ${PLANTS.length - unproven.length} caught; ` +
    `${reading.modules.length} modules, ${reading.imports} imports, ${reading.tables} tables, ${failures.length} violations`,
);
process.exit(unproven.length + failures.length === 0 ? 0 : 1);
