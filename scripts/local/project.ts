import path from "node:path";
import type { V4WorkerOptions } from "miniflare";
import { unstable_readConfig as readConfig, unstable_getMiniflareWorkerOptions as workerOptionsOf } from "wrangler";
import { PROJECT } from "./settings.ts";

/** The settings from wrangler.toml that local mode uses. */
export interface Project {
  readonly vars: Readonly<Record<string, string>>;
  readonly crons: readonly string[];
  /** The bindings in Miniflare's format, without variables and secrets. */
  readonly worker: V4WorkerOptions;
}

/** Reads only wrangler.toml, not the project's `.dev.vars`, which wrangler would load as well. */
export function readProject(project = PROJECT): Project {
  const config = readConfig({ config: path.join(project, "wrangler.toml") });
  // A named env file replaces .dev.vars; this one does not exist.
  const options = { overrides: {}, envFiles: [path.join(project, ".build/no-such-env-file")] };
  const { workerOptions } = workerOptionsOf(config, undefined, options);
  const { modulesRules: _rules, rootPath: _root, bindings: _bindings, ...worker } = workerOptions;
  const vars = Object.entries(config.vars).filter((entry): entry is [string, string] => typeof entry[1] === "string");
  return {
    vars: Object.fromEntries(vars),
    crons: config.triggers.crons ?? [],
    worker: { ...worker, name: config.name ?? "certctl-edge" } as V4WorkerOptions,
  };
}
