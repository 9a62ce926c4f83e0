import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { isAlive, type ProcessId, poll } from "../../scripts/local/process.ts";
import { readSecrets } from "../../scripts/local/secrets.ts";
import { PROJECT } from "../../scripts/local/settings.ts";

export interface ServerOptions {
  /** A state to go on with, kept when the server stops; by default a new one, removed when it stops. */
  readonly stateDir?: string;
  /** 0, the default: any free port. */
  readonly port?: number;
  /** Settings over those of the defaults, as environment variables. */
  readonly vars?: Readonly<Record<string, string>>;
  /** Milliseconds until the ready line has to be there. */
  readonly startMs?: number;
}

/** `npm start` as a child process: the real thing, with its own state and port. */
export interface RunningServer {
  /** As the ready line has it: `http://localhost:PORT`. */
  readonly url: string;
  readonly port: number;
  readonly stateDir: string;
  readonly bootstrapToken: string;
  /** The Node process that holds everything. */
  readonly pid: number;
  /** The workerd that runs now: another one each time that it was brought back. */
  readonly workerdPid: number;
  readonly readyLine: string;
  /** Everything written to stdout until now: the ready line and nothing else. */
  output(): string;
  /** Everything written to stderr until now. */
  log(): string;
  /** kill -9 of the Node process alone; resolves when workerd has ended too. The state stays. */
  killParent(): Promise<void>;
  /** kill -9 of workerd alone; resolves when another one, started by the Node process, answers. The state stays. */
  killWorkerd(): Promise<void>;
  /** The exit code of the Node process, once it has ended. */
  readonly exited: Promise<number | null>;
  /** Ends it in order and removes the state if startServer made it. Harmless when it has ended already. */
  stop(): Promise<void>;
}

/** What a start that did not become ready said and how it ended. */
export class ServerStartError extends Error {
  readonly code = "server_start_failed";
}

/** Starts a server and waits for its ready line. Throws ServerStartError with its stderr when it ends or hangs before. */
export async function startServer(options: ServerOptions = {}): Promise<RunningServer> {
  const stateDir = options.stateDir ?? mkdtempSync(path.join(tmpdir(), "certctl-edge-"));
  const removeState = () => {
    if (options.stateDir === undefined) rmSync(stateDir, { recursive: true, force: true, maxRetries: 5 });
  };
  const child = spawn(process.execPath, ["scripts/run.mjs", "start"], {
    cwd: PROJECT,
    stdio: ["ignore", "pipe", "pipe"],
    env: environment({ STATE_DIR: stateDir, PORT: String(options.port ?? 0), EXIT_WITH_PARENT: "1", ...options.vars }),
  });
  let errors = "";
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    errors += text;
  });
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  try {
    const readyLine = await firstLine(child, options.startMs ?? 120_000);
    const url = /ready on (\S+)/.exec(readyLine)?.[1];
    if (!url) throw new Error(`unexpected first line: ${readyLine}`);
    const { process: parent } = holderOf(stateDir);
    const answers = () =>
      fetch(`${url}/health`).then(
        ({ ok }) => ok,
        () => false,
      );
    return {
      url,
      port: Number(new URL(url).port),
      stateDir,
      bootstrapToken: readSecrets(path.join(stateDir, ".dev.vars")).CERTCTL_BOOTSTRAP_TOKEN ?? "",
      pid: parent.pid,
      get workerdPid() {
        return holderOf(stateDir).workerd.pid;
      },
      readyLine,
      output: () => output,
      log: () => errors,
      async killParent() {
        const { workerd } = holderOf(stateDir);
        child.kill("SIGKILL");
        await ended;
        if (!(await poll(() => !isAlive(workerd), 20_000))) throw new Error("workerd outlives its parent");
      },
      async killWorkerd() {
        const { workerd } = holderOf(stateDir);
        process.kill(workerd.pid, "SIGKILL");
        if (!(await poll(() => holderOf(stateDir).workerd.pid !== workerd.pid && answers(), 60_000)))
          throw new Error(`workerd does not come back\n${errors}`);
      },
      exited: ended.then(() => child.exitCode),
      async stop() {
        child.kill("SIGTERM");
        await ended;
        removeState();
      },
    };
  } catch (error) {
    child.kill("SIGKILL");
    await ended;
    removeState();
    throw new ServerStartError(`${error instanceof Error ? error.message : String(error)}\n${errors}`, {
      cause: error,
    });
  }
}

/** The environment without the settings of whoever runs the tests. */
export function environment(vars: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
  const own = /^(?:CERTCTL_|npm_lifecycle_event$|PORT$|HOST$|STATE_DIR$|TRUSTED_PROXY_SECRET$|OUTBOUND_ALLOW$)/;
  const inherited = Object.entries(process.env).filter(([name]) => !own.test(name));
  return { ...Object.fromEntries(inherited), ...vars };
}

function firstLine(child: ChildProcess, withinMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`not ready after ${withinMs} ms`)), withinMs);
    let text = "";
    child.stdout?.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
      if (!text.includes("\n")) return;
      clearTimeout(timer);
      resolve(text.slice(0, text.indexOf("\n")));
    });
    child.once("error", reject);
    child.once("close", (code, signal) => {
      clearTimeout(timer);
      reject(new Error(`ended with ${signal ?? code} before it was ready`));
    });
  });
}

function holderOf(stateDir: string): { process: ProcessId; workerd: ProcessId } {
  return JSON.parse(readFileSync(path.join(stateDir, "lock.json"), "utf8"));
}
