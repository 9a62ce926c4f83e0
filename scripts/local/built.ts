import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import type { Project } from "./project.ts";

/** File name of the Worker's one module. */
export const SCRIPT = "index.js";

export interface Build {
  /** Path of the Worker's one module. */
  readonly script: string;
  readonly commit: string;
  /** RFC 3339. */
  readonly builtAt: string;
  readonly project: Project;
}

/** The build in a directory; null if it is missing or incomplete. */
export function readBuild(home: string): Build | null {
  const script = path.join(home, SCRIPT);
  if (!existsSync(script)) return null;
  return { script, ...JSON.parse(readFileSync(path.join(home, "build.json"), "utf8")) };
}
