import { execFileSync, spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { isAlive, poll, processId } from "../../scripts/local/process.ts";
import { PROJECT } from "../../scripts/local/settings.ts";
import { environment, type RunningServer, startServer } from "../support/server.ts";

const DEADLINE = 180_000;

const ends: (() => Promise<unknown> | unknown)[] = [];

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

function scratch(): string {
  const directory = mkdtempSync(path.join(tmpdir(), "certctl-edge-start-"));
  ends.push(() => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }));
  return directory;
}

async function server(options: Parameters<typeof startServer>[0] = {}): Promise<RunningServer> {
  const running = await startServer(options);
  ends.push(() => running.stop());
  return running;
}

/** A start that is expected to refuse. */
function refused(vars: Record<string, string>): { code: number | null; stderr: string; stdout: string } {
  const result = spawnSync(process.execPath, ["scripts/run.mjs", "start"], {
    cwd: PROJECT,
    env: environment({ PORT: "0", ...vars }),
    encoding: "utf8",
    timeout: DEADLINE,
  });
  return { code: result.status, stderr: result.stderr, stdout: result.stdout };
}

async function isFree(port: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const probe = net.createServer();
    probe.once("error", () => resolve(false));
    probe.listen({ host: "127.0.0.1", port }, () => probe.close(() => resolve(true)));
  });
}

async function becomesFree(port: number): Promise<void> {
  await expect.poll(() => isFree(port), { timeout: 20_000 }).toBe(true);
}

describe("npm start", () => {
  test("becomes ready, says so in one line without a secret, and answers on both loopback addresses", {
    timeout: DEADLINE,
  }, async () => {
    const { url, port, readyLine, stateDir, bootstrapToken } = await server();
    expect(readyLine).toMatch(/^certctl-edge ready on http:\/\/localhost:\d+ - next/);
    expect(bootstrapToken).toMatch(/^[\w-]{43}$/);
    expect(readyLine).not.toContain(bootstrapToken);
    expect(statSync(path.join(stateDir, ".dev.vars")).mode & 0o777).toBe(0o600);
    for (const base of [url, `http://127.0.0.1:${port}`]) expect((await fetch(`${base}/ready`)).status).toBe(200);
    const key = execFileSync("sh", ["-c", readyLine.slice(readyLine.indexOf("curl"))], { encoding: "utf8" });
    expect(JSON.parse(key)).toMatchObject({ actor_id: "admin", key_value: expect.stringMatching(/^certctl_/) });
  });

  test("serves its pages under a policy without inline scripts, and nothing but pages", {
    timeout: DEADLINE,
  }, async () => {
    const { url } = await server();
    for (const page of ["/", "/docs/", "/docs/swagger-ui-bundle.js", "/assets/front.js"]) {
      const response = await fetch(`${url}${page}`);
      expect([page, response.status]).toEqual([page, 200]);
      expect(response.headers.get("content-security-policy")).toMatch(
        /default-src 'none'; script-src 'self'; style-src 'self'/,
      );
      const text = await response.text();
      if (page.endsWith("/")) expect(text).not.toMatch(/<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=/);
    }
    for (const absent of ["/_headers", "/docs/nothing.js", "/index.php"]) {
      const response = await fetch(`${url}${absent}`);
      expect([absent, response.status, response.headers.get("content-type")]).toEqual([
        absent,
        404,
        "application/json",
      ]);
    }
  });

  test("two side by side, each with its own state and secrets", { timeout: DEADLINE }, async () => {
    const [one, other] = await Promise.all([server(), server()]);
    expect(one.port).not.toBe(other.port);
    expect(one.bootstrapToken).not.toBe(other.bootstrapToken);
    for (const { url } of [one, other]) expect((await fetch(`${url}/health`)).status).toBe(200);
  });

  test("a second start on one state refuses and names the holder", { timeout: DEADLINE }, async () => {
    const first = await server();
    const { code, stderr, stdout } = refused({ STATE_DIR: first.stateDir });
    expect([code, stdout]).toEqual([1, ""]);
    expect(stderr).toContain(`process ${first.pid}, at ${first.url}, since 20`);
    expect((await fetch(`${first.url}/health`)).status).toBe(200);
  });

  test("a taken port is refused by name, and nothing is written", { timeout: DEADLINE }, async () => {
    const holder = net.createServer().listen({ host: "127.0.0.1", port: 0 });
    ends.push(() => holder.close());
    await new Promise((resolve) => holder.once("listening", resolve));
    const address = holder.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    const stateDir = scratch();
    const { code, stderr } = refused({ STATE_DIR: stateDir, PORT: String(port) });
    expect(code).toBe(1);
    expect(stderr).toContain(`port ${port} on 127.0.0.1 is taken`);
    expect(existsSync(path.join(stateDir, ".dev.vars"))).toBe(false);
  });

  test("a tree that was just checked out is built first", { timeout: DEADLINE }, () => {
    const project = path.join(scratch(), "project");
    const tracked = execFileSync("git", ["ls-files", "-z", "--", ":!test"], { cwd: PROJECT, encoding: "utf8" }).split(
      "\0",
    );
    for (const file of tracked.filter((name) => name !== ""))
      cpSync(path.join(PROJECT, file), path.join(project, file), { recursive: true });
    symlinkSync(path.join(PROJECT, "node_modules"), path.join(project, "node_modules"));
    const { status, stderr } = spawnSync(process.execPath, ["scripts/run.mjs", "start"], {
      cwd: project,
      // Of the addresses for documentation (RFC 5737): the start ends there.
      env: environment({ HOST: "192.0.2.1" }),
      encoding: "utf8",
    });
    expect([status, stderr]).toEqual([1, expect.stringContaining("HOST 192.0.2.1 is no address of this machine")]);
    expect(existsSync(path.join(project, ".build/worker/start.js"))).toBe(true);
  });

  test("never a new sealing key beside a state that another one sealed", { timeout: DEADLINE }, async () => {
    const stateDir = scratch();
    const secrets = path.join(stateDir, ".dev.vars");
    await (await startServer({ stateDir })).stop();
    renameSync(secrets, `${secrets}.kept`);
    const gone = refused({ STATE_DIR: stateDir });
    expect(gone.code).toBe(1);
    // Which of the two depends on whether anything was sealed meanwhile, by a sweep for instance.
    expect(gone.stderr).toMatch(/no sealing key is configured, and state exists|the sealing key \S+ is missing/);
    expect(gone.stderr).toContain(secrets);
    expect(existsSync(secrets)).toBe(false);
    const wrong = refused({ STATE_DIR: stateDir, CERTCTL_SEALING_KEYS: "not a key" });
    expect(wrong.stderr).toContain("CERTCTL_SEALING_KEYS must be");
    renameSync(`${secrets}.kept`, secrets);
    await (await startServer({ stateDir })).stop();
  });
});

describe("what stays in memory", () => {
  test("Miniflare does not: the process is small, and the next start takes the plan that is there", {
    timeout: DEADLINE,
  }, async () => {
    const stateDir = scratch();
    const first = await server({ stateDir, vars: { TRUSTED_PROXY_SECRET: "a secret of the environment" } });
    const kilobytes = Number(execFileSync("ps", ["-o", "rss=", "-p", String(first.pid)], { encoding: "utf8" }));
    // Node.js alone takes 45 MB, Miniflare and wrangler 250.
    expect(kilobytes).toBeLessThan(140_000);
    await first.stop();
    const plan = readFileSync(path.join(stateDir, "plan"));
    const options = { stateDir, port: first.port };
    await (await startServer({ ...options, vars: { TRUSTED_PROXY_SECRET: "a secret of the environment" } })).stop();
    expect(readFileSync(path.join(stateDir, "plan")).equals(plan)).toBe(true);
    // Another setting is another plan.
    const other = await server({ ...options, vars: { TRUSTED_PROXY_SECRET: "another secret, of the environment" } });
    expect(readFileSync(path.join(stateDir, "plan")).equals(plan)).toBe(false);
    expect((await fetch(`${other.url}/ready`)).status).toBe(200);
  });
});

/** Kills a server's workerd and listens on its port before the next one does. */
async function takeFrom(running: RunningServer): Promise<net.Server> {
  process.kill(running.workerdPid, "SIGKILL");
  for (;;) {
    const other = net.createServer();
    const taken = new Promise<boolean>((resolve) => {
      other.once("error", () => resolve(false));
      other.listen({ host: "127.0.0.1", port: running.port }, () => resolve(true));
    });
    if (await taken) return other;
  }
}

describe("whatever dies, workerd ends with it", () => {
  test("kill -9 of the Node process: workerd ends, the port is free, the next start takes over", {
    timeout: DEADLINE,
  }, async () => {
    const stateDir = scratch();
    const first = await server({ stateDir });
    await first.killParent();
    await becomesFree(first.port);
    const second = await server({ stateDir, port: first.port });
    expect((await fetch(`${second.url}/ready`)).status).toBe(200);
  });

  test("a port that another program takes while workerd is dead: ten starts fail, then the process ends with 70", {
    timeout: DEADLINE,
  }, async () => {
    const running = await server();
    const other = await takeFrom(running);
    expect(await running.exited).toBe(70);
    expect(running.log()).toMatch(
      /workerd\) has ended by itself; starting it again in 0\.2 s \(failure 1 of 10 in a row\)/,
    );
    expect(running.log()).toMatch(/does not start: port \d+ on 127\.0\.0\.1 is taken by another program/);
    expect(running.log()).toContain("10 failures in a row, and it is not started again; stopping");
    expect(running.log()).not.toMatch(/^ {4}at |Workers runtime/m);
    other.close();
    await becomesFree(running.port);
  });

  test("SIGTERM ends both in order, with 0", { timeout: DEADLINE }, async () => {
    const running = await startServer();
    const workerd = processId(running.workerdPid);
    await running.stop();
    expect(running.output()).toBe(`${running.readyLine}\n`);
    expect(workerd && isAlive(workerd)).toBe(false);
    expect(running.log()).toContain("SIGTERM; stopping");
  });

  test("kill -9 of npm, or of the process that asked for it: both end", { timeout: DEADLINE }, async () => {
    const stateDir = scratch();
    const npm = spawn("npm", ["start"], {
      cwd: PROJECT,
      env: environment({ STATE_DIR: stateDir, PORT: "0" }),
      stdio: ["ignore", "pipe", "inherit"],
    });
    ends.push(() => npm.kill("SIGKILL"));
    await new Promise<void>((resolve) =>
      npm.stdout.on("data", (text) => String(text).includes("ready on") && resolve()),
    );
    const holder = JSON.parse(readFileSync(path.join(stateDir, "lock.json"), "utf8"));
    npm.kill("SIGKILL");
    expect(await poll(() => !isAlive(holder.process) && !isAlive(holder.workerd), 30_000)).toBe(true);
  });

  test("without a death signal (setpriv), a watch ends it", { timeout: DEADLINE }, async () => {
    const tools = scratch();
    for (const tool of ["sh", "sleep", "git"]) {
      const found = execFileSync("sh", ["-c", `command -v ${tool}`], { encoding: "utf8" }).trim();
      symlinkSync(found, path.join(tools, tool));
    }
    const running = await server({ stateDir: scratch(), vars: { PATH: tools } });
    await running.killParent();
    await becomesFree(running.port);
  });

  test("the wrapper runs nothing for a parent that has died before", () => {
    const directory = scratch();
    const binary = path.join(directory, "workerd");
    writeFileSync(binary, "#!/bin/sh\necho ran\n");
    chmodSync(binary, 0o755);
    const run = (parent: number, pidFile: string) =>
      spawnSync(path.join(PROJECT, "scripts/local/workerd.sh"), [], {
        encoding: "utf8",
        env: {
          ...process.env,
          CERTCTL_WORKERD: binary,
          CERTCTL_WORKERD_PARENT: String(parent),
          CERTCTL_WORKERD_PID_FILE: path.join(directory, pidFile),
        },
      });
    expect(run(process.pid, "a")).toMatchObject({ status: 0, stdout: "ran\n" });
    expect(run(process.pid, "a")).toMatchObject({ status: 1, stdout: "" });
    expect(run(1, "b")).toMatchObject({ status: 1, stdout: "" });
  });
});
