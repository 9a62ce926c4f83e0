import { spawn } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { isAlive, poll, processId } from "../../scripts/local/process.ts";
import { PROJECT } from "../../scripts/local/settings.ts";
import { environment } from "../support/server.ts";

const DEADLINE = 180_000;
const ends: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

interface Holder {
  readonly url: string | null;
  readonly workerd: { readonly pid: number; readonly started: string | null };
}

/** A started server that can say nothing: what it says goes to a device that is full, or to a pipe that nobody reads. */
async function startSilent(output: "full" | "closed"): Promise<{ pid: number; holder(): Holder }> {
  const stateDir = mkdtempSync(path.join(tmpdir(), "certctl-edge-log-"));
  ends.push(() => rmSync(stateDir, { recursive: true, force: true, maxRetries: 5 }));
  const full = openSync("/dev/full", "w");
  const child = spawn(process.execPath, ["scripts/run.mjs", "start"], {
    cwd: PROJECT,
    stdio: output === "full" ? ["ignore", full, full] : ["ignore", "pipe", "pipe"],
    env: environment({ STATE_DIR: stateDir, PORT: "0", EXIT_WITH_PARENT: "1" }),
  });
  closeSync(full);
  for (const stream of [child.stdout, child.stderr]) stream?.destroy();
  const ended = new Promise((resolve) => child.once("exit", resolve));
  ends.push(() => {
    child.kill("SIGTERM");
    return ended;
  });
  const holder = () => JSON.parse(readFileSync(path.join(stateDir, "lock.json"), "utf8")) as Holder;
  const isReady = () => {
    try {
      return holder().url !== null;
    } catch {
      return false;
    }
  };
  expect(await poll(() => isReady() || child.exitCode !== null, 60_000)).toBe(true);
  expect(child.exitCode).toBeNull();
  return { pid: child.pid ?? 0, holder };
}

describe("a log that cannot be written", () => {
  test.each(["full", "closed"] as const)("ends nothing: %s", { timeout: DEADLINE }, async (output) => {
    const { pid, holder } = await startSilent(output);
    const { url, workerd } = holder();
    expect((await fetch(`${url}/health`)).status).toBe(200);
    // A death of the runtime is told in several lines, of several hands.
    process.kill(workerd.pid, "SIGKILL");
    const isBack = () => holder().workerd.pid !== workerd.pid && isAlive(holder().workerd);
    expect(await poll(isBack, 60_000)).toBe(true);
    expect(processId(pid)).not.toBeNull();
    // The port opens a moment after the new runtime is on record.
    const answers = () =>
      fetch(`${url}/ready`).then(
        ({ status }) => status === 200,
        () => false,
      );
    expect(await poll(answers, 60_000)).toBe(true);
  });
});
