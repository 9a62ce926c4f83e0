import http from "node:http";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { type IpRange, parseRanges } from "../src/platform/settings.ts";
import { type Assets, buildAssets } from "./local/assets.ts";
import { type Build, readBuild } from "./local/built.ts";
import { startSchedules } from "./local/cron.ts";
import { demoWarning } from "./local/demo.ts";
import { runErrand } from "./local/errand.ts";
import { openFront } from "./local/front.ts";
import { chooseSockets, type Listen, urlOf } from "./local/listen.ts";
import { lockState, type StateLock } from "./local/lock.ts";
import { fail, note, sayReady } from "./local/log.ts";
import { makeOutbound } from "./local/outbound.ts";
import { watchParents } from "./local/parents.ts";
import { planKey, readPlan, writePlan } from "./local/plan-file.ts";
import { isMigrated, prepareSecrets } from "./local/prepare.ts";
import { readSecrets } from "./local/secrets.ts";
import { type LocalSettings, localSettings, type Places, PROJECT, placesOf, StartError } from "./local/settings.ts";
import { checkState, readInventory } from "./local/state.ts";
import { relieve, watchStorage } from "./local/storage.ts";
import { type Server, supervise } from "./local/supervise.ts";
import { type Plan, type Runtime, runWorkerd } from "./local/workerd.ts";

/**
 * sysexits.h, the name that init systems use: the runtime crashed or failed to start so often that this process gives
 * up.
 */
const EX_SOFTWARE = 70;

/** How long the ready line waits for the first tick. */
const FIRST_TICK_MS = 15_000;

/**
 * `npm start`: runs the built Worker in workerd on this machine. One ready line on stdout; everything else on stderr.
 */
async function start(): Promise<void> {
  // Files written by this process and its children are readable only by their owner.
  process.umask(0o077);
  // Other code writes there too, such as Node's own warnings: a full disk or a closed pipe must not end the process.
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

  const assets = buildAssets();
  const build = ownBuild();
  const { project } = build;
  // Before anything is written, so that a first run that cannot listen leaves nothing behind.
  const early = localSettings(project.vars, readSecrets(places.secretsFile), process.env);
  const sockets = await chooseSockets(early);
  const storage = watchStorage({ stateDir: places.stateDir, reserve: early.storageReserve, spent, note });
  const url = urlOf(sockets);
  const settings = prepareSecrets(project.vars, places, process.env);
  const vars = workerVars(settings, build, sockets);
  const plan = planner({ places, assets, build, settings, vars, lock });
  const outbound = makeOutbound({ allow: parseRanges(vars.OUTBOUND_ALLOW ?? "") as readonly IpRange[] });

  const supervisor = await supervise({
    async start() {
      // Another program may have taken the port while workerd was down.
      await chooseSockets({ hosts: early.hosts, port: sockets[0]?.port ?? 0 });
      const runtime = await runWorkerd(await plan(), { outbound, isStorageFull: storage.isFull });
      lock.update({ url, workerd: runtime.workerd });
      return withSchedules(await withFront(runtime, sockets), project.crons);
    },
    note,
    giveUp: (reason) => ending.end(reason, EX_SOFTWARE),
  });
  ending.stop = () => {
    storage.stop();
    return supervisor.stop();
  };
  const warning = demoWarning(settings.auth, Date.now());
  if (warning !== null) note(warning);
  const next = await nextStep(url, places);
  collectGarbage();
  sayReady(`certctl-edge ready on ${url} - ${next}`);
}

/** The only way out: the first reason ends the process in order, later ones change nothing. */
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

/** The build that this file belongs to; `scripts/run.mjs` builds it if it is missing. */
function ownBuild(): Build {
  const build = readBuild(path.dirname(fileURLToPath(import.meta.url)));
  if (!build) throw new StartError("this start has no build: run `npm start`");
  return build;
}

/** The inputs of a plan, and the lock that records which processes work on the state. */
interface Planned {
  readonly places: Places;
  readonly assets: Assets;
  readonly build: Build;
  readonly settings: LocalSettings;
  readonly vars: Readonly<Record<string, string>>;
  readonly lock: StateLock;
}

/**
 * Returns the stored plan if it still applies and the database is migrated, otherwise a new one. The plan is read for
 * each start of workerd, because keeping it in memory would take 4 MB.
 */
function planner({ places, assets, build, settings, vars, lock }: Planned): () => Promise<Plan> {
  const file = path.join(places.stateDir, "plan");
  const start = { script: build.script, vars, targetsAsSent: true, storage: true };
  const flags = process.env.MINIFLARE_WORKERD_V8_FLAGS ?? null;
  const key = planKey([build, assets.digest, places, start, flags]);
  return async () => {
    const migrated = await isMigrated(readInventory(places), settings, places, path.join(PROJECT, "migrations"));
    const written = migrated ? readPlan(file, key) : null;
    if (written) return written;
    const work = { project: build.project, places, settings, isMigrated: migrated, start };
    const plan = await runErrand(work, (workerd) => lock.update({ workerd }));
    writePlan(file, key, plan, note);
    return plan;
  };
}

function workerVars(settings: LocalSettings, build: Build, sockets: readonly Listen[]): Record<string, string> {
  const port = String(sockets[0]?.port);
  return {
    CERTCTL_COMMIT: build.commit,
    CERTCTL_BUILD_TIME: build.builtAt,
    ...settings.vars,
    PORT: port,
    CERTCTL_PUBLIC_URL: settings.publicUrl ?? `http://localhost:${port}`,
  };
}

/** The runtime together with its front, which closes when the runtime ends. */
async function withFront(runtime: Runtime, sockets: readonly Listen[]): Promise<Runtime> {
  const front = await openFront(sockets, { host: "127.0.0.1", port: runtime.port }).catch(async (error: unknown) => {
    await runtime.stop();
    throw error;
  });
  const stop = async () => {
    await front.close();
    await runtime.stop();
  };
  return { ...runtime, stop };
}

/** The runtime together with the schedules of wrangler.toml, which stop with it. */
async function withSchedules(runtime: Runtime, crons: readonly string[]): Promise<Server> {
  let ended = false;
  const schedules = startSchedules(
    crons,
    async ({ cron, scheduledTime }) => {
      const outcome = await runtime.scheduled({ cron, scheduledTime });
      if (outcome !== "ok") throw new Error(`outcome ${outcome}`);
    },
    ({ cron }, error) => {
      if (!ended) note(`schedule ${cron}: ${error instanceof Error ? error.message : String(error)}`);
    },
  );
  // The first tick detects a database that was restored to an earlier state, so it runs before the ready line.
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

/**
 * Releases the memory that the start allocated: this process is so idle afterwards that V8 would not do it for hours.
 */
function collectGarbage(): void {
  setFlagsFromString("--expose-gc");
  const collect: unknown = runInNewContext("gc");
  if (typeof collect === "function") collect({ type: "major", flavor: "last-resort" });
  // `scripts/run.mjs` turned these off for the start.
  for (const flag of ["--opt", "--maglev", "--sparkplug"]) setFlagsFromString(flag);
}

/**
 * The next step to print: create the first admin key while there is none. The line does not contain the token itself.
 */
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

function bootstrapOpen(url: string): Promise<boolean> {
  return new Promise((resolve) => {
    const signal = AbortSignal.timeout(5_000);
    const request = http.get(`${url}/api/v1/auth/bootstrap`, { agent: false, signal }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (part: string) => {
        text += part;
      });
      response.on("error", () => resolve(false));
      response.on("end", () => resolve(/"available":\s*true/.test(text)));
    });
    request.on("error", () => resolve(false));
  });
}

start().catch(fail);
