// Plain JavaScript: `npm start` runs this before anything is built, and type stripping would cost 15 MB permanently.
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import path from "node:path";

/** The inputs of a build; a change in any of them makes a new build. */
const SOURCES = ["worker", "src", "durable-objects", "scripts", "wrangler.toml", "package-lock.json", "tsconfig.json"];

/** The build directory for a project's current sources; it may not exist yet. */
export function buildHome(project) {
  // Builds contain absolute paths, so the path is part of the digest.
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

/** Relative paths of all files below, sorted, with forward slashes. */
export function filesUnder(directory) {
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(directory, path.join(entry.parentPath, entry.name)).split(path.sep).join("/"))
    .sort();
}
