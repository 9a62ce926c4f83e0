// Plain JavaScript: `npm start` asks this before anything is built, and type stripping would keep 15 MB for good.
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import path from "node:path";

/** What a build is made of; a change in any of them makes a new one. */
const SOURCES = ["worker", "src", "durable-objects", "scripts", "wrangler.toml", "package-lock.json", "tsconfig.json"];

/** The directory of the build of a project's sources as they are now, whether or not it exists. */
export function buildHome(project) {
  // The build holds absolute paths.
  const digest = createHash("sha256").update(`${path.resolve(project)}\0`);
  for (const source of SOURCES) {
    const at = path.join(project, source);
    const names = statSync(at, { throwIfNoEntry: false })?.isDirectory() ? filesUnder(at) : [""];
    for (const name of names) {
      const file = path.join(at, name);
      if (existsSync(file)) digest.update(`${source}/${name}\0`).update(readFileSync(file)).update("\0");
    }
  }
  return path.join(project, ".build", `worker-${digest.digest("hex").slice(0, 16)}`);
}

/** Paths of all files below, relative, with forward slashes, in order. */
export function filesUnder(directory) {
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(directory, path.join(entry.parentPath, entry.name)).split(path.sep).join("/"))
    .sort();
}
