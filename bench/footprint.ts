import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { chooseSockets } from "../scripts/local/listen.ts";
import { PROJECT } from "../scripts/local/settings.ts";
import { environment, type RunningServer, startServer } from "../test/support/server.ts";

const ROUNDS = 5;
/** Wait until memory that the start used only briefly has been released. */
const IDLE_MS = 10_000;

/**
 * The cost of an idle server on one machine: memory of every process, and the time from the command to the ready line.
 * The build exists already; the state is new or migrated.
 */
export async function benchFootprint(): Promise<void> {
  const directory = mkdtempSync(path.join(tmpdir(), "certctl-bench-"));
  try {
    const [socket] = await chooseSockets({ hosts: [{ address: "127.0.0.1", optional: false }], port: 0 });
    const port = socket?.port ?? 0;
    const at = (name: string | number) => ({ stateDir: path.join(directory, String(name)), port });
    await (await startServer(at("build"))).stop();
    const fresh: number[] = [];
    for (let round = 0; round < ROUNDS; round++) fresh.push(await timeToReady(at(round)));
    const migrated: number[] = [];
    for (let round = 0; round < ROUNDS; round++) migrated.push(await timeToReady(at(0)));
    tell("ready on a fresh state", `${median(fresh)} ms (${fresh.join(", ")})`);
    tell("ready on a migrated state", `${median(migrated)} ms (${migrated.join(", ")})`);

    const server = await startServer(at(0));
    await idle();
    tellMemory("node scripts/run.mjs start", server.pid, server.workerdPid);
    await server.stop();
    const npm = spawn("npm", ["start"], {
      cwd: PROJECT,
      stdio: ["ignore", "pipe", "inherit"],
      env: environment({ STATE_DIR: at(0).stateDir, PORT: String(port) }),
    });
    await new Promise<void>((resolve) => npm.stdout.on("data", (text) => /ready on/.test(String(text)) && resolve()));
    await idle();
    const { workerd } = JSON.parse(readFileSync(path.join(at(0).stateDir, "lock.json"), "utf8"));
    tellMemory("npm start, with npm itself", npm.pid ?? 0, workerd.pid);
    await ended(npm);
  } finally {
    rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
  }
}

async function timeToReady(options: { stateDir: string; port: number }): Promise<number> {
  const from = performance.now();
  const server: RunningServer = await startServer(options);
  const took = performance.now() - from;
  await server.stop();
  return Math.round(took);
}

function median(values: readonly number[]): number {
  return values.toSorted((one, other) => one - other)[values.length >> 1] ?? Number.NaN;
}

function idle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, IDLE_MS));
}

async function ended(child: ChildProcess): Promise<void> {
  const closed = new Promise((resolve) => child.once("close", resolve));
  child.kill("SIGTERM");
  await closed;
}

/** Resident memory, and the part of it that no other process shares. */
function tellMemory(what: string, root: number, workerd: number): void {
  for (const line of ["Rss", "Pss"] as const) {
    const all = processTree(root).map((pid) => ({ name: nameOf(pid), pid, size: megabytes(pid, line) }));
    const total = all.reduce((sum, { size }) => sum + size, 0);
    const parts = all.map(({ name, size }) => `${name} ${size.toFixed(0)}`).join(", ");
    const ratio = total / megabytes(workerd, line);
    tell(`idle, ${what}, ${line.toUpperCase()}`, `${total.toFixed(0)} MB, ${ratio.toFixed(2)} of workerd (${parts})`);
  }
}

/** A process and all its descendants. */
function processTree(root: number): number[] {
  const parents = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((name) => ({ pid: Number(name), parent: parentOf(name) }));
  const tree = [root];
  for (const pid of tree) tree.push(...parents.filter(({ parent }) => parent === pid).map((child) => child.pid));
  return tree;
}

function parentOf(pid: string): number {
  try {
    return Number(/^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
  } catch {
    return Number.NaN;
  }
}

function nameOf(pid: number): string {
  return readFileSync(`/proc/${pid}/comm`, "utf8").trim();
}

function megabytes(pid: number, line: "Rss" | "Pss"): number {
  const found = new RegExp(`^${line}:\\s+(\\d+) kB`, "m").exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"));
  return Number(found?.[1]) / 1024;
}

function tell(what: string, figure: string): void {
  console.log(`${what.padEnd(44)} ${figure}`);
}
