import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { buildAssets } from "./local/assets.ts";
import { prepareDatabase } from "./local/database.ts";
import { demoWarning } from "./local/demo.ts";
import { chooseSockets, urlOf } from "./local/listen.ts";
import { lockState } from "./local/lock.ts";
import { fail, note } from "./local/log.ts";
import { watchParents } from "./local/parents.ts";
import { prepareSecrets } from "./local/prepare.ts";
import { processId } from "./local/process.ts";
import { readProject } from "./local/project.ts";
import { workerdEnvironment } from "./local/runtime.ts";
import { PROJECT, placesOf, StartError } from "./local/settings.ts";
import { checkState } from "./local/state.ts";
import { workerdPath } from "./local/workerd.ts";
import { wranglerScript } from "./local/wrangler.ts";

/**
 * `npm run dev`: `wrangler dev` with reload, on the same state, secrets and lock as `npm start`. Unlike `npm start`, it
 * does not check outgoing requests at connect time, and schedules fire only on request at /cdn-cgi/handler/scheduled.
 */
async function dev(): Promise<void> {
  process.umask(0o077);
  const places = placesOf(process.env);
  const lock = await lockState(places.stateDir, "run dev");
  checkState(places);
  buildAssets();
  const project = readProject();
  const settings = prepareSecrets(project.vars, places, process.env);
  await prepareDatabase(project, places, settings);
  const warning = demoWarning(settings.auth, Date.now());
  if (warning !== null) note(warning);
  const sockets = await chooseSockets(settings);
  const { host = "127.0.0.1", port = settings.port } = sockets[0] ?? {};
  const vars = {
    ...settings.vars,
    PORT: String(port),
    CERTCTL_PUBLIC_URL: settings.publicUrl ?? `http://localhost:${port}`,
  };
  const envFile = path.join(places.stateDir, "tmp/dev.vars");
  writeFileSync(envFile, Object.entries(vars).map(envLine).join(""), { mode: 0o600 });
  const args = ["dev", "--ip", host, "--port", String(port), "--persist-to", places.stateDir, "--env-file", envFile];
  const exitWithParent = fileURLToPath(new URL("local/exit-with-parent.mjs", import.meta.url));
  const child = spawn(
    process.execPath,
    ["--import", exitWithParent, wranglerScript(), ...args, ...process.argv.slice(2)],
    {
      cwd: PROJECT,
      stdio: "inherit",
      env: { ...process.env, ...workerdEnvironment(), CERTCTL_WORKERD: workerdPath(), WRANGLER_SEND_METRICS: "false" },
    },
  );
  lock.update({ url: urlOf(sockets), workerd: child.pid === undefined ? null : processId(child.pid) });
  watchParents(process.env, "dev", () => child.kill("SIGTERM"));
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => child.kill(signal));
  child.on("error", fail);
  child.on("exit", (code, signal) => {
    note(`wrangler dev ended (${signal ?? code})`);
    lock.release();
    process.exit(code ?? 0);
  });
}

/** A line of an env file that wrangler reads literally: quoted, without expansion. */
function envLine([name, value]: [string, string]): string {
  if (/['\r\n]/.test(value)) throw new StartError(`${name}: \`npm run dev\` takes no quote or line break in a setting`);
  return `${name}='${value.replaceAll("$", "\\$")}'\n`;
}

dev().catch(fail);
