import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { readProject } from "../scripts/local/project.ts";
import { httpRequest } from "../test/support/connection.ts";
import { bundle, memory, startBench } from "./harness.ts";
import { exactly, type LoadResult, runLoad } from "./load.ts";

const WORKER = fileURLToPath(new URL("ledger-worker.ts", import.meta.url));
const CONNECTIONS = 32;
const ENTRIES = 1_000_000;
const SEALING_KEYS = `bench:${Buffer.alloc(32, 7).toString("base64")}`;

/**
 * The ledger alone: how many certificates per second one P-256 issuer signs and stores, as a ratio to a trivial request
 * of the same Worker in the same run; and publishing a CRL of a million entries: time, peak memory, longest pause for
 * other work.
 */
export async function benchLedger(seconds = Number(process.env.BENCH_SECONDS ?? 4)): Promise<void> {
  const directory = mkdtempSync(path.join(tmpdir(), "certctl-bench-"));
  try {
    const { worker } = readProject();
    const { compatibilityDate } = worker;
    if (compatibilityDate === undefined) throw new Error("wrangler.toml has no compatibility_date");
    const script = await bundle(directory, WORKER, compatibilityDate);
    const { assets: _assets, queueConsumers: _queues, ...bound } = worker;
    const project = { vars: {}, crons: [], worker: bound };
    const server = await startBench(directory, script, project, { CERTCTL_SEALING_KEYS: SEALING_KEYS });
    try {
      await server.get("/create");
      const load = (path: string, body: string) =>
        best({
          port: server.port,
          connections: CONNECTIONS,
          seconds,
          asks: [exactly(httpRequest("GET", path), body)],
        });
      const trivial = await load("/health", '{"status":"healthy"}');
      const issued = await load("/issue", "");
      const ratio = issued.requestsPerSecond / trivial.requestsPerSecond;
      console.log(`trivial: GET /health                  ${trivial.requestsPerSecond.toFixed(0)}/s`);
      console.log(
        `issued and stored by one P-256 ledger ${issued.requestsPerSecond.toFixed(0)}/s, ${ratio.toFixed(3)} of trivial, p50 ${issued.p50Ms.toFixed(1)} ms, p99 ${issued.p99Ms.toFixed(1)} ms`,
      );
      await benchList(server);
    } finally {
      await server.runtime.stop();
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function best(load: Parameters<typeof runLoad>[0]): Promise<LoadResult> {
  let found: LoadResult | null = null;
  for (let round = 0; round < 3; round++) {
    const result = await runLoad(load);
    if (!found || result.requestsPerSecond > found.requestsPerSecond) found = result;
  }
  if (!found) throw new Error("nothing measured");
  return found;
}

async function benchList(server: Awaited<ReturnType<typeof startBench>>): Promise<void> {
  for (let from = 0; from < ENTRIES; from += 50_000) await server.get("/fill?n=50000");
  const { pid } = server.runtime.workerd;
  const before = memory(pid, "VmHWM");
  const runs: { ms: number; longestBlockMs: number; entries: number }[] = [];
  for (let round = 0; round < 3; round++) runs.push(JSON.parse(await server.get("/publish")));
  const growth = memory(pid, "VmHWM") - before;
  const [first] = runs;
  if (!first || first.entries !== ENTRIES) throw new Error(`the list has ${first?.entries} entries`);
  const bestMs = Math.min(...runs.map((run) => run.ms));
  const blocked = Math.max(...runs.map((run) => run.longestBlockMs));
  console.log(
    `CRL of ${ENTRIES.toLocaleString("en")} entries, signed, checked and stored: first ${first.ms.toFixed(0)} ms, best ${bestMs.toFixed(0)} ms, peak memory +${growth.toFixed(0)} MB, others wait ${blocked.toFixed(0)} ms at most`,
  );
}
