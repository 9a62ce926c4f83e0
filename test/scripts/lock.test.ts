import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { lockState } from "../../scripts/local/lock.ts";
import { isAlive, processId } from "../../scripts/local/process.ts";
import { PROJECT } from "../../scripts/local/settings.ts";

/** Takes the lock, says how that went, and lives on until it is killed. */
const CONTENDER = `
  import { lockState } from "./scripts/local/lock.ts";
  const [, stateDir] = process.argv;
  try { await lockState(stateDir, "start"); console.log("got it"); setInterval(() => {}, 1000); }
  catch (error) { console.log(error.message); }
`;

let stateDir: string;
let children: ReturnType<typeof spawn>[] = [];

beforeEach(() => {
  stateDir = mkdtempSync(path.join(tmpdir(), "certctl-edge-lock-"));
});

afterEach(() => {
  for (const child of children) child.kill("SIGKILL");
  children = [];
  rmSync(stateDir, { recursive: true, force: true });
});

function contend(): { said: Promise<string>; pid: number; kill: () => Promise<void> } {
  const args = ["--disable-warning=ExperimentalWarning", "--input-type=module-typescript", "-e", CONTENDER, stateDir];
  const child = spawn(process.execPath, args, { cwd: PROJECT, stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  return {
    said: new Promise((resolve) =>
      child.stdout.setEncoding("utf8").once("data", (text: string) => resolve(text.trim())),
    ),
    pid: child.pid ?? 0,
    kill: async () => {
      child.kill("SIGKILL");
      await ended;
    },
  };
}

test("of many that start at once exactly one gets it, and each other names that one", async () => {
  const contenders = Array.from({ length: 6 }, contend);
  const said = await Promise.all(contenders.map((contender) => contender.said));
  const winners = contenders.filter((_, at) => said[at] === "got it");
  expect(winners).toHaveLength(1);
  for (const text of said) if (text !== "got it") expect(text).toContain(`process ${winners[0]?.pid},`);
});

test("a holder that was killed holds nothing any more; many that take over at once: one gets it", async () => {
  const first = contend();
  expect(await first.said).toBe("got it");
  await first.kill();
  const said = await Promise.all(Array.from({ length: 5 }, contend).map((contender) => contender.said));
  expect(said.filter((text) => text === "got it")).toHaveLength(1);
});

test("what an earlier holder of a reused process number said misleads nobody", async () => {
  const stale = {
    command: "start",
    process: { pid: process.pid, started: "another boot/1" },
    since: "",
    url: "http://old",
    workerd: null,
  };
  writeFileSync(path.join(stateDir, "lock.json"), JSON.stringify(stale));
  const lock = await lockState(stateDir, "start");
  lock.update({ url: "http://localhost:1" });
  expect(JSON.parse(readFileSync(path.join(stateDir, "lock.json"), "utf8"))).toMatchObject({
    process: processId(process.pid),
    url: "http://localhost:1",
  });
  await expect(contend().said).resolves.toContain(`process ${process.pid}, at http://localhost:1, since`);
  lock.release();
  await expect(contend().said).resolves.toBe("got it");
});

test("a workerd that an earlier holder left behind is ended before the state is used again", async () => {
  const left = spawn("sleep", ["600"], { stdio: "ignore" });
  children.push(left);
  const workerd = processId(left.pid ?? 0);
  if (!workerd) throw new Error("no process");
  const holder = { command: "start", process: { pid: 2 ** 22 + 1, started: null }, since: "", url: null, workerd };
  writeFileSync(path.join(stateDir, "lock.json"), JSON.stringify(holder));
  const lock = await lockState(stateDir, "start");
  expect(isAlive(workerd)).toBe(false);
  lock.release();
});
