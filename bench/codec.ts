import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { type Project, readProject } from "../scripts/local/project.ts";
import { type BenchServer, bundle, memory, startBench, timed } from "./harness.ts";

/**
 * The cost of the codecs inside workerd, without signing, against pkijs doing the same job in the same run. Timed from
 * outside, because a clock inside a Worker is unreliable: many operations per request, jobs in turn, best of several
 * rounds.
 */

const WORKER = fileURLToPath(new URL("codec-worker.ts", import.meta.url));
const ROUNDS = 5;
const ROUND_MS = 200;

interface Measured {
  readonly what: string;
  readonly op: string;
  /** The promised maximum in microseconds (null: no promise); the cost must also be at most a twentieth of pkijs's. */
  readonly limit: number | null;
  readonly against: string | null;
}

const MEASURED: readonly Measured[] = [
  { what: "leaf certificate, built without signing", op: "leaf.ours", limit: 25, against: "leaf.pkijs" },
  { what: "OCSP response, built without signing", op: "response.ours", limit: 12, against: "response.pkijs" },
  { what: "OCSP request, parsed", op: "request.ours", limit: 3, against: "request.pkijs" },
  { what: "OCSP request with nonce, parsed", op: "nonce-request.ours", limit: 3, against: "nonce-request.pkijs" },
  { what: "OCSP GET path, decoded and parsed", op: "path.ours", limit: null, against: null },
];

/** Microseconds per operation for each job: the best of several rounds, taken in turn. */
async function measure(server: BenchServer, ops: readonly string[]): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  for (const op of ops) {
    let count = 50;
    for (let spent = 0; spent < ROUND_MS / 2; count *= 2) {
      spent = await timed(() => server.get(`/run?op=${op}&n=${count}`));
    }
    counts.set(op, count);
  }
  const best = new Map<string, number>();
  for (let round = 0; round < ROUNDS; round++) {
    for (const [op, count] of counts) {
      const cost = ((await timed(() => server.get(`/run?op=${op}&n=${count}`))) * 1000) / count;
      best.set(op, Math.min(best.get(op) ?? Number.POSITIVE_INFINITY, cost));
    }
  }
  return best;
}

function print(best: ReadonlyMap<string, number>): void {
  console.log(`${"".padEnd(44)}${"us/op".padStart(9)}${"pkijs".padStart(9)}${"ratio".padStart(8)}  promised`);
  for (const { what, op, limit, against } of MEASURED) {
    const ours = best.get(op) ?? Number.NaN;
    const theirs = against === null ? Number.NaN : (best.get(against) ?? Number.NaN);
    const ratio = theirs / ours;
    const kept = ours <= (limit ?? Number.NaN) && ratio >= 20 ? "kept" : "NOT KEPT";
    const columns = [ours.toFixed(2).padStart(9), theirs.toFixed(1).padStart(9), ratio.toFixed(0).padStart(8)];
    console.log(
      limit === null
        ? `${what.padEnd(44)}${columns[0]}`
        : `${what.padEnd(44)}${columns.join("")}  <= ${limit} us, >= 20 times: ${kept}`,
    );
  }
}

/**
 * Measures one size in a separate process, so that the first list costs what it would in a Worker that has just
 * started.
 */
async function measureCrl(directory: string, script: string, project: Project, count: number): Promise<void> {
  const server = await startBench(directory, script, project);
  try {
    await server.get("/run?op=leaf.ours&n=1");
    const { pid } = server.runtime.workerd;
    const before = memory(pid, "VmHWM");
    let length = "";
    const first = await timed(async () => {
      length = await server.get(`/crl?n=${count}`);
    });
    const growth = memory(pid, "VmHWM") - before;
    let best = first;
    for (let round = 1; round < 3; round++) best = Math.min(best, await timed(() => server.get(`/crl?n=${count}`)));
    const checked = await timed(() => server.get(`/crl?n=${count}&check`));
    console.log(
      `CRL of ${count.toLocaleString("en").padStart(9)} entries, ${(Number(length) / 1e6).toFixed(2).padStart(6)} MB: first ` +
        `${first.toFixed(0)} ms, best ${best.toFixed(0)} ms, with check ${checked.toFixed(0)} ms, peak memory +${growth.toFixed(0)} MB`,
    );
  } finally {
    await server.runtime.stop();
  }
}

/** Prints the table; stores nothing. */
export async function benchCodec(): Promise<void> {
  const directory = mkdtempSync(path.join(tmpdir(), "certctl-bench-"));
  try {
    const compatibilityDate = readProject().worker.compatibilityDate;
    if (compatibilityDate === undefined) throw new Error("wrangler.toml has no compatibility_date");
    const script = await bundle(directory, WORKER, compatibilityDate);
    const worker = { name: "bench-codec", compatibilityDate, modules: true, scriptPath: script };
    const project: Project = { vars: {}, crons: [], worker };
    const server = await startBench(directory, script, project);
    try {
      print(
        await measure(
          server,
          MEASURED.flatMap(({ op, against }) => (against === null ? [op] : [op, against])),
        ),
      );
    } finally {
      await server.runtime.stop();
    }
    console.log(
      "\nSigned, P-256, 51 octets an entry, two passes, in a fresh process each (promised: 1,000,000 in <= 1 s, +128 MB)",
    );
    for (const count of [1_000, 100_000, 1_000_000]) await measureCrl(directory, script, project, count);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
