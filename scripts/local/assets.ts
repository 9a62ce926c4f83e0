import { createHash, randomUUID } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { PROJECT } from "./settings.ts";
import { filesUnder } from "./sources.mjs";

const require = createRequire(import.meta.url);

/** Files of swagger-ui-dist that the API reference page uses. */
const SWAGGER_FILES = ["swagger-ui.css", "swagger-ui-bundle.js", "swagger-ui-bundle.js.LICENSE.txt"];

/** The static assets and the digest that identifies them. */
export interface Assets {
  readonly directory: string;
  readonly digest: string;
}

/** Builds `.build/assets` from web/, openapi.json and the API reference's files. Each file is replaced atomically. */
export function buildAssets(project = PROJECT): Assets {
  const target = path.join(project, ".build/assets");
  const files = new Map<string, Buffer>();
  const web = path.join(project, "web");
  for (const name of filesUnder(web)) files.set(name, readFileSync(path.join(web, name)));
  files.set("openapi.json", readFileSync(path.join(project, "openapi.json")));
  const swagger = path.dirname(require.resolve("swagger-ui-dist/package.json"));
  for (const name of SWAGGER_FILES) files.set(`docs/${name}`, readFileSync(path.join(swagger, name)));
  for (const [name, content] of files) writeIfChanged(path.join(target, name), content);
  for (const name of filesUnder(target)) {
    if (!files.has(name) && !name.endsWith(".new")) rmSync(path.join(target, name), { force: true });
  }
  const digest = createHash("sha256");
  for (const [name, content] of files) digest.update(`${name}\0${content.length}\0`).update(content);
  return { directory: target, digest: digest.digest("hex") };
}

function writeIfChanged(file: string, content: Buffer): void {
  if (existsSync(file) && readFileSync(file).equals(content)) return;
  mkdirSync(path.dirname(file), { recursive: true });
  const next = `${file}.${randomUUID()}.new`;
  writeFileSync(next, content);
  renameSync(next, file);
}
