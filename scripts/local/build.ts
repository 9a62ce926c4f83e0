import { execFile } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { promisify } from "node:util";
import { PROJECT, StartError } from "./settings.ts";
import { wranglerScript } from "./wrangler.ts";

const run = promisify(execFile);
const require = createRequire(import.meta.url);

/** What a bundle is made of; a change in any of them makes a new one. */
const SOURCES = ["worker", "src", "durable-objects", "wrangler.toml", "package-lock.json", "tsconfig.json"];

/** Files of swagger-ui-dist that the API reference page uses. */
const SWAGGER_FILES = ["swagger-ui.css", "swagger-ui-bundle.js", "swagger-ui-bundle.js.LICENSE.txt"];

const BUNDLE = "index.js";

export interface Build {
  /** The Worker's one module. */
  readonly script: string;
  readonly commit: string;
  /** RFC 3339. */
  readonly builtAt: string;
}

/** Makes `.build/assets` of web/, openapi.json and the API reference's files. Each file is replaced at once; who reads sees no half. */
export function buildAssets(project = PROJECT): string {
  const target = path.join(project, ".build/assets");
  const files = new Map<string, Buffer>();
  const web = path.join(project, "web");
  for (const name of filesUnder(web)) files.set(name, readFileSync(path.join(web, name)));
  files.set("openapi.json", readFileSync(path.join(project, "openapi.json")));
  const swagger = path.dirname(require.resolve("swagger-ui-dist/package.json"));
  for (const name of SWAGGER_FILES) files.set(`docs/${name}`, readFileSync(path.join(swagger, name)));
  for (const [name, content] of files) writeIfChanged(path.join(target, name), content);
  for (const name of filesUnder(target)) {
    if (!files.has(name) && !name.endsWith(".new")) rmSync(path.join(target, name), { force: true });
  }
  return target;
}

/**
 * The bundle of the sources as they are, made by `wrangler deploy --dry-run` unless it is there already. A bundle lies in
 * a directory named by the digest of its sources, moved there whole, so that builds side by side cannot spoil each other;
 * `.build/worker` points to the newest. Throws StartError with the bundler's own words.
 */
export async function buildWorker(project = PROJECT): Promise<Build> {
  const buildDir = path.join(project, ".build");
  for (;;) {
    const home = path.join(buildDir, `worker-${sourcesDigest(project)}`);
    const made = readBuild(home) ?? (await make(project, buildDir, home));
    // Null: the sources changed while they were read; the digest would name another bundle than the one made.
    if (!made) continue;
    pointTo(buildDir, home);
    prune(buildDir, home);
    return made;
  }
}

async function make(project: string, buildDir: string, home: string): Promise<Build | null> {
  const draft = path.join(buildDir, `draft-${randomUUID()}`);
  mkdirSync(draft, { recursive: true });
  try {
    await bundle(project, draft);
    const facts = { commit: await commitOf(project), builtAt: new Date().toISOString() };
    writeFileSync(path.join(draft, "build.json"), JSON.stringify(facts));
    if (path.join(buildDir, `worker-${sourcesDigest(project)}`) !== home) return null;
    renameSync(draft, home);
  } catch (error) {
    // Another build of the same sources may have been faster.
    if (!readBuild(home)) throw error;
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
  const build = readBuild(home);
  if (!build) throw new StartError(`the build left no ${BUNDLE} in ${home}`);
  return build;
}

async function bundle(project: string, outdir: string): Promise<void> {
  try {
    await run(process.execPath, [wranglerScript(), "deploy", "--dry-run", "--outdir", outdir], {
      cwd: project,
      env: { ...process.env, WRANGLER_SEND_METRICS: "false", WRANGLER_WRITE_LOGS: "false", CI: "1", NO_COLOR: "1" },
      maxBuffer: 16 * 1024 * 1024,
    });
  } catch (cause) {
    const output =
      cause instanceof Error && "stderr" in cause && "stdout" in cause
        ? `${cause.stdout}\n${cause.stderr}`
        : String(cause);
    throw new StartError(`the Worker does not build:\n${output.trim()}`, { cause });
  }
}

function readBuild(home: string): Build | null {
  const script = path.join(home, BUNDLE);
  if (!existsSync(script)) return null;
  const facts: unknown = JSON.parse(readFileSync(path.join(home, "build.json"), "utf8"));
  if (typeof facts !== "object" || facts === null || !("commit" in facts) || !("builtAt" in facts)) return null;
  return { script, commit: String(facts.commit), builtAt: String(facts.builtAt) };
}

function pointTo(buildDir: string, home: string): void {
  const link = path.join(buildDir, "worker");
  const next = path.join(buildDir, `link-${randomUUID()}`);
  symlinkSync(path.basename(home), next);
  try {
    renameSync(next, link);
  } catch {
    // Only a convenience: a real directory may stand in its place.
    rmSync(next, { force: true });
  }
}

/** Old bundles go after a day: a start that chose one reads it within seconds. */
function prune(buildDir: string, keep: string): void {
  const limit = Date.now() - 24 * 60 * 60 * 1000;
  for (const name of readdirSync(buildDir)) {
    const file = path.join(buildDir, name);
    if (!/^(?:worker-|draft-|link-)/.test(name) || file === keep) continue;
    const changed = lstatSync(file, { throwIfNoEntry: false })?.mtimeMs;
    if (changed !== undefined && changed < limit) rmSync(file, { recursive: true, force: true });
  }
}

function sourcesDigest(project: string): string {
  const digest = createHash("sha256");
  for (const source of SOURCES) {
    const at = path.join(project, source);
    const names = statSync(at, { throwIfNoEntry: false })?.isDirectory() ? filesUnder(at) : [""];
    for (const name of names) {
      const file = path.join(at, name);
      if (existsSync(file)) digest.update(`${source}/${name}\0`).update(readFileSync(file)).update("\0");
    }
  }
  return digest.digest("hex").slice(0, 16);
}

/** The commit that is checked out, "unknown" outside a repository. */
export async function commitOf(project = PROJECT): Promise<string> {
  try {
    return (await run("git", ["rev-parse", "HEAD"], { cwd: project })).stdout.trim();
  } catch {
    return "unknown";
  }
}

/** Paths of all files below, relative, with forward slashes, in order. */
function filesUnder(directory: string): string[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(directory, path.join(entry.parentPath, entry.name)).split(path.sep).join("/"))
    .sort();
}

function writeIfChanged(file: string, content: Buffer): void {
  if (existsSync(file) && readFileSync(file).equals(content)) return;
  mkdirSync(path.dirname(file), { recursive: true });
  const next = `${file}.${randomUUID()}.new`;
  writeFileSync(next, content);
  renameSync(next, file);
}
