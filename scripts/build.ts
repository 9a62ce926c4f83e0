import { buildAssets } from "./local/assets.ts";
import { buildWorker } from "./local/build.ts";
import { fail, note } from "./local/log.ts";

/** `npm run build [-- --assets-only]`: the static assets and the Worker's bundle. */
try {
  note(`assets in ${buildAssets().directory}`);
  if (!process.argv.includes("--assets-only")) note(`Worker in ${(await buildWorker()).script}`);
} catch (error) {
  fail(error);
}
