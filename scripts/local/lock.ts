import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { note } from "./log.ts";
import { isAlive, type ProcessId, poll, processId } from "./process.ts";
import { StartError } from "./settings.ts";
import { openStateDir, unusable } from "./state.ts";

/** The holder's own description in lock.json; the lock itself is a different file. */
export interface Holder {
  readonly command: string;
  readonly process: ProcessId;
  /** RFC 3339. */
  readonly since: string;
  readonly url: string | null;
  readonly workerd: ProcessId | null;
}

export interface StateLock {
  update(change: Partial<Pick<Holder, "url" | "workerd">>): void;
  release(): void;
}

export class StateLockedError extends StartError {}

/**
 * Takes a state directory for this process. The lock is SQLite's exclusive lock on the file `lock`. The kernel holds it
 * and releases it when the process ends for any reason, so it is never stale, neither a reboot nor a reused process id
 * can mislead, and of two concurrent starts only one gets it. `lock.json` beside it only names the holder. A workerd
 * left behind by a killed holder writes the same files: it gets time to exit, then is killed. Throws StateLockedError
 * naming the holder.
 */
export async function lockState(stateDir: string, command: string, now = new Date()): Promise<StateLock> {
  openStateDir(stateDir);
  const database = tryLock(path.join(stateDir, "lock"));
  const told = path.join(stateDir, "lock.json");
  if (!database) throw await lockedError(stateDir, told);
  try {
    await endLeftover(readHolder(told)?.workerd ?? null);
    let holder: Holder = {
      command,
      process: processId(process.pid) ?? { pid: process.pid, started: null },
      since: now.toISOString(),
      url: null,
      workerd: null,
    };
    writeHolder(told, holder);
    return {
      update(change) {
        holder = { ...holder, ...change };
        writeHolder(told, holder);
      },
      release: () => database.close(),
    };
  } catch (error) {
    database.close();
    throw error;
  }
}

function tryLock(file: string): DatabaseSync | null {
  let database: DatabaseSync | null = null;
  try {
    database = new DatabaseSync(file);
    database.exec("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE");
    return database;
  } catch (error) {
    database?.close();
    if (error instanceof Error && /locked|busy/i.test(error.message)) return null;
    const why = error instanceof Error ? error.message : String(error);
    throw new StartError(`cannot lock ${file}: ${why}; nothing is stored in it: remove it while no server runs`);
  }
}

async function lockedError(stateDir: string, told: string): Promise<StateLockedError> {
  // The new holder may not have written lock.json yet.
  let holder: Holder | null = null;
  await poll(() => {
    holder = readHolder(told);
    return holder !== null && isAlive(holder.process);
  }, 2_000);
  return new StateLockedError(
    `the state in ${stateDir} is in use by ${describe(holder)}; stop it or set another STATE_DIR`,
  );
}

function describe(holder: Holder | null): string {
  if (!holder || !isAlive(holder.process)) return "another process that has not said its number";
  const url = holder.url === null ? "still starting" : `at ${holder.url}`;
  return `\`npm ${holder.command}\`, process ${holder.process.pid}, ${url}, since ${holder.since}`;
}

async function endLeftover(workerd: ProcessId | null): Promise<void> {
  if (!workerd || (await poll(() => !isAlive(workerd), 3_000))) return;
  process.kill(workerd.pid, "SIGKILL");
  if (!(await poll(() => !isAlive(workerd), 5_000))) {
    throw new StartError(`workerd of an earlier start (process ${workerd.pid}) does not end; end it first`);
  }
}

function readHolder(file: string): Holder | null {
  try {
    const value: unknown = JSON.parse(readFileSync(file, "utf8"));
    return isHolder(value) ? value : null;
  } catch {
    return null;
  }
}

function isHolder(value: unknown): value is Holder {
  if (typeof value !== "object" || value === null || !("process" in value) || !("workerd" in value)) return false;
  return isProcessId(value.process) && (value.workerd === null || isProcessId(value.workerd));
}

function isProcessId(value: unknown): value is ProcessId {
  return (
    typeof value === "object" &&
    value !== null &&
    "pid" in value &&
    Number.isSafeInteger(value.pid) &&
    "started" in value
  );
}

/** Informational only: the lock holds without this file, for instance on a full disk. */
function writeHolder(file: string, holder: Holder): void {
  const next = `${file}.${process.pid}`;
  try {
    writeFileSync(next, `${JSON.stringify(holder, null, 2)}\n`, { mode: 0o600 });
    renameSync(next, file);
  } catch (error) {
    rmSync(next, { force: true });
    note(unusable(file, error).message);
  }
}
