import { Connection, type HttpAnswer } from "../test/support/connection.ts";

/** A complete HTTP/1.1 request, built in advance, and the check of its answer. */
export interface Ask {
  readonly message: Uint8Array;
  /** Returns what is wrong with an answer; null if it is the expected one. Must be cheap: it runs beside the server. */
  wrong(answer: HttpAnswer): string | null;
}

/** The requests of a load run, sent in turn. */
export interface Load {
  readonly port: number;
  readonly asks: readonly Ask[];
  readonly connections: number;
  readonly seconds: number;
  /** A new connection for each request, as clients need for servers that close after one answer. */
  readonly reconnect?: boolean;
}

export interface LoadResult {
  readonly requestsPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly answers: number;
}

/** Measures with one request in flight on each connection. Throws at the first unexpected or missing answer. */
export async function runLoad(load: Load): Promise<LoadResult> {
  const latencies: number[] = [];
  let turn = 0;
  const began = performance.now();
  const until = began + load.seconds * 1000;
  const worker = async () => {
    let connection = new Connection(load.port);
    try {
      while (performance.now() < until) {
        const ask = load.asks[turn++ % load.asks.length];
        if (!ask) throw new Error("no request to send");
        const startedAt = performance.now();
        if (load.reconnect && latencies.length > 0) {
          connection.close();
          connection = new Connection(load.port);
        }
        const answer = await connection.ask(ask.message);
        latencies.push(performance.now() - startedAt);
        const wrong = ask.wrong(answer);
        if (wrong !== null) throw new Error(`answer ${latencies.length}: ${wrong}`);
      }
    } finally {
      connection.close();
    }
  };
  await Promise.all(Array.from({ length: load.connections }, worker));
  const seconds = (performance.now() - began) / 1000;
  latencies.sort((a, b) => a - b);
  const at = (share: number) =>
    latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? Number.NaN;
  return {
    requestsPerSecond: latencies.length / seconds,
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    answers: latencies.length,
  };
}

/** A request whose answer must be 200 with exactly this body. */
export function exactly(message: Uint8Array, body: string): Ask {
  const expected = Buffer.from(body);
  return {
    message,
    wrong: (answer) => (answer.status === 200 && answer.body.equals(expected) ? null : shown(answer)),
  };
}

/** An answer in short form, for an error message. */
export function shown({ status, body }: HttpAnswer): string {
  return `${status} ${body.subarray(0, 300).toString("latin1")}`;
}
