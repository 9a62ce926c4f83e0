import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { chooseSockets, urlOf } from "../scripts/local/listen.ts";
import { type Project, type Runtime, startWorker } from "../scripts/local/runtime.ts";
import { wranglerScript } from "../scripts/local/wrangler.ts";

/** A Worker of the benchmark in workerd, reached without wrangler's proxy. */
export interface BenchServer {
  readonly runtime: Runtime;
  readonly port: number;
  /** The text of a GET; throws on a status that is not 2xx. */
  get(query: string): Promise<string>;
}

/** Bundles `worker` into `directory` as wrangler deploys it; answers the script's path. */
export async function bundle(directory: string, worker: string, compatibilityDate: string): Promise<string> {
  const config = path.join(directory, "wrangler.json");
  writeFileSync(config, JSON.stringify({ name: "bench", main: worker, compatibility_date: compatibilityDate }));
  const outdir = path.join(directory, "out");
  const env = { ...process.env, WRANGLER_SEND_METRICS: "false", WRANGLER_WRITE_LOGS: "false", CI: "1" };
  const args = [wranglerScript(), "deploy", "--dry-run", "--minify", "--config", config, "--outdir", outdir];
  await promisify(execFile)(process.execPath, args, { env });
  return path.join(outdir, `${path.basename(worker, ".ts")}.js`);
}

/** Starts a bundled Worker with its state under `directory`, on a free port. */
export async function startBench(
  directory: string,
  script: string,
  project: Project,
  vars: Readonly<Record<string, string>> = {},
): Promise<BenchServer> {
  const places = { stateDir: directory, secretsFile: "", persistDir: path.join(directory, "state") };
  const listen = await chooseSockets({ hosts: [{ address: "127.0.0.1", optional: false }], port: 0 });
  const url = urlOf(listen);
  const runtime = await startWorker(project, places, { script, vars, listen });
  return {
    runtime,
    port: Number(new URL(url).port),
    get: async (query) => {
      const answer = await fetch(url + query);
      const text = await answer.text();
      if (!answer.ok) throw new Error(`${query}: ${answer.status} ${text}`);
      return text;
    },
  };
}

/** Milliseconds that `run` takes. */
export async function timed(run: () => Promise<unknown>): Promise<number> {
  const from = performance.now();
  await run();
  return performance.now() - from;
}

const CLOCK_TICKS_A_SECOND = 100;

/** Microseconds of CPU that a process has used, all its threads (/proc/<pid>/stat: utime and stime): what else the machine does leaves it alone. */
export function cpuMicros(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ") ?? [];
  return ((Number(fields[11]) + Number(fields[12])) * 1_000_000) / CLOCK_TICKS_A_SECOND;
}

/** A line of /proc/<pid>/status in megabytes: VmHWM is the peak, VmRSS what is resident now. */
export function memory(pid: number, line: "VmHWM" | "VmRSS"): number {
  const found = new RegExp(`${line}:\\s+(\\d+) kB`).exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(found?.[1] ?? Number.NaN) / 1024;
}
