import { isAlive, type ProcessId, parentOf, processId } from "./process.ts";
import type { Environment } from "./settings.ts";

/**
 * Calls back when a process that this one must not outlive has ended: npm and its script shell if npm started this
 * process, or the direct parent if EXIT_WITH_PARENT=1. Other parents may come and go.
 */
export function watchParents(env: Environment, command: string, gone: (pid: number) => void): { stop(): void } {
  const watched = [...parentsToWatch(env, command)];
  const timer = setInterval(() => {
    const dead = watched.find((parent) => !isAlive(parent));
    if (!dead) return;
    clearInterval(timer);
    gone(dead.pid);
  }, 300);
  timer.unref();
  return { stop: () => clearInterval(timer) };
}

function* parentsToWatch(env: Environment, command: string): Generator<ProcessId> {
  const byNpm = env.npm_lifecycle_event === command;
  if (!byNpm && env.EXIT_WITH_PARENT !== "1") return;
  const parent = processId(process.ppid);
  if (parent) yield parent;
  const above = parentOf(process.ppid);
  const shell = parentOf(process.pid);
  if (!byNpm || !above || !shell || !/^(?:sh|dash|bash|ash|busybox)$/.test(shell.name)) return;
  const npm = processId(above.pid);
  if (npm && npm.pid > 1) yield npm;
}
