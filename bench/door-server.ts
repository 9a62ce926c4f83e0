import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type Project, readProject } from "../scripts/local/project.ts";
import { httpRequest } from "../test/support/connection.ts";
import { type BenchServer, bundle, migrateBench, startBench } from "./harness.ts";
import { exactly } from "./load.ts";
import type { Case } from "./turns.ts";

const SEALING_KEYS = `bench:${Buffer.alloc(32, 7).toString("base64")}`;
export const BOOTSTRAP_TOKEN = "bench-bootstrap-token";

/** The answer of `/prepare` of `door-worker.ts`. */
export interface Shown {
  readonly key: string;
  readonly cookie: string;
}

/**
 * The product's door with the trivial routes of `door-worker.ts`, or another `worker`, in a separate workerd. `limits`:
 * requests are counted against limits too high to reach, to measure the cost of counting.
 */
export async function doorServer(directory: string, limits: boolean, worker = "door-worker.ts"): Promise<BenchServer> {
  const { assets: _assets, queueConsumers: _queues, ...bound } = readProject().worker;
  const ratelimits = limits ? { ratelimits: highLimits(bound.ratelimits) } : {};
  const project = { vars: {}, crons: [], worker: { ...bound, ...ratelimits } as typeof bound };
  const vars = {
    CERTCTL_SEALING_KEYS: SEALING_KEYS,
    CERTCTL_BOOTSTRAP_TOKEN: BOOTSTRAP_TOKEN,
    CERTCTL_LOCAL: "loopback",
    CERTCTL_RATE_LIMIT_ENABLED: String(limits),
  };
  mkdirSync(directory, { recursive: true });
  const script = await bundle(directory, workerFile(worker), compatibilityDate());
  await migrateBench(directory, project);
  return startBench(directory, script, project, vars, true);
}

/** A Worker that only answers, in a separate workerd. */
export async function bareServer(directory: string): Promise<BenchServer> {
  mkdirSync(directory, { recursive: true });
  const script = await bundle(directory, workerFile("bare-worker.ts"), compatibilityDate());
  const worker = { name: "bare", compatibilityDate: compatibilityDate() } as Project["worker"];
  return startBench(directory, script, { vars: {}, crons: [], worker }, {}, true);
}

/** A trivial route that needs a permission: without the credential check, with a warm API key, with a session. */
export function trivialCases({ port, runtime }: BenchServer, { key, cookie }: Shown): Case[] {
  const of = (what: string, target: string, headers: Record<string, string>): Case => ({
    what,
    port,
    pid: runtime.workerd.pid,
    asks: [exactly(httpRequest("GET", target, { headers }), '{"status":"ok"}')],
  });
  const bearer = { Authorization: `Bearer ${key}` };
  return [
    of("the check switched off", "/unchecked", bearer),
    of("a warm API key", "/trivial", bearer),
    of("a session", "/trivial", { Cookie: cookie }),
  ];
}

function workerFile(name: string): string {
  return fileURLToPath(new URL(name, import.meta.url));
}

function compatibilityDate(): string {
  const { compatibilityDate: date } = readProject().worker;
  if (date === undefined) throw new Error("wrangler.toml has no compatibility_date");
  return date;
}

type RateLimits = NonNullable<Project["worker"]["ratelimits"]>;

function highLimits(limits: RateLimits | undefined): RateLimits {
  const high = Object.entries(limits ?? {}).map(([name, { simple, ...limit }]) => [
    name,
    { ...limit, simple: { ...simple, limit: 1_000_000_000 } },
  ]);
  return Object.fromEntries(high) as RateLimits;
}
