import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { applyMigrations, type Sql } from "../scripts/local/migrations.ts";
import type { Project } from "../scripts/local/project.ts";
import { startDatabaseOnly } from "../scripts/local/runtime.ts";
import { type Places, PROJECT } from "../scripts/local/settings.ts";
import type { Runtime } from "../scripts/local/workerd.ts";
import { wranglerScript } from "../scripts/local/wrangler.ts";
import { startWorker } from "../test/support/local-worker.ts";

/** A benchmark Worker in workerd, reached without wrangler's proxy. */
export interface BenchServer {
  readonly runtime: Runtime;
  readonly port: number;
  /** The text of a GET; throws on a status that is not 2xx. */
  get(query: string): Promise<string>;
}

/** Bundles `worker` into `directory` as wrangler deploys it; returns the script's path. */
export async function bundle(directory: string, worker: string, compatibilityDate: string): Promise<string> {
  const config = path.join(directory, "wrangler.json");
  writeFileSync(config, JSON.stringify({ name: "bench", main: worker, compatibility_date: compatibilityDate }));
  const outdir = path.join(directory, "out");
  const env = { ...process.env, WRANGLER_SEND_METRICS: "false", WRANGLER_WRITE_LOGS: "false", CI: "1" };
  const args = [wranglerScript(), "deploy", "--dry-run", "--minify", "--config", config, "--outdir", outdir];
  await promisify(execFile)(process.execPath, args, { env });
  return path.join(outdir, `${path.basename(worker, ".ts")}.js`);
}

/** Prepares the database of a state under `directory`, before a Worker runs on it. */
export async function migrateBench(directory: string, project: Project): Promise<void> {
  const simulator = await startDatabaseOnly(project, placesIn(directory));
  const db = (await simulator.miniflare.getD1Database("DB")) as unknown as Sql;
  await applyMigrations(db, path.join(PROJECT, "migrations"));
  await simulator.stop();
}

function placesIn(directory: string): Places {
  return { stateDir: directory, secretsFile: "", persistDir: path.join(directory, "state") };
}

/**
 * Starts a bundled Worker with its state under `directory`, on a free port. `asProduct`: it sees requests as under `npm
 * start`.
 */
export async function startBench(
  directory: string,
  script: string,
  project: Project,
  vars: Readonly<Record<string, string>> = {},
  asProduct = false,
): Promise<BenchServer> {
  const runtime = await startWorker(project, placesIn(directory), { script, vars, asProduct });
  const url = `http://127.0.0.1:${runtime.port}`;
  return {
    runtime,
    port: runtime.port,
    get: async (query) => {
      const answer = await fetch(url + query);
      const text = await answer.text();
      if (!answer.ok) throw new Error(`${query}: ${answer.status} ${text}`);
      return text;
    },
  };
}

/** The duration of `run` in milliseconds. */
export async function timed(run: () => Promise<unknown>): Promise<number> {
  const from = performance.now();
  await run();
  return performance.now() - from;
}

const CLOCK_TICKS_A_SECOND = 100;

/**
 * Microseconds of CPU used by all threads of a process (/proc/<pid>/stat: utime and stime), which other load hardly
 * changes.
 */
export function cpuMicros(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ") ?? [];
  return ((Number(fields[11]) + Number(fields[12])) * 1_000_000) / CLOCK_TICKS_A_SECOND;
}

/** A line of /proc/<pid>/status in megabytes: VmHWM is the peak, VmRSS the current resident memory. */
export function memory(pid: number, line: "VmHWM" | "VmRSS"): number {
  const found = new RegExp(`${line}:\\s+(\\d+) kB`).exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(found?.[1] ?? Number.NaN) / 1024;
}
