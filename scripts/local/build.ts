import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { lstatSync, mkdirSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { build as esbuild } from "esbuild";
import { type Build, readBuild, SCRIPT } from "./built.ts";
import { readProject } from "./project.ts";
import { PROJECT, StartError } from "./settings.ts";
import { buildHome } from "./sources.mjs";
import { wranglerScript } from "./wrangler.ts";

const run = promisify(execFile);

/**
 * The bundle of the current sources, built by `wrangler deploy --dry-run` unless it exists already. A bundle's
 * directory is named by the digest of its sources and moved into place whole, so that concurrent builds cannot corrupt
 * each other; `.build/worker` points to the newest. Throws StartError with the bundler's output.
 */
export async function buildWorker(project = PROJECT): Promise<Build> {
  const buildDir = path.join(project, ".build");
  for (;;) {
    const home = buildHome(project);
    const made = readBuild(home) ?? (await make(project, buildDir, home));
    // Null: the sources changed during the build, so the digest does not match the bundle.
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
    await Promise.all([bundle(project, draft), bundleStart(project, draft)]);
    const facts = { commit: await commitOf(project), builtAt: new Date().toISOString(), project: readProject(project) };
    writeFileSync(path.join(draft, "build.json"), JSON.stringify(facts));
    if (buildHome(project) !== home) return null;
    renameSync(draft, home);
  } catch (error) {
    // Another build of the same sources may have finished first.
    if (!readBuild(home)) throw error;
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
  const build = readBuild(home);
  if (!build) throw new StartError(`the build left no ${SCRIPT} in ${home}`);
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

/**
 * `scripts/start.ts` as one JavaScript file, so that the long-running process spends no memory on reading TypeScript or
 * on modules that it only imports.
 */
async function bundleStart(project: string, outdir: string): Promise<void> {
  await esbuild({
    absWorkingDir: project,
    entryPoints: ["scripts/start.ts"],
    outdir,
    bundle: true,
    minify: true,
    keepNames: true,
    platform: "node",
    format: "esm",
    target: "node22",
    logLevel: "silent",
    plugins: [
      {
        name: "src-without-side-effects",
        setup: ({ onResolve }) =>
          onResolve({ filter: /^\.\.?\/.*\.ts$/ }, ({ path: file, resolveDir }) => ({
            path: path.join(resolveDir, file),
            sideEffects: false,
          })),
      },
    ],
  });
}

function pointTo(buildDir: string, home: string): void {
  const link = path.join(buildDir, "worker");
  const next = path.join(buildDir, `link-${randomUUID()}`);
  symlinkSync(path.basename(home), next);
  try {
    renameSync(next, link);
  } catch {
    // The link is only a convenience: a real directory may be in its place.
    rmSync(next, { force: true });
  }
}

/** Deletes bundles older than a day: a start reads its bundle within seconds. */
function prune(buildDir: string, keep: string): void {
  const limit = Date.now() - 24 * 60 * 60 * 1000;
  for (const name of readdirSync(buildDir)) {
    const file = path.join(buildDir, name);
    if (!/^(?:worker-|draft-|link-)/.test(name) || file === keep) continue;
    const changed = lstatSync(file, { throwIfNoEntry: false })?.mtimeMs;
    if (changed !== undefined && changed < limit) rmSync(file, { recursive: true, force: true });
  }
}

/** The checked-out commit, or "unknown" outside a repository. */
export async function commitOf(project = PROJECT): Promise<string> {
  try {
    return (await run("git", ["rev-parse", "HEAD"], { cwd: project })).stdout.trim();
  } catch {
    return "unknown";
  }
}
