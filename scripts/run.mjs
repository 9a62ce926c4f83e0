// Plain JavaScript on purpose: an older Node cannot parse the TypeScript beside it, and should print a readable error.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { setFlagsFromString } from "node:v8";
import { buildHome } from "./local/sources.mjs";

const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
const command = process.argv[2] ?? "";
const script = new URL(`./${command}.ts`, import.meta.url);
const at = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url));

function fail(message) {
  process.stderr.write(`certctl-edge: ${message}\n`);
  process.exit(1);
}

if (!/^[a-z]+$/.test(command) || !existsSync(script))
  fail("usage: node scripts/run.mjs start|dev|build|deploy|openapi");
if (!existsSync(at("node_modules/wrangler/package.json")))
  fail("the dependencies are not installed: run `npm ci` first");
if (major < 22 || (major === 22 && minor < 18)) {
  fail(
    `needs Node.js 22.18 or newer, and this is ${process.version}; \`npm run ${command}\` uses the one that npm ci installed`,
  );
}
// Node's experimental warnings about node:sqlite and type stripping are of no use to the operator.
const warn = process.emitWarning;
process.emitWarning = (warning, ...rest) => {
  if (rest[0] !== "ExperimentalWarning" && rest[0]?.type !== "ExperimentalWarning")
    warn.call(process, warning, ...rest);
};
const own = process.argv[1];
process.argv.splice(1, 2, fileURLToPath(script));
await import(command === "start" ? builtStart() : script.href);

/**
 * The built start script, one JavaScript file. A missing build is made in a child process, so its memory is released
 * first.
 */
function builtStart() {
  // Compiling code that runs once is not worth it: the compilers' own pages would stay. `scripts/start.ts` turns them
  // on again.
  setFlagsFromString("--no-opt");
  setFlagsFromString("--no-maglev");
  setFlagsFromString("--no-sparkplug");
  const built = () => path.join(buildHome(at("")), "start.js");
  if (!existsSync(built())) {
    const { status } = spawnSync(process.execPath, [own, "build"], { stdio: ["ignore", 2, 2] });
    if (status !== 0) process.exit(status ?? 1);
  }
  return pathToFileURL(built()).href;
}
