import { readFileSync } from "node:fs";

/** Identifies a process even if its pid is reused later. */
export interface ProcessId {
  readonly pid: number;
  /** Boot id and start time in clock ticks, from /proc; null without /proc. */
  readonly started: string | null;
}

/** Null if there is no such process. */
export function processId(pid: number): ProcessId | null {
  return isAlive({ pid, started: null }) ? { pid, started: startOf(pid) } : null;
}

/** Whether this same process still runs (a zombie does not). */
export function isAlive({ pid, started }: ProcessId): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    // EPERM: the process exists but belongs to another user.
    if (!(error instanceof Error && "code" in error && error.code === "EPERM")) return false;
  }
  if (statOf(pid)?.state === "Z") return false;
  return started === null || startOf(pid) === started;
}

/** The parent of a process, from /proc; null without it. */
export function parentOf(pid: number): { readonly pid: number; readonly name: string } | null {
  const stat = statOf(pid);
  return stat ? { pid: stat.parent, name: statOf(stat.parent)?.name ?? "" } : null;
}

function startOf(pid: number): string | null {
  const stat = statOf(pid);
  if (!stat) return null;
  try {
    return `${readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()}/${stat.startTicks}`;
  } catch {
    return stat.startTicks;
  }
}

/** proc(5), /proc/pid/stat: pid (comm) state ppid ... starttime is field 22. */
function statOf(pid: number): { name: string; state: string; parent: number; startTicks: string } | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    const end = text.lastIndexOf(")");
    const fields = text.slice(end + 2).split(" ");
    return {
      name: text.slice(text.indexOf("(") + 1, end),
      state: fields[0] ?? "",
      parent: Number(fields[1]),
      startTicks: fields[19] ?? "",
    };
  } catch {
    return null;
  }
}

/** Waits until `done` returns true; false after `timeoutMs`. */
export async function poll(done: () => boolean | Promise<boolean>, timeoutMs: number, everyMs = 50): Promise<boolean> {
  for (const deadline = Date.now() + timeoutMs; Date.now() < deadline; ) {
    if (await done()) return true;
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
  return done();
}
