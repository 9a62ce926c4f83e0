import { spawn } from "node:child_process";
import { buildAssets } from "./local/assets.ts";
import { buildWorker } from "./local/build.ts";
import { fail, note } from "./local/log.ts";
import { PROJECT, StartError } from "./local/settings.ts";
import { wranglerScript } from "./local/wrangler.ts";

/**
 * `npm run deploy [-- --dry-run]`: deploys to Cloudflare. Builds assets and bundle, migrates the remote database, then
 * deploys the Worker, so that no code runs before its tables exist. `--dry-run` runs only the steps that need no
 * account.
 */
async function deploy(dryRun: boolean): Promise<void> {
  note(`assets in ${buildAssets().directory}`);
  const build = await buildWorker();
  note(`the Worker builds: ${build.script}`);
  if (dryRun) return;
  await wrangler("d1", "migrations", "apply", "DB", "--remote");
  await wrangler("deploy", "--var", `CERTCTL_COMMIT:${build.commit}`, "--var", `CERTCTL_BUILD_TIME:${build.builtAt}`);
}

function wrangler(...args: string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [wranglerScript(), ...args], { cwd: PROJECT, stdio: "inherit" });
    child.on("error", reject);
    child.on("exit", (code, signal) => {
      if (code === 0) resolve();
      else reject(new StartError(`\`wrangler ${args.slice(0, 3).join(" ")}\` ended with ${signal ?? code}`));
    });
  });
}

deploy(process.argv.includes("--dry-run")).catch(fail);
