import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { readProject } from "../scripts/local/project.ts";
import { httpRequest } from "../test/support/connection.ts";
import { bundle, cpuMicros, migrateBench, startBench } from "./harness.ts";
import { exactly, type LoadResult, runLoad } from "./load.ts";

const WORKER = fileURLToPath(new URL("auth-worker.ts", import.meta.url));
const CONNECTIONS = 32;
const ROUNDS = 3;
/** The cases take turns this often within a round, so that what else the machine does meets all alike. */
const SLICE_SECONDS = 0.5;
const SEALING_KEYS = `bench:${Buffer.alloc(32, 7).toString("base64")}`;

/**
 * What the door asks for a credential: one trivial route with a warm API key and with a session, against the same route with
 * the check switched off, in one workerd and one run; once without rate limits and once with them. `seconds` is the length
 * of each measurement; best of three rounds, taken in turn so that noise meets all alike.
 */
export async function benchAuth(seconds = Number(process.env.BENCH_SECONDS ?? 4)): Promise<void> {
  const directory = mkdtempSync(path.join(tmpdir(), "certctl-bench-"));
  try {
    const { worker } = readProject();
    if (worker.compatibilityDate === undefined) throw new Error("wrangler.toml has no compatibility_date");
    const script = await bundle(directory, WORKER, worker.compatibilityDate);
    for (const limits of [false, true]) await measure(path.join(directory, String(limits)), script, limits, seconds);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function measure(directory: string, script: string, limits: boolean, seconds: number): Promise<void> {
  const { assets: _assets, queueConsumers: _queues, ...bound } = readProject().worker;
  // The limits are counted but so high that none is reached: what is measured is what counting costs.
  const ratelimits = limits ? { ratelimits: highLimits(bound.ratelimits) } : {};
  const project = { vars: {}, crons: [], worker: { ...bound, ...ratelimits } as typeof bound };
  const vars = { CERTCTL_SEALING_KEYS: SEALING_KEYS, CERTCTL_RATE_LIMIT_ENABLED: String(limits) };
  await migrateBench(directory, project);
  const server = await startBench(directory, script, project, vars);
  try {
    const { key, cookie } = JSON.parse(await server.get("/prepare")) as { key: string; cookie: string };
    const bearer = { Authorization: `Bearer ${key}` };
    const cases: { what: string; query: string; headers: Record<string, string> }[] = [
      { what: "the check switched off", query: "?unchecked", headers: bearer },
      { what: "a warm API key", query: "", headers: bearer },
      { what: "a session", query: "", headers: { Cookie: cookie } },
    ];
    const best = new Map<string, LoadResult>();
    const spent = new Map(cases.map(({ what }) => [what, { cpu: 0, answers: 0 }]));
    for (let round = 0; round < ROUNDS; round++) {
      const slices = new Map(cases.map(({ what }) => [what, [] as LoadResult[]]));
      for (let left = seconds; left > 0; left -= SLICE_SECONDS) {
        for (const { what, query, headers } of cases) {
          const asks = [exactly(httpRequest("GET", `/trivial${query}`, { headers }), '{"status":"ok"}')];
          const load = { port: server.port, connections: CONNECTIONS, seconds: SLICE_SECONDS, asks };
          const before = cpuMicros(server.runtime.workerd.pid);
          const result = await runLoad(load);
          const sum = spent.get(what);
          if (sum) {
            sum.cpu += cpuMicros(server.runtime.workerd.pid) - before;
            sum.answers += result.answers;
          }
          slices.get(what)?.push(result);
        }
      }
      for (const [what, results] of slices) {
        const result = together(results);
        const before = best.get(what);
        if (!before || result.requestsPerSecond > before.requestsPerSecond) best.set(what, result);
      }
    }
    print(limits, best, spent);
  } finally {
    await server.runtime.stop();
  }
}

/** Slices of equal length as one; percentiles are the slices' means. */
function together(slices: readonly LoadResult[]): LoadResult {
  const sum = (of: (slice: LoadResult) => number) => slices.reduce((total, slice) => total + of(slice), 0);
  const mean = (of: (slice: LoadResult) => number) => sum(of) / slices.length;
  return {
    requestsPerSecond: mean((slice) => slice.requestsPerSecond),
    p50Ms: mean((slice) => slice.p50Ms),
    p99Ms: mean((slice) => slice.p99Ms),
    answers: sum((slice) => slice.answers),
  };
}

type RateLimits = NonNullable<ReturnType<typeof readProject>["worker"]["ratelimits"]>;

function highLimits(limits: RateLimits | undefined): RateLimits {
  const high = Object.entries(limits ?? {}).map(([name, { simple, ...limit }]) => [
    name,
    { ...limit, simple: { ...simple, limit: 1_000_000_000 } },
  ]);
  return Object.fromEntries(high) as RateLimits;
}

type Spent = ReadonlyMap<string, { readonly cpu: number; readonly answers: number }>;

function print(limits: boolean, results: ReadonlyMap<string, LoadResult>, spent: Spent): void {
  const trivial = [...results.values()][0]?.requestsPerSecond ?? Number.NaN;
  console.log(
    `\n${`one trivial route, rate limits ${limits ? "counted" : "off"}`.padEnd(48)}${"per second".padStart(11)}${"of trivial".padStart(12)}${"more time".padStart(11)}${"p50 ms".padStart(9)}${"p99 ms".padStart(9)}${"CPU us".padStart(9)}`,
  );
  for (const [what, { requestsPerSecond, p50Ms, p99Ms }] of results) {
    const { cpu, answers } = spent.get(what) ?? { cpu: Number.NaN, answers: 1 };
    const figures = [
      requestsPerSecond.toFixed(0).padStart(11),
      (requestsPerSecond / trivial).toFixed(2).padStart(12),
      `${(100 * (trivial / requestsPerSecond - 1)).toFixed(1)} %`.padStart(11),
      p50Ms.toFixed(2).padStart(9),
      p99Ms.toFixed(1).padStart(9),
      (cpu / answers).toFixed(0).padStart(9),
    ];
    console.log(what.padEnd(48) + figures.join(""));
  }
}
