import { type Build, buildAssets, buildWorker } from "./local/build.ts";
import { startSchedules } from "./local/cron.ts";
import { demoWarning } from "./local/demo.ts";
import { openFront } from "./local/front.ts";
import { chooseSockets, type Listen, urlOf } from "./local/listen.ts";
import { lockState } from "./local/lock.ts";
import { fail, note, sayReady } from "./local/log.ts";
import { watchParents } from "./local/parents.ts";
import { type Prepared, prepareState } from "./local/prepare.ts";
import { type Runtime, readProject, startWorker } from "./local/runtime.ts";
import { readSecrets } from "./local/secrets.ts";
import { localSettings, type Places, placesOf } from "./local/settings.ts";
import { checkState } from "./local/state.ts";
import { relieve, watchStorage } from "./local/storage.ts";
import { type Server, supervise } from "./local/supervise.ts";

/** sysexits.h, as init systems name it: the runtime died or did not start so often that this process does not try again. */
const EX_SOFTWARE = 70;

/** Where workerd itself listens: behind the front, on any free port. */
const INSIDE = { hosts: [{ address: "127.0.0.1", optional: false }], port: 0 };

/** So long the ready line waits for the first tick. */
const FIRST_TICK_MS = 15_000;

/** `npm start`: the built Worker in workerd on this machine. One ready line on stdout; everything else on stderr. */
async function start(): Promise<void> {
  // Of this process and all that it starts: what they write is their owner's alone.
  process.umask(0o077);
  // Whatever else writes there (Node's own warnings): a full disk or a closed pipe ends nothing.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
  const places = placesOf(process.env);
  const ending = makeEnding();
  const lock = await lockState(places.stateDir, "start");
  ending.last = () => lock.release();
  const parents = watchParents(process.env, "start", (pid) =>
    ending.end(`process ${pid}, which ran this, has ended`, 1),
  );
  ending.first = () => parents.stop();
  const spent = relieve(places.stateDir);
  checkState(places);

  buildAssets();
  const build = await buildWorker();
  const project = readProject();
  // Before anything is written, so that a first run that cannot listen leaves nothing behind.
  const early = localSettings(project.vars, readSecrets(places.secretsFile), process.env);
  const sockets = await chooseSockets(early);
  const storage = watchStorage({ stateDir: places.stateDir, reserve: early.storageReserve, spent, note });
  const url = urlOf(sockets);
  const prepared = await prepareState(project, process.env);

  const vars = workerVars(prepared, build, sockets);
  const supervisor = await supervise({
    async start() {
      const { isFull: isStorageFull } = storage;
      // Another program may have taken the port while nothing ran.
      await chooseSockets({ hosts: early.hosts, port: sockets[0]?.port ?? 0 });
      const inside = await chooseSockets(INSIDE);
      const served = { script: build.script, vars, listen: inside, targetsAsSent: true, isStorageFull };
      const runtime = await startWorker(project, places, served);
      lock.update({ url, workerd: runtime.workerd });
      return withSchedules(await withFront(runtime, sockets, inside), project.crons);
    },
    note,
    giveUp: (reason) => ending.end(reason, EX_SOFTWARE),
  });
  ending.stop = () => {
    storage.stop();
    return supervisor.stop();
  };
  const warning = demoWarning(prepared.settings.auth, Date.now());
  if (warning !== null) note(warning);
  sayReady(`certctl-edge ready on ${url} - ${await nextStep(url, places)}`);
}

/** The one way out: whatever comes first ends the process, in order, and what comes after changes nothing. */
function makeEnding() {
  const ending = {
    begun: false,
    first: () => {},
    stop: async () => {},
    last: () => {},
    async end(reason: string, code: number): Promise<void> {
      if (ending.begun) return;
      ending.begun = true;
      note(`${reason}; stopping`);
      setTimeout(() => process.exit(1), 20_000).unref();
      ending.first();
      await ending.stop();
      ending.last();
      process.exit(code);
    },
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => void ending.end(signal, 0));
  return ending;
}

function workerVars({ settings }: Prepared, build: Build, sockets: readonly Listen[]): Record<string, string> {
  const port = String(sockets[0]?.port);
  return {
    CERTCTL_COMMIT: build.commit,
    CERTCTL_BUILD_TIME: build.builtAt,
    ...settings.vars,
    PORT: port,
    CERTCTL_PUBLIC_URL: settings.publicUrl ?? `http://localhost:${port}`,
  };
}

/** The runtime with the front that makes it reachable, and which is open no longer than it lives. */
async function withFront(runtime: Runtime, sockets: readonly Listen[], inside: readonly Listen[]): Promise<Runtime> {
  const front = await openFront(sockets, inside[0] ?? { host: "127.0.0.1", port: 0 }).catch(async (error: unknown) => {
    await runtime.stop();
    throw error;
  });
  const stop = async () => {
    await front.close();
    await runtime.stop();
  };
  return { ...runtime, stop };
}

/** The runtime with the schedules of wrangler.toml, which stop with it. */
async function withSchedules(runtime: Runtime, crons: readonly string[]): Promise<Server> {
  let ended = false;
  const schedules = startSchedules(
    crons,
    async ({ cron, scheduledTime }) => {
      const worker = await runtime.miniflare.getWorker();
      const { outcome } = await worker.scheduled({ cron, scheduledTime });
      if (outcome !== "ok") throw new Error(`outcome ${outcome}`);
    },
    ({ cron }, error) => {
      if (!ended) note(`schedule ${cron}: ${error instanceof Error ? error.message : String(error)}`);
    },
  );
  // The first tick notices a database that was restored to an earlier state: before anybody is told that all is ready.
  await Promise.race([schedules.begun, new Promise((resolve) => setTimeout(resolve, FIRST_TICK_MS).unref())]);
  return {
    onDeath: (callback) => runtime.onDeath(callback),
    async stop() {
      ended = true;
      await Promise.race([schedules.stop(), new Promise((resolve) => setTimeout(resolve, 5_000))]);
      await runtime.stop();
    },
  };
}

/** What to do next: make the first admin key as long as there is none, without the token in the line. */
async function nextStep(url: string, places: Places): Promise<string> {
  if (!(await bootstrapOpen(url))) return `next: curl -s ${url}/health`;
  const token = `$(sed -n 's/^CERTCTL_BOOTSTRAP_TOKEN=//p' ${shellWord(places.secretsFile)})`;
  const body = `{\\"token\\":\\"${token}\\",\\"actor_name\\":\\"admin\\"}`;
  const bootstrap = `curl -s ${url}/api/v1/auth/bootstrap -H 'Content-Type: application/json' -d "${body}"`;
  return `next, make the admin's API key: ${bootstrap}`;
}

function shellWord(text: string): string {
  return /^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

async function bootstrapOpen(url: string): Promise<boolean> {
  try {
    const response = await fetch(`${url}/api/v1/auth/bootstrap`, { signal: AbortSignal.timeout(5_000) });
    const body: unknown = await response.json();
    return response.ok && typeof body === "object" && body !== null && "available" in body && body.available === true;
  } catch {
    return false;
  }
}

start().catch(fail);
