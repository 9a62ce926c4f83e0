import { spawn } from "node:child_process";
import { buildAssets } from "./local/build.ts";
import { chooseSockets, urlOf } from "./local/listen.ts";
import { lockState } from "./local/lock.ts";
import { fail, note } from "./local/log.ts";
import { watchParents } from "./local/parents.ts";
import { prepareState } from "./local/prepare.ts";
import { processId } from "./local/process.ts";
import { readProject, workerdEnvironment } from "./local/runtime.ts";
import { PROJECT, placesOf } from "./local/settings.ts";
import { wranglerScript } from "./local/wrangler.ts";

/**
 * `npm run dev`: `wrangler dev` with reload, on the same state, secrets and lock as `npm start`. Its requests out of the
 * Worker are not held at connect time (that is `npm start`'s), and schedules fire only when asked for at
 * /cdn-cgi/handler/scheduled.
 */
async function dev(): Promise<void> {
  const places = placesOf(process.env);
  const lock = await lockState(places.stateDir, "run dev");
  buildAssets();
  const { settings } = await prepareState(readProject(), process.env);
  const sockets = await chooseSockets(settings);
  const { host = "127.0.0.1", port = settings.port } = sockets[0] ?? {};
  const vars = { ...settings.vars, PORT: String(port), CERTCTL_PUBLIC_URL: settings.publicUrl ?? `http://localhost:${port}` };
  const args = ["dev", "--ip", host, "--port", String(port), "--persist-to", places.stateDir, "--env-file", places.secretsFile];
  for (const [name, value] of Object.entries(vars)) args.push("--var", `${name}:${value}`);

  const child = spawn(process.execPath, [wranglerScript(), ...args, ...process.argv.slice(2)], {
    cwd: PROJECT,
    stdio: "inherit",
    env: { ...process.env, ...workerdEnvironment(), WRANGLER_SEND_METRICS: "false" },
  });
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

dev().catch(fail);
