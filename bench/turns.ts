import { cpuMicros } from "./harness.ts";
import { type Ask, type LoadResult, runLoad } from "./load.ts";

/** One of the cases that a benchmark compares, with the process that serves it. */
export interface Case {
  readonly what: string;
  readonly port: number;
  readonly pid: number;
  readonly asks: readonly Ask[];
}

export interface Measured {
  readonly what: string;
  readonly requestsPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** CPU of the serving process, all threads, per answer. */
  readonly cpuMicros: number;
}

const CONNECTIONS = 32;
const ROUNDS = 3;
/** Length of a case's turn within a round: short turns spread other load evenly over the cases. */
const SLICE_SECONDS = 0.5;

/**
 * Measures all cases in turns, three rounds of `seconds` for each; returns the round with the median rate for each
 * case.
 */
export async function inTurns(cases: readonly Case[], seconds: number): Promise<Measured[]> {
  const rounds: Measured[][] = [];
  for (const { port, asks } of cases) await runLoad({ port, asks, connections: CONNECTIONS, seconds: SLICE_SECONDS });
  for (let round = 0; round < ROUNDS; round++) {
    const slices = cases.map((): Slice[] => []);
    for (let left = seconds; left > 0; left -= SLICE_SECONDS) {
      for (const [at, one] of cases.entries()) slices[at]?.push(await slice(one));
    }
    rounds.push(cases.map(({ what }, at) => ({ what, ...together(slices[at] ?? []) })));
  }
  return cases.map((_, at) => median(rounds.flatMap((round) => round[at] ?? [])));
}

interface Slice extends LoadResult {
  readonly cpu: number;
}

async function slice({ port, pid, asks }: Case): Promise<Slice> {
  const before = cpuMicros(pid);
  const result = await runLoad({ port, asks, connections: CONNECTIONS, seconds: SLICE_SECONDS });
  return { ...result, cpu: cpuMicros(pid) - before };
}

/** Combines slices of equal length; percentiles are the means of the slices' percentiles. */
function together(slices: readonly Slice[]): Omit<Measured, "what"> {
  const sum = (of: (one: Slice) => number) => slices.reduce((total, one) => total + of(one), 0);
  const mean = (of: (one: Slice) => number) => sum(of) / slices.length;
  return {
    requestsPerSecond: mean((one) => one.requestsPerSecond),
    p50Ms: mean((one) => one.p50Ms),
    p99Ms: mean((one) => one.p99Ms),
    cpuMicros: sum((one) => one.cpu) / sum((one) => one.answers),
  };
}

function median(rounds: readonly Measured[]): Measured {
  const ordered = [...rounds].sort((a, b) => a.requestsPerSecond - b.requestsPerSecond);
  const middle = ordered[Math.floor(ordered.length / 2)];
  if (!middle) throw new Error("nothing was measured");
  return middle;
}

/** Prints the cases with each one's ratio to the first. */
export function printTurns(title: string, measured: readonly Measured[]): void {
  const first = measured[0]?.requestsPerSecond ?? Number.NaN;
  const heads = ["per second", "of first", "p50 ms", "p99 ms", "CPU us"].map((head) => head.padStart(11));
  console.log(`\n${title.padEnd(56)}${heads.join("")}`);
  for (const { what, requestsPerSecond, p50Ms, p99Ms, cpuMicros } of measured) {
    const figures = [
      requestsPerSecond.toFixed(0),
      (requestsPerSecond / first).toFixed(2),
      p50Ms.toFixed(2),
      p99Ms.toFixed(1),
      cpuMicros.toFixed(1),
    ];
    console.log(what.padEnd(56) + figures.map((figure) => figure.padStart(11)).join(""));
  }
}
