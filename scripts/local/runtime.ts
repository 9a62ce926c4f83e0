import { accessSync, chmodSync, constants, mkdirSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { convertV4MiniflareOptions, Log, LogLevel, Miniflare, Response, type V4WorkerOptions } from "miniflare";
import { unstable_readConfig as readConfig, unstable_getMiniflareWorkerOptions as workerOptionsOf } from "wrangler";
import { type IpRange, parseRanges } from "../../src/platform/settings.ts";
import { logLine, note } from "./log.ts";
import { makeOutbound } from "./outbound.ts";
import { isAlive, type ProcessId, poll, processId } from "./process.ts";
import { type Places, PROJECT, StartError } from "./settings.ts";

const require = createRequire(import.meta.url);

const WRAPPER = fileURLToPath(new URL("workerd.sh", import.meta.url));

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** What the local mode reads of wrangler.toml. */
export interface Project {
  readonly vars: Readonly<Record<string, string>>;
  readonly crons: readonly string[];
  /** The bindings as Miniflare wants them; no variables and secrets in it. */
  readonly worker: V4WorkerOptions;
}

/** Reads wrangler.toml alone: of the project's `.dev.vars`, which wrangler would load along with it, nothing is read. */
export function readProject(project = PROJECT): Project {
  const config = readConfig({ config: path.join(project, "wrangler.toml") });
  // A named env file takes the place of .dev.vars; this one is none.
  const options = { overrides: {}, envFiles: [path.join(project, ".build/no-such-env-file")] };
  const { workerOptions } = workerOptionsOf(config, undefined, options);
  const { modulesRules: _rules, rootPath: _root, bindings: _bindings, ...worker } = workerOptions;
  const vars = Object.entries(config.vars).filter((entry): entry is [string, string] => typeof entry[1] === "string");
  return {
    vars: Object.fromEntries(vars),
    crons: config.triggers.crons ?? [],
    worker: { ...worker, name: config.name ?? "certctl-edge" } as V4WorkerOptions,
  };
}

/** A running workerd with the Miniflare that speaks to it. */
export interface Runtime {
  readonly miniflare: Miniflare;
  readonly workerd: ProcessId;
  /** Calls back once when workerd ends without having been told to, or has ended so already. */
  onDeath(callback: () => void): void;
  stop(): Promise<void>;
}

/** A workerd with the state's D1 database only: migrations and checks happen before the Worker itself can be reached. */
export async function startDatabaseOnly(project: Project, places: Places): Promise<Runtime> {
  const { name, compatibilityDate, d1Databases } = project.worker;
  const databaseOnly = {
    name,
    compatibilityDate,
    d1Databases,
    modules: true,
    script: "export default { fetch: () => new Response(null, { status: 404 }) };",
  } as V4WorkerOptions;
  return await startRuntime(places, [databaseOnly]);
}

export interface WorkerStart {
  readonly script: string;
  readonly vars: Readonly<Record<string, string>>;
  readonly listen: readonly { readonly host: string; readonly port: number }[];
  /**
   * The Worker sees the request target as the client sent it. Otherwise workerd makes a URL of Host and target without looking
   * at either, so that a Host may hold a path.
   */
  readonly targetsAsSent?: boolean;
  /** What the binding STORAGE answers: whether the disk is nearly full. */
  readonly isStorageFull?: () => boolean;
}

/** The built Worker on its direct sockets. */
export async function startWorker(project: Project, places: Places, start: WorkerStart): Promise<Runtime> {
  const outbound = makeOutbound({ allow: parseRanges(start.vars.OUTBOUND_ALLOW ?? "") as readonly IpRange[] });
  const { assets, ...worker } = project.worker;
  const { targetsAsSent = false, isStorageFull } = start;
  const serviceBindings = {
    ...worker.serviceBindings,
    ...(assets ? { [assets.binding ?? "ASSETS"]: ASSETS_WORKER } : {}),
    ...(isStorageFull ? { STORAGE: () => new Response(isStorageFull() ? "full" : "ok") } : {}),
  };
  const main = {
    ...worker,
    serviceBindings,
    modules: true,
    rootPath: path.dirname(start.script),
    scriptPath: path.basename(start.script),
    bindings: { ...start.vars, ...(targetsAsSent ? { CERTCTL_TARGETS_AS_SENT: "1" } : {}) },
    unsafeDirectSockets: start.listen.map(({ host, port }) => ({ host, port, proxy: targetsAsSent })),
    outboundService: async (request: Parameters<ReturnType<typeof makeOutbound>>[0]) => {
      const answer = await outbound(request);
      return new Response(answer.body as ConstructorParameters<typeof Response>[0], {
        status: answer.status,
        headers: answer.headers,
      });
    },
  } as V4WorkerOptions;
  return await startRuntime(places, assets ? [main, assetsWorker(assets, worker.compatibilityDate)] : [main]);
}

const ASSETS_WORKER = "assets";

/**
 * The static assets as a Worker of their own. Beside the main Worker they would put a router in front of it, which costs
 * every request, OCSP too, a third of its throughput; our Worker runs first anyway.
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

async function startRuntime(places: Places, workers: readonly V4WorkerOptions[]): Promise<Runtime> {
  const temporary = path.join(places.stateDir, "tmp");
  mkdirSync(temporary, { recursive: true, mode: 0o700 });
  const pidFile = path.join(temporary, `workerd-${crypto.randomUUID()}.pid`);
  Object.assign(process.env, workerdEnvironment());
  const before = SIGNALS.map((signal) => process.listeners(signal));
  const miniflare = new Miniflare(
    convertV4MiniflareOptions({
      workers: [...workers],
      host: "127.0.0.1",
      port: 0,
      resourcePersistencePath: places.persistDir,
      resourceTmpPath: temporary,
      logRequests: false,
      log: new StderrLog(LogLevel.WARN),
      handleStructuredLogs: ({ message }: { message: string }) => {
        // What workerd tells its own makers only.
        if (!message.startsWith("NOSENTRY")) logLine(message);
      },
      cf: false,
      unsafeRuntimeEnv: {
        CERTCTL_WORKERD: workerdPath(),
        CERTCTL_WORKERD_PARENT: String(process.pid),
        CERTCTL_WORKERD_PID_FILE: pidFile,
      },
    } as Parameters<typeof convertV4MiniflareOptions>[0]),
  );
  // Miniflare ends the process on a signal, at once and with an error; who started it decides that.
  SIGNALS.forEach((signal, at) => {
    for (const listener of process.listeners(signal)) {
      if (!before[at]?.includes(listener)) process.removeListener(signal, listener);
    }
  });
  try {
    await miniflare.ready;
    return watched(miniflare, pidFile);
  } catch (error) {
    await miniflare.dispose().catch(() => undefined);
    throw explained(error);
  }
}

/** Miniflare tries to bring a dead workerd back itself; workerd.sh does not let it, and supervise.ts says what happens. */
const OWN_RESTART = /The Workers runtime (?:crashed unexpectedly and is|failed to restart after)/;

/** What Miniflare has to say goes to stderr. */
class StderrLog extends Log {
  protected override log(message: string): void {
    if (!OWN_RESTART.test(message)) logLine(message);
  }
}

/**
 * The environment that makes Miniflare run workerd by workerd.sh, which ties it to the process that starts it, with short
 * collections of the whole heap (a quarter of the memory, no cost in throughput).
 */
export function workerdEnvironment(): Record<"MINIFLARE_WORKERD_PATH" | "MINIFLARE_WORKERD_V8_FLAGS", string> {
  try {
    accessSync(WRAPPER, constants.X_OK);
  } catch {
    chmodSync(WRAPPER, 0o755);
  }
  return {
    MINIFLARE_WORKERD_PATH: WRAPPER,
    MINIFLARE_WORKERD_V8_FLAGS: process.env.MINIFLARE_WORKERD_V8_FLAGS ?? "--gc-global",
  };
}

/** The workerd that Miniflare itself would take. */
export function workerdPath(): string {
  const module: unknown = createRequire(require.resolve("miniflare"))("workerd");
  if (typeof module === "object" && module !== null && "default" in module && typeof module.default === "string")
    return module.default;
  throw new StartError("no workerd for this machine is installed: run `npm ci`");
}

function watched(miniflare: Miniflare, pidFile: string): Runtime {
  const workerd = processId(Number(readFileSync(pidFile, "utf8")));
  if (!workerd) throw new StartError("workerd ended as soon as it had started");
  let stopping = false;
  let dead = false;
  let callback = () => {};
  // The wrapper starts workerd once only, so this is the one to look at.
  const watch = setInterval(() => {
    if (stopping || isAlive(workerd)) return;
    dead = true;
    clearInterval(watch);
    callback();
  }, 200);
  return {
    miniflare,
    workerd,
    onDeath: (call) => {
      callback = call;
      if (dead) queueMicrotask(call);
    },
    async stop() {
      stopping = true;
      clearInterval(watch);
      await miniflare.dispose().catch((error: unknown) => note(`stopping: ${String(error)}`));
      if (!(await poll(() => !isAlive(workerd), 5_000))) process.kill(workerd.pid, "SIGKILL");
      rmSync(pidFile, { force: true });
    },
  };
}

function explained(error: unknown): unknown {
  if (error instanceof Error && "code" in error && error.code === "ERR_ADDRESS_IN_USE")
    return new StartError(error.message);
  return error;
}
