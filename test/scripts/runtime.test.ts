import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startSchedules } from "../../scripts/local/cron.ts";
import { readProject } from "../../scripts/local/project.ts";
import { PROJECT, placesOf } from "../../scripts/local/settings.ts";
import type { Runtime } from "../../scripts/local/workerd.ts";
import { startWorker } from "../support/local-worker.ts";

/** A Worker that reaches out from itself and from an object, and remembers what was scheduled. */
const PROBE = `
import { DurableObject, WorkerEntrypoint } from "cloudflare:workers";
const ticks = [];
const reach = async (url) => {
  try {
    const response = await fetch(url, { redirect: "manual" });
    return { status: response.status, mark: response.headers.get("x-certctl-outbound"), body: await response.text() };
  } catch (error) { return { error: String(error) }; }
};
export class Issuer extends DurableObject { reach(url) { return reach(url); } }
export class Purge extends DurableObject {}
export class PublicPki extends WorkerEntrypoint {}
export default {
  async fetch(request, env) {
    const { searchParams, pathname } = new URL(request.url);
    if (pathname === "/ticks") return Response.json(ticks);
    if (pathname === "/vars") return Response.json(Object.fromEntries(Object.entries(env).filter(([, v]) => typeof v === "string")));
    const target = searchParams.get("target");
    if (pathname === "/object") return Response.json(await env.ISSUER.getByName("x").reach(target));
    return Response.json(await reach(target));
  },
  scheduled(controller) { ticks.push([controller.cron, controller.scheduledTime]); },
  queue() {},
};
`;

let directory: string;
let inside: http.Server;
let insidePort: number;
let reached = 0;

beforeAll(async () => {
  directory = mkdtempSync(path.join(tmpdir(), "certctl-edge-runtime-"));
  writeFileSync(path.join(directory, "probe.js"), PROBE);
  inside = http.createServer((_request, response) => {
    reached++;
    response.end("inside");
  });
  await new Promise<void>((resolve) => inside.listen(0, "127.0.0.1", resolve));
  insidePort = (inside.address() as AddressInfo).port;
});

afterAll(() => {
  inside.closeAllConnections();
  inside.close();
  rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
});

async function withProbe(
  vars: Record<string, string>,
  use: (ask: (path: string) => Promise<unknown>, runtime: Runtime) => Promise<void>,
) {
  const places = placesOf({ STATE_DIR: mkdtempSync(path.join(directory, "state-")) });
  const runtime = await startWorker(readProject(), places, { script: path.join(directory, "probe.js"), vars });
  try {
    await use(async (asked) => (await fetch(`http://127.0.0.1:${runtime.port}${asked}`)).json(), runtime);
  } finally {
    await runtime.stop();
  }
}

test("nothing that the Worker or its objects fetch reaches a reserved address (invariant 9)", async () => {
  await withProbe({}, async (ask) => {
    for (const target of [
      `http://127.0.0.1:${insidePort}/`,
      `http://localhost:${insidePort}/`,
      `http://[::1]:${insidePort}/`,
    ]) {
      for (const way of ["/fetch", "/object"]) {
        const answer = await ask(`${way}?target=${encodeURIComponent(target)}`);
        expect([way, answer]).toMatchObject([
          way,
          { status: 403, mark: "refused", body: expect.stringContaining("outbound_refused") },
        ]);
      }
    }
    expect(reached).toBe(0);
  });
});

test("the project's own .dev.vars is not read along with wrangler.toml, and nothing is said on stdout", () => {
  const project = path.join(directory, "project");
  mkdirSync(project);
  copyFileSync(path.join(PROJECT, "wrangler.toml"), path.join(project, "wrangler.toml"));
  writeFileSync(path.join(project, ".dev.vars"), "CANARY=from the project\n");
  const script = `import { readProject } from "./scripts/local/project.ts"; process.stderr.write(JSON.stringify(readProject(process.argv[1])));`;
  const args = ["--disable-warning=ExperimentalWarning", "--input-type=module-typescript", "-e", script, project];
  const { stdout, stderr } = spawnSync(process.execPath, args, { cwd: PROJECT, encoding: "utf8" });
  expect(stdout).toBe("");
  expect(JSON.parse(stderr).worker.name).toBe("certctl-edge");
  expect(stderr).not.toContain("CANARY");
});

test("what OUTBOUND_ALLOW names is reached; only the given variables are bound", async () => {
  await withProbe({ OUTBOUND_ALLOW: "127.0.0.1/32", OWN: "value" }, async (ask) => {
    expect(await ask(`/fetch?target=${encodeURIComponent(`http://127.0.0.1:${insidePort}/`)}`)).toMatchObject({
      status: 200,
      body: "inside",
    });
    expect(await ask("/vars")).toEqual({ OUTBOUND_ALLOW: "127.0.0.1/32", OWN: "value" });
  });
});

test("schedules reach the Worker with their time", async () => {
  await withProbe({}, async (ask, runtime) => {
    const errors: unknown[] = [];
    const schedules = startSchedules(
      ["* * * * *"],
      async (tick) => {
        expect(await runtime.scheduled(tick)).toBe("ok");
      },
      (_tick, error) => errors.push(error),
      { now: () => Date.parse("2026-11-23T03:00:00Z"), setTimeout: () => 0, clearTimeout: () => {} },
    );
    await schedules.stop();
    expect(errors).toEqual([]);
    expect(await ask("/ticks")).toEqual([["* * * * *", Date.parse("2026-11-23T03:00:00Z")]]);
  });
});
