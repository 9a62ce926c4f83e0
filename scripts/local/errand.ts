import { fork } from "node:child_process";
import path from "node:path";
import { type ProcessId, processId } from "./process.ts";
import type { Project } from "./project.ts";
import type { WorkerStart } from "./runtime.ts";
import { type LocalSettings, type Places, PROJECT, StartError } from "./settings.ts";
import type { Plan } from "./workerd.ts";

/** Input for the Miniflare process that runs before workerd. */
export interface Work {
  readonly project: Project;
  readonly places: Places;
  readonly settings: LocalSettings;
  /** Whether the database is already migrated. */
  readonly isMigrated: boolean;
  readonly start: WorkerStart;
}

/**
 * Migrates the database and plans workerd's start in a separate process, so that Miniflare's 250 MB are released when
 * it ends. `begun` receives the id of that process, which works on the state's files. Throws StartError with its
 * message.
 */
export async function runErrand(work: Work, begun: (process: ProcessId | null) => void): Promise<Plan> {
  const child = fork(path.join(PROJECT, "scripts/local/workshop.ts"), [], {
    serialization: "advanced",
    execArgv: ["--disable-warning=ExperimentalWarning"],
    stdio: ["ignore", 2, 2, "ipc"],
  });
  begun(child.pid === undefined ? null : processId(child.pid));
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const answer = await new Promise<{ plan?: Plan; failure?: string }>((resolve, reject) => {
    child.once("message", resolve);
    child.once("error", reject);
    child.once("exit", (code, signal) => resolve({ failure: `the start was ended (${signal ?? code})` }));
    child.send(work);
  });
  await ended;
  if (!answer.plan) throw new StartError(answer.failure ?? "the start was ended");
  return answer.plan;
}
