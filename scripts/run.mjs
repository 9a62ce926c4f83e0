// Plain JavaScript on purpose: an older Node cannot even read the TypeScript beside it, and should be told so in words.
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

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
// Node's notes that node:sqlite and type stripping are young say nothing to who runs this.
const warn = process.emitWarning;
process.emitWarning = (warning, ...rest) => {
  if (rest[0] !== "ExperimentalWarning" && rest[0]?.type !== "ExperimentalWarning")
    warn.call(process, warning, ...rest);
};
process.argv.splice(1, 2, fileURLToPath(script));
await import(script.href);
