import childProcess from "node:child_process";
import { randomBytes } from "node:crypto";
import { EventEmitter } from "node:events";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { PassThrough } from "node:stream";
import { convertV4MiniflareOptions, Log, LogLevel, Miniflare, Response, type V4WorkerOptions } from "miniflare";
import { logLine, note } from "./log.ts";
import { isAlive, type ProcessId, poll, processId } from "./process.ts";
import type { Project } from "./project.ts";
import { type Places, StartError } from "./settings.ts";
import { type Plan, workerdPath, workerdWrapper } from "./workerd.ts";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** A running workerd and the Miniflare that controls it. */
interface Simulator {
  readonly miniflare: Miniflare;
  stop(): Promise<void>;
}

/** A workerd with only the state's D1 database: migrations and checks run before the Worker itself is reachable. */
export async function startDatabaseOnly(project: Project, places: Places): Promise<Simulator> {
  const { name, compatibilityDate, d1Databases } = project.worker;
  const databaseOnly = {
    name,
    compatibilityDate,
    d1Databases,
    modules: true,
    script: "export default { fetch: () => new Response(null, { status: 404 }) };",
  } as V4WorkerOptions;
  return await startSimulator(places, [databaseOnly]);
}

const ANY_PORT = { host: "127.0.0.1", port: 0 };

/** Parameters of the Worker's start. */
export interface WorkerStart {
  readonly script: string;
  readonly vars: Readonly<Record<string, string>>;
  /**
   * The Worker sees the request target as the client sent it. Otherwise workerd builds a URL from Host and target
   * without checking either, so a Host could contain a path.
   */
  readonly targetsAsSent: boolean;
  /** Whether to add the binding STORAGE. */
  readonly storage: boolean;
}

/** Miniflare's configuration of the built Worker, for `runWorkerd`. Starts nothing. */
export async function planWorker(project: Project, places: Places, start: WorkerStart): Promise<Plan> {
  const { assets, ...worker } = project.worker;
  const { targetsAsSent, storage } = start;
  // Placeholder: at run time `runWorkerd` answers calls to such a function.
  const elsewhere = () => new Response(null, { status: 404 });
  const serviceBindings = {
    ...worker.serviceBindings,
    ...(assets ? { [assets.binding ?? "ASSETS"]: ASSETS_WORKER } : {}),
    ...(storage ? { STORAGE: elsewhere } : {}),
  };
  const main = {
    ...worker,
    serviceBindings,
    modules: true,
    rootPath: path.dirname(start.script),
    scriptPath: path.basename(start.script),
    bindings: { ...start.vars, ...(targetsAsSent ? { CERTCTL_TARGETS_AS_SENT: "1" } : {}) },
    unsafeDirectSockets: [{ ...ANY_PORT, proxy: targetsAsSent }],
    outboundService: elsewhere,
  } as V4WorkerOptions;
  const scheduleSecret = randomBytes(32).toString("hex");
  const workers = [
    main,
    ...(assets ? [assetsWorker(assets, worker.compatibilityDate)] : []),
    scheduleWorker(worker.name ?? "", scheduleSecret, worker.compatibilityDate),
  ];
  const config = await captureConfig(places, workers);
  return {
    config,
    socket: socketName(0),
    scheduleSocket: socketName(workers.length - 1),
    scheduleSecret,
    loopbackSecret: loopbackSecretIn(config),
    directories: directoriesIn(config, places),
  };
}

/** Miniflare's name for the direct socket of worker number `at`. */
function socketName(at: number): string {
  return `direct:${at}:default`;
}

/** A Worker that runs the main Worker's scheduled handler for callers with the secret. */
function scheduleWorker(main: string, secret: string, compatibilityDate: string | undefined): V4WorkerOptions {
  return {
    name: "schedules",
    ...(compatibilityDate === undefined ? {} : { compatibilityDate }),
    compatibilityFlags: ["service_binding_extra_handlers"],
    modules: true,
    script: `export default {
      async fetch(request, { MAIN, SECRET }) {
        if (request.headers.get("x-secret") !== SECRET) return new Response(null, { status: 403 });
        const cron = request.headers.get("x-cron");
        const scheduledTime = new Date(Number(request.headers.get("x-time")));
        const { outcome } = await MAIN.scheduled({ cron, scheduledTime });
        return new Response(outcome);
      },
    };`,
    bindings: { SECRET: secret },
    serviceBindings: { MAIN: main },
    unsafeDirectSockets: [ANY_PORT],
  } as V4WorkerOptions;
}

const ASSETS_WORKER = "assets";

/**
 * Serves the static assets from a separate Worker. As assets of the main Worker they would add a router in front of it
 * that costs every request, OCSP included, a third of its throughput; our Worker runs first anyway.
 */
function assetsWorker(
  assets: NonNullable<V4WorkerOptions["assets"]>,
  compatibilityDate: string | undefined,
): V4WorkerOptions {
  const routerConfig = { has_user_worker: false, invoke_user_worker_ahead_of_assets: false };
  const { binding: _binding, run_worker_first: _first, ...rest } = assets;
  return {
    name: ASSETS_WORKER,
    ...(compatibilityDate === undefined ? {} : { compatibilityDate }),
    modules: true,
    script: "export default { fetch: () => new Response(null, { status: 404 }) };",
    assets: { ...rest, routerConfig },
  } as V4WorkerOptions;
}

async function startSimulator(places: Places, workers: readonly V4WorkerOptions[]): Promise<Simulator> {
  const pidFile = path.join(temporaryOf(places), `workerd-${crypto.randomUUID()}.pid`);
  Object.assign(process.env, workerdEnvironment());
  const miniflare = makeMiniflare(places, workers, {
    CERTCTL_WORKERD: workerdPath(),
    CERTCTL_WORKERD_PARENT: String(process.pid),
    CERTCTL_WORKERD_PID_FILE: pidFile,
  });
  try {
    await miniflare.ready;
    return watched(miniflare, pidFile);
  } catch (error) {
    await miniflare.dispose().catch(() => undefined);
    throw error;
  }
}

function makeMiniflare(
  places: Places,
  workers: readonly V4WorkerOptions[],
  runtimeEnv: Readonly<Record<string, string>>,
): Miniflare {
  const before = SIGNALS.map((signal) => process.listeners(signal));
  const miniflare = new Miniflare(
    convertV4MiniflareOptions({
      workers: [...workers],
      host: "127.0.0.1",
      port: 0,
      resourcePersistencePath: places.persistDir,
      resourceTmpPath: temporaryOf(places),
      logRequests: false,
      log: new StderrLog(LogLevel.WARN),
      handleStructuredLogs: ({ message }: { message: string }) => {
        // Messages meant only for workerd's developers.
        if (!message.startsWith("NOSENTRY")) logLine(message);
      },
      cf: false,
      unsafeRuntimeEnv: runtimeEnv,
    } as Parameters<typeof convertV4MiniflareOptions>[0]),
  );
  // Miniflare's signal handlers end the process at once with an error; our own handlers decide how to stop.
  SIGNALS.forEach((signal, at) => {
    for (const listener of process.listeners(signal)) {
      if (!before[at]?.includes(listener)) process.removeListener(signal, listener);
    }
  });
  return miniflare;
}

function temporaryOf({ stateDir }: Places): string {
  const temporary = path.join(stateDir, "tmp");
  mkdirSync(temporary, { recursive: true, mode: 0o700 });
  return temporary;
}

/**
 * Captures what Miniflare would write to workerd's standard input: a stand-in process receives it instead of workerd,
 * and ends.
 */
async function captureConfig(places: Places, workers: readonly V4WorkerOptions[]): Promise<Buffer> {
  Object.assign(process.env, workerdEnvironment());
  const { spawn } = childProcess;
  const { TMPDIR } = process.env;
  const chunks: Buffer[] = [];
  Object.assign(childProcess, { spawn: () => standIn(chunks) });
  process.env.TMPDIR = temporaryOf(places);
  try {
    const miniflare = makeMiniflare(places, workers, {});
    const failure = await miniflare.ready.then(
      () => null,
      (error: unknown) => error,
    );
    await miniflare.dispose().catch(() => undefined);
    if (chunks.length === 0) throw failure ?? new StartError("Miniflare made no configuration");
    return Buffer.concat(chunks);
  } finally {
    Object.assign(childProcess, { spawn });
    if (TMPDIR === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = TMPDIR;
  }
}

function standIn(chunks: Buffer[]): EventEmitter {
  const stdin = new PassThrough();
  const [stdout, stderr, control] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const child = new EventEmitter();
  stdin.on("data", (chunk: Buffer) => chunks.push(chunk));
  stdin.on("end", () => {
    for (const stream of [stdout, stderr, control]) stream.end();
    child.emit("exit", 0);
  });
  return Object.assign(child, { stdin, stdout, stderr, stdio: [stdin, stdout, stderr, control], kill: () => true });
}

/** Texts in a Cap'n Proto message end with a NUL and are padded with more of them. */
function loopbackSecretIn(config: Buffer): string {
  const secret = /MF-Loopback-Secret\0+([0-9a-f]{64})\0/.exec(config.toString("latin1"))?.[1];
  if (secret === undefined) throw new StartError("Miniflare's configuration names no secret of its loopback server");
  return secret;
}

function directoriesIn(config: Buffer, places: Places): string[] {
  const text = config.toString("latin1");
  const roots = [places.persistDir, path.join(places.stateDir, "tmp")].map((root) => escaped(`${root}/`));
  // A text starts at an eight-byte boundary.
  const found = [...text.matchAll(new RegExp(`(?:${roots.join("|")})[^\\0]+`, "g"))]
    .filter(({ index }) => index % 8 === 0)
    .map(([directory]) => Buffer.from(directory, "latin1").toString());
  return [...new Set(found)];
}

/** A path as it appears in a message read as Latin-1, escaped for a regular expression. */
function escaped(text: string): string {
  return Buffer.from(text)
    .toString("latin1")
    .replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

/** Miniflare tries to restart a dead workerd itself; workerd.sh prevents that. */
const OWN_RESTART = /The Workers runtime (?:crashed unexpectedly and is|failed to restart after)/;

/** Sends Miniflare's messages to stderr. */
class StderrLog extends Log {
  protected override log(message: string): void {
    if (!OWN_RESTART.test(message)) logLine(message);
  }
}

/**
 * The environment that makes Miniflare run workerd through workerd.sh, which ties workerd to the process that starts
 * it.
 */
export function workerdEnvironment(): Record<"MINIFLARE_WORKERD_PATH", string> {
  return { MINIFLARE_WORKERD_PATH: workerdWrapper() };
}

function watched(miniflare: Miniflare, pidFile: string): Simulator {
  const workerd: ProcessId | null = processId(Number(readFileSync(pidFile, "utf8")));
  if (!workerd) throw new StartError("workerd ended as soon as it had started");
  return {
    miniflare,
    async stop() {
      await miniflare.dispose().catch((error: unknown) => note(`stopping: ${String(error)}`));
      if (!(await poll(() => !isAlive(workerd), 5_000))) process.kill(workerd.pid, "SIGKILL");
      rmSync(pidFile, { force: true });
    },
  };
}
