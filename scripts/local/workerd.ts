import { type ChildProcess, spawn } from "node:child_process";
import { accessSync, chmodSync, constants, mkdirSync } from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import path from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import type { Tick } from "./cron.ts";
import { logLine } from "./log.ts";
import { type LoopbackHandlers, startLoopback } from "./loopback.ts";
import { type ProcessId, processId } from "./process.ts";
import { PROJECT, StartError } from "./settings.ts";

/** All that is needed to run workerd without Miniflare, as plain data. Contains every secret of the Worker. */
export interface Plan {
  /** workerd's configuration, a serialized Cap'n Proto message. */
  readonly config: Uint8Array;
  /** workerd's name for the socket of the Worker. */
  readonly socket: string;
  /** The socket that takes the schedules. */
  readonly scheduleSocket: string;
  /** The secret required by that socket. */
  readonly scheduleSecret: string;
  /** The secret that workerd sends to the loopback server. */
  readonly loopbackSecret: string;
  /** Directories of workerd's files; they must exist. */
  readonly directories: readonly string[];
}

/** A running workerd. */
export interface Runtime {
  readonly workerd: ProcessId;
  /** Where the Worker is served, on 127.0.0.1. */
  readonly port: number;
  /** Runs the Worker's scheduled handler; returns the outcome that workerd reports. */
  scheduled(tick: Tick): Promise<string>;
  /** Calls back once when workerd ends without `stop`, or at once if it has already ended. */
  onDeath(callback: () => void): void;
  stop(): Promise<void>;
}

const require = createRequire(import.meta.url);

const WRAPPER = path.join(PROJECT, "scripts/local/workerd.sh");

/** The wrapper script that ties workerd to the process that starts it. */
export function workerdWrapper(): string {
  try {
    accessSync(WRAPPER, constants.X_OK);
  } catch {
    chmodSync(WRAPPER, 0o755);
  }
  return WRAPPER;
}

/** The workerd binary that Miniflare would use. */
export function workerdPath(): string {
  const module: unknown = createRequire(require.resolve("miniflare"))("workerd");
  if (typeof module === "object" && module !== null && "default" in module && typeof module.default === "string")
    return module.default;
  throw new StartError("no workerd for this machine is installed: run `npm ci`");
}

/** Runs workerd from its plan. Throws StartError with workerd's own output if it does not start. */
export async function runWorkerd(plan: Plan, handlers: LoopbackHandlers): Promise<Runtime> {
  for (const directory of plan.directories) mkdirSync(directory, { recursive: true, mode: 0o700 });
  const loopback = await startLoopback(plan.loopbackSecret, handlers);
  const args = ["serve", "--binary", "--experimental", "--socket-addr=entry=127.0.0.1:0"];
  args.push(`--external-addr=loopback=${loopback.address}`, "--control-fd=3", "-");
  const child = spawn(workerdWrapper(), args, {
    stdio: ["pipe", "pipe", "pipe", "pipe"],
    env: {
      ...process.env,
      TZ: "UTC",
      FORCE_COLOR: "0",
      CERTCTL_WORKERD: workerdPath(),
      CERTCTL_WORKERD_PARENT: String(process.pid),
    },
  });
  const ended = new Promise<void>((resolve) => {
    child.once("error", () => resolve());
    child.once("exit", () => resolve());
  });
  const said: string[] = [];
  let ready = false;
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream as Readable }).on("line", (line) => {
      const message = messageOf(line);
      // Messages meant only for workerd's developers.
      if (/^NOSENTRY|LLVM_SYMBOLIZER/.test(message)) return;
      if (ready) logLine(message);
      else said.push(message);
    });
  }
  child.stdin?.on("error", () => {}).end(plan.config);
  const ports = await Promise.race([listening(child, [plan.socket, plan.scheduleSocket]), ended.then(() => null)]);
  const workerd = ports && child.pid !== undefined ? processId(child.pid) : null;
  if (!ports || !workerd) {
    child.kill("SIGKILL");
    await ended;
    loopback.stop();
    throw new StartError(said.join("\n").trim() || "workerd ended as soon as it had started");
  }
  ready = true;
  for (const message of said) logLine(message);
  let stopping = false;
  return {
    workerd,
    port: ports.get(plan.socket) ?? 0,
    scheduled: (tick) => schedule(ports.get(plan.scheduleSocket) ?? 0, plan.scheduleSecret, tick),
    onDeath: (callback) => void ended.then(() => !stopping && callback()),
    async stop() {
      stopping = true;
      child.kill("SIGKILL");
      await ended;
      loopback.stop();
    },
  };
}

/** The port of each socket, once workerd has reported all of them. */
function listening(child: ChildProcess, sockets: readonly string[]): Promise<Map<string, number>> {
  const ports = new Map<string, number>();
  return new Promise((resolve) => {
    createInterface({ input: child.stdio[3] as Readable }).on("line", (line) => {
      const { event, socket, port } = JSON.parse(line);
      if (event === "listen") ports.set(socket, port);
      if (sockets.every((name) => ports.has(name))) resolve(ports);
    });
  });
}

function messageOf(line: string): string {
  try {
    const { message } = JSON.parse(line);
    return typeof message === "string" ? message : line;
  } catch {
    return line;
  }
}

/** One call to the plan's Worker `schedules`. */
function schedule(port: number, secret: string, { cron, scheduledTime }: Tick): Promise<string> {
  return new Promise((resolve, reject) => {
    const headers = { "x-secret": secret, "x-cron": cron, "x-time": String(scheduledTime.getTime()) };
    const request = http.request({ host: "127.0.0.1", port, method: "POST", headers, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (part: string) => {
        text += part;
      });
      response.on("error", reject);
      response.on("end", () => resolve(response.statusCode === 200 ? text : `status ${response.statusCode}`));
    });
    request.on("error", reject);
    request.end();
  });
}
