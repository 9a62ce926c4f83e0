import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { planKey, readPlan, writePlan } from "../../scripts/local/plan-file.ts";
import type { Plan } from "../../scripts/local/workerd.ts";

const SECRET = "a secret of the environment alone";
const MADE_FROM = { script: "index.js", vars: { CERTCTL_SEALING_KEYS: SECRET } };
const PLAN: Plan = {
  config: new Uint8Array(Buffer.from(`... ${SECRET} ...`)),
  socket: "direct:0:default",
  scheduleSocket: "direct:2:default",
  scheduleSecret: "one",
  loopbackSecret: "two",
  directories: ["/state/v3/d1"],
};

let directory: string;
let file: string;
const said: string[] = [];
const note = (message: string) => said.push(message);

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), "certctl-edge-plan-"));
  file = path.join(directory, "plan");
  said.length = 0;
});

afterEach(() => rmSync(directory, { recursive: true, force: true }));

test("a plan opens for whoever has all that it was made from, and tells nobody else a secret", () => {
  writePlan(file, planKey(MADE_FROM), PLAN, note);
  const { config, ...rest } = readPlan(file, planKey(MADE_FROM)) ?? PLAN;
  expect(Buffer.from(config).toString()).toBe(`... ${SECRET} ...`);
  expect(rest).toEqual({ ...PLAN, config: undefined });
  expect(readFileSync(file, "latin1")).not.toContain(SECRET);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(said).toEqual([]);
});

test("no plan for other settings, from a file that is cut short, or where there is none", () => {
  expect(readPlan(file, planKey(MADE_FROM))).toBeNull();
  writePlan(file, planKey(MADE_FROM), PLAN, note);
  expect(readPlan(file, planKey({ ...MADE_FROM, vars: {} }))).toBeNull();
  truncateSync(file, 20);
  expect(readPlan(file, planKey(MADE_FROM))).toBeNull();
});

test("a plan that cannot be written is told, and ends nothing", () => {
  writePlan(path.join(directory, "no-such-directory/plan"), planKey(MADE_FROM), PLAN, note);
  expect(said).toEqual([expect.stringMatching(/^cannot write .*no-such-directory\/plan/)]);
});
